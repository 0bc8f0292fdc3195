"""The guest's NUMA cells as a domain has them."""

import pytest
from topology_trials import two_cells

from launcher_hook.domain.document import parse_domain
from launcher_hook.domain.numa import read_numa
from launcher_hook.errors import InputError
from launcher_hook.model import GuestNuma


def read(inner: str) -> GuestNuma:
    return read_numa(parse_domain(f"<domain>{inner}</domain>".encode()).getroot(), "vm.xml")


def test_cells_and_their_binding_are_read() -> None:
    numa = read_numa(parse_domain(two_cells()).getroot())
    assert numa.cells == {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
    assert numa.memory_nodes == {0: {0}, 1: {1}}


def test_pins_are_read() -> None:
    numa = read('<cputune><vcpupin vcpu="0" cpuset="0"/><vcpupin vcpu="3" cpuset="8-9"/></cputune>')
    assert numa.pins == {0: {0}, 3: {8, 9}}


def test_cells_without_a_number_count_from_0() -> None:
    numa = read('<cpu><numa><cell cpus="0"/><cell cpus="1"/></numa></cpu>')
    assert numa.cells == {0: {0}, 1: {1}}


def test_a_cell_may_have_memory_only() -> None:
    assert read('<cpu><numa><cell id="2" memory="1"/></numa></cpu>').cells == {2: frozenset()}


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ('<cpu><numa><cell id="x" cpus="0"/></numa></cpu>', "cell/@id: 'x' is not a number"),
        ('<cpu><numa><cell cpus="3-1"/></numa></cpu>', "cell/@cpus: '3-1' runs backwards"),
        ('<numatune><memnode nodeset="0"/></numatune>', "memnode/@cellid: '' is not a number"),
        (
            '<numatune><memnode cellid="0" nodeset="a"/></numatune>',
            "memnode/@nodeset: 'a' is no list of numbers; write e.g. 0-3,8",
        ),
        ('<cputune><vcpupin vcpu="0" cpuset="?"/></cputune>', "vcpupin/@cpuset: '.' is no list"),
    ],
)
def test_what_libvirt_would_not_take_is_refused_where_it_stands(inner: str, message: str) -> None:
    with pytest.raises(InputError, match=f"vm.xml:1: {message}"):
        read(inner)
