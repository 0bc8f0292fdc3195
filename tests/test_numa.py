"""Which guest NUMA cell a host NUMA node is: KubeVirt's rules."""

import pytest

from launcher_hook.cpuset import parse_cpuset
from launcher_hook.model import GuestNuma
from launcher_hook.numa import find_cell

CELLS = {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
CPUS = {0: frozenset(range(16)), 1: frozenset(range(16, 32))}


def numa(
    memory: dict[int, set[int]] | None = None, pins: dict[int, set[int]] | None = None
) -> GuestNuma:
    return GuestNuma(
        CELLS,
        {cell: frozenset(nodes) for cell, nodes in (memory or {}).items()},
        {vcpu: frozenset(cpus) for vcpu, cpus in (pins or {}).items()},
    )


def test_the_memory_binding_decides() -> None:
    assert find_cell(1, numa({0: {1}, 1: {0}}, {0: {16}}), CPUS) == 0
    assert find_cell(0, numa({0: {1}, 1: {0}}, {0: {16}}), CPUS) == 1


def test_a_cell_may_be_bound_to_several_nodes() -> None:
    assert find_cell(1, numa({0: {0, 1}}), CPUS) == 0


def test_a_node_of_several_cells_is_decided_by_the_first_of_its_cpus_that_is_pinned() -> None:
    both = {0: {0}, 1: {0}}
    assert find_cell(0, numa(both, {5: {3}, 0: {8}}), CPUS) == 1
    assert find_cell(0, numa(both), CPUS) is None


def test_without_a_binding_the_pinned_cpus_decide() -> None:
    assert find_cell(1, numa(pins={0: {0}, 4: {17, 18}}), CPUS) == 1


def test_of_two_vcpus_on_one_cpu_the_later_one_counts() -> None:
    assert find_cell(0, numa(pins={0: {2}, 4: {2}}), CPUS) == 1


@pytest.mark.parametrize(
    "guest",
    [
        GuestNuma(),
        numa({0: {0}}),
        numa({7: {1}}),  # no such cell
        numa(pins={0: {0}}),
        numa(pins={77: {17}}),  # no such vCPU
    ],
)
def test_a_node_that_the_guest_has_no_part_of_has_no_cell(guest: GuestNuma) -> None:
    assert find_cell(1, guest, CPUS) is None


def test_a_node_whose_cpus_are_not_known_has_no_cell() -> None:
    assert find_cell(1, numa(pins={0: {17}}), {}) is None


def test_vcpus_pinned_to_every_cpu_do_not_add_up() -> None:
    """3,000 vCPUs on any of 65,536 CPUs: the last of them that is in a cell decides."""
    every = parse_cpuset("0-65535")
    many = GuestNuma(CELLS, pins=dict.fromkeys(range(3000), every))
    assert find_cell(1, many, {1: every}) is None  # vCPU 2999, of no cell, has them all
    within = GuestNuma({**CELLS, 9: frozenset({2999})}, pins=many.pins)
    assert find_cell(1, within, {1: every}) == 9
