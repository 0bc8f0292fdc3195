"""How far apart functions are, on the node and in the guest."""

from itertools import product

import pytest
from apart import Seen, apart
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.distance import (
    Position,
    distance,
    find_changed,
    guest_positions,
    host_position,
    matrix,
)
from launcher_hook.model import (
    Assignment,
    GuestController,
    GuestTopology,
    HostFunction,
    Machine,
    Placement,
    PlannedController,
)
from launcher_hook.pci import PciAddress


def address(bdf: str) -> PciAddress:
    return PciAddress.parse(bdf)


def at(bdf: str, *bridges: str, numa: int | None = 0) -> Position:
    """Where a function of the host is."""
    above = tuple(address(bridge) for bridge in bridges)
    return host_position(HostFunction(address(bdf), numa_node=numa, bridges=above))


GPU = at("0000:18:00.0", "0000:15:01.0", "0000:16:00.0", "0000:17:00.0")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param(
            at("0000:18:00.1", "0000:15:01.0", "0000:16:00.0", "0000:17:00.0"), "PIX", id="slot"
        ),
        pytest.param(
            at("0000:19:00.0", "0000:15:01.0", "0000:16:00.0", "0000:17:01.0"), "PIX", id="switch"
        ),
        pytest.param(
            at("0000:1e:00.0", "0000:15:01.0", "0000:16:00.0", "0000:17:02.0", "0000:1c:00.0",
               "0000:1d:00.0"), "PXB", id="a switch behind the switch",
        ),
        pytest.param(at("0000:16:00.1", "0000:15:01.0"), "PXB", id="beside the switch"),
        pytest.param(at("0000:25:00.0", "0000:15:03.0"), "PHB", id="next root port"),
        pytest.param(at("0000:15:05.0"), "PHB", id="on the root bus itself"),
        pytest.param(at("0000:38:00.0", "0000:37:01.0"), "NODE", id="next host bridge"),
        pytest.param(at("0001:16:00.0", "0001:15:01.0"), "NODE", id="same bus, another domain"),
        pytest.param(at("0000:98:00.0", "0000:97:01.0", numa=1), "SYS", id="next socket"),
        pytest.param(at("0000:98:00.0", "0000:97:01.0", numa=None), "SYS", id="unknown socket"),
    ],
)  # fmt: skip
def test_what_is_between_two_functions_says_how_far_apart_they_are(
    other: Position, expected: str
) -> None:
    assert distance(GPU, other) == distance(other, GPU) == expected


def test_functions_of_one_slot_of_a_root_bus_are_one_device() -> None:
    assert at("0000:00:02.1") == Position((0, 0), 0, (address("0000:00:02.0"),))
    assert distance(at("0000:00:02.0"), at("0000:00:02.1")) == "PIX"
    assert distance(at("0000:00:02.0"), at("0000:00:03.0")) == "PHB"


def test_nodes_that_say_no_numa_node_are_one() -> None:
    assert distance(
        at("0000:01:00.0", "0000:00:01.0", numa=None), at("0000:41:00.0", numa=None)
    ) == ("NODE")


def guest(
    places: list[str], planned: list[PlannedController], there: list[GuestController] | None = None
) -> list[Position | None]:
    placements = [
        Placement(
            Assignment(address(f"0000:{n:02x}:00.0"), f"ua-{n}", "test"), address(p), False, ""
        )
        for n, p in enumerate(places)
    ]
    topology = GuestTopology(
        Machine.Q35, "q35", {c.index: c for c in there or ()}, {}, waiting=0, waiting_on_root=0
    )
    return list(guest_positions(placements, planned, topology).values())


def test_a_guest_position_goes_up_through_planned_and_present_controllers() -> None:
    (one, other) = guest(
        ["0000:1b:00.0", "0000:02:00.0"],
        [
            PlannedController(24, "pcie-expander-bus", address("0000:00:10.0"), bus_nr=252, node=1),
            PlannedController(25, "pcie-root-port", address("0000:18:00.0")),
            PlannedController(26, "pcie-switch-upstream-port", address("0000:19:00.0")),
            PlannedController(27, "pcie-switch-downstream-port", address("0000:1a:03.0")),
        ],
        [GuestController(2, "pcie-root-port", address("0000:00:02.1"))],
    )
    above = ("0000:18:00.0", "0000:19:00.0", "0000:1a:03.0")
    assert one == Position((0, 24), 1, tuple(map(address, above)))
    assert other == Position((0, 0), None, (address("0000:00:02.1"),))


def test_a_device_on_a_guests_root_or_expander_bus_is_under_its_own_slot() -> None:
    expander = PlannedController(24, "pcie-expander-bus", address("0000:00:10.0"), node=1)
    assert guest(["0000:00:08.3", "0000:18:04.2"], [expander]) == [
        Position((0, 0), None, (address("0000:00:08.0"),)),
        Position((0, 24), 1, (address("0000:18:04.0"),)),
    ]


def test_a_device_that_libvirt_places_has_no_position() -> None:
    topology = GuestTopology(Machine.Q35, "q35", {}, {}, waiting=0, waiting_on_root=0)
    placement = Placement(Assignment(address("0000:18:00.0"), "ua-0", "test"), None, False, "")
    assert guest_positions([placement], [], topology) == {"ua-0": None}


def test_a_position_that_libvirt_decides_is_not_known() -> None:
    assert guest(
        ["0000:05:00.0", "0000:06:00.0"], [], [GuestController(6, "pcie-root-port", None)]
    ) == ([None, None])


def test_controllers_that_sit_on_each_other_have_no_position() -> None:
    circle = [
        GuestController(5, "pcie-root-port", address("0000:06:00.0")),
        GuestController(6, "pcie-root-port", address("0000:05:00.0")),
    ]
    assert guest(["0000:05:00.0"], [], circle) == [None]


def test_a_matrix_has_an_x_for_itself_and_nothing_for_what_is_not_known() -> None:
    other = at("0000:25:00.0", "0000:15:03.0")
    assert matrix([GPU, None, other]) == [
        ["X", None, "PHB"],
        [None, "X", None],
        ["PHB", None, "X"],
    ]


chains = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(
    # A bridge's address tells the whole way to it, as bus numbers do.
    lambda steps: tuple(
        PciAddress(0, sum(s * 3**i for i, s in enumerate(steps[:n])), steps[n], n)
        for n in range(len(steps))
    )
)
positions = st.builds(
    Position, st.tuples(st.just(0), st.integers(0, 1)), st.sampled_from([None, 0, 1]), chains
)


def seen(position: Position) -> Seen:
    steps = (*map(str, position.bridges), f"{position.bridges}.0")
    return Seen(str(position.node), str(position.root), steps)


@given(positions, positions)
def test_it_is_what_the_tests_own_reckoning_says(one: Position, other: Position) -> None:
    if one != other:
        assert distance(one, other) == apart(seen(one), seen(other))


@given(st.lists(st.tuples(positions, positions), min_size=2, max_size=9))
def test_every_changed_pair_is_named_and_no_other(pairs: list[tuple[Position, Position]]) -> None:
    names = [f"d{n}" for n in range(len(pairs))]
    host = dict(zip(names, (h for h, _ in pairs), strict=True))
    in_guest = dict(zip(names, (g for _, g in pairs), strict=True))
    changed = list(find_changed(host, in_guest))
    # Devices with the same two positions stand for each other.
    kept = {pair: name for name, pair in reversed(list(zip(names, pairs, strict=True)))}.values()
    wanted = {
        frozenset((a, b))
        for a, b in product(kept, kept)
        if a < b and distance(host[a], host[b]) != distance(in_guest[a], in_guest[b])
    }
    assert {frozenset(text.split(" are ")[0].split(" and ")) for text in changed} == wanted
    assert len(changed) == len(wanted)
