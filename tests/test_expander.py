"""Expander buses and switches: indexes, bus numbers, places, and where there are none left."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodeplans import GPUS, PORT, Q35, address, function, plan, tree

from launcher_hook.distance import distance, guest_positions, host_positions
from launcher_hook.errors import PlanError
from launcher_hook.model import GuestController, HostFacts, HostFunction, PlannedController
from launcher_hook.pci import PciAddress
from launcher_hook.settings import Layout


def test_more_ports_than_slots_share_slots() -> None:
    functions = [
        function(f"0000:{n:02x}:00.0", f"0000:00:{n % 32:02x}.{n // 32}") for n in range(1, 40)
    ]
    planned = plan(functions, "numa")
    ports = [c for c in planned.controllers if c.model == "pcie-root-port"]
    assert str(ports[31].address) == "0000:18:1f.0"
    assert str(ports[32].address) == "0000:18:00.1"
    assert [c.multifunction for c in ports[:8]] == [True] * 7 + [False]


def test_too_many_buses_are_refused_with_what_to_do() -> None:
    functions = [
        function(f"0000:{n:02x}:00.0", f"0000:00:{n % 32:02x}.{n // 32}") for n in range(1, 220)
    ]
    with pytest.raises(
        PlanError,
        match="layout: NUMA cell 0: the guest has no bus numbers for the buses behind it; attach "
        "fewer devices, or write layout: root-port",
    ):
        plan(functions, "numa")


@pytest.mark.parametrize(("there", "fits"), [(221, True), (222, False)])
def test_32_buses_stay_free_below_an_expander_bus(there: int, fits: bool) -> None:
    ports = {
        n: GuestController(n, "pcie-switch-downstream-port", PciAddress(0, 1, n % 32, n // 32))
        for n in range(1, there + 1)
    }
    topology = replace(Q35, controllers=ports, waiting=0)
    if fits:
        assert tree(plan(GPUS[:1], "numa", topology))[0] == "222 expander-bus 00:10.0 254@0"
    else:
        with pytest.raises(PlanError, match="has no bus numbers for the buses behind it"):
            plan(GPUS[:1], "numa", topology)


def test_ports_up_to_a_pin_count_below_an_expander_bus_too() -> None:
    with pytest.raises(PlanError, match="has no bus numbers for the buses behind it"):
        plan(GPUS, "numa", slots={"0000:17:00.0": address("0000:e0:00.0")})


@pytest.mark.parametrize("waiting", [8, 24, 25])
def test_a_tree_that_is_deeper_than_there_are_buses_is_refused(waiting: int) -> None:
    # Each switch has a device and the next switch behind it.
    functions, above = [], [PORT]
    for n in range(90):
        up, down, side = (f"0001:{(n * 2 + k) % 256:02x}:{n // 128:02x}.0" for k in (0, 1, 1))
        functions.append(function(f"0002:{n:02x}:00.0", *above, up, side.replace(".0", ".1")))
        above += [up, down]
    with pytest.raises(
        PlanError,
        match="^layout: host root complex pci0000:15: the guest has no controller index left: "
        "libvirt's highest is 255; attach fewer devices, or write layout: root-port$",
    ):
        plan(functions, "mirror", replace(Q35, waiting=waiting))


def test_more_ports_than_one_bus_can_have_are_refused() -> None:
    functions = [function(f"{n:04x}:01:00.0", f"{n:04x}:00:01.0") for n in range(300)]
    with pytest.raises(PlanError, match="layout: NUMA cell 0: the guest has no controller index"):
        plan(functions, "numa")


def test_a_root_bus_without_a_free_slot_is_refused() -> None:
    taken = {PciAddress(0, 0, slot, 0): f"disk {slot}" for slot in range(1, 32)}
    with pytest.raises(PlanError, match="has no slot on bus 0 for the expander bus"):
        plan(GPUS, "numa", replace(Q35, taken=taken))


@st.composite
def nodes(draw: st.DrawFn) -> list[HostFunction]:
    """PCIe trees: host bridges, root ports, switches within switches, a function at each leaf."""
    functions: list[HostFunction] = []
    numbers = iter(range(1, 250))

    def below(chain: tuple[PciAddress, ...], numa: int | None, depth: int) -> None:
        bus = next(numbers)
        if depth == 0 or draw(st.booleans()):
            for n in range(draw(st.integers(1, 2))):
                functions.append(
                    HostFunction(PciAddress(0, bus, 0, n), numa_node=numa, bridges=chain)
                )
            return
        up = PciAddress(0, bus, 0, 0)
        inside = next(numbers)
        for slot in range(draw(st.integers(1, 3))):
            below((*chain, up, PciAddress(0, inside, slot, 0)), numa, depth - 1)

    for domain in range(draw(st.integers(1, 3))):
        numa = draw(st.sampled_from([0, 1]))
        for slot in range(draw(st.integers(1, 2))):
            below((PciAddress(domain, 0, slot, 0),), numa, draw(st.integers(0, 2)))
    return functions


@given(nodes())
def test_a_mirrored_guest_has_every_distance_of_the_node(functions: list[HostFunction]) -> None:
    planned = plan(functions, "mirror", strict=True)
    facts = HostFacts(True, {f.address: f for f in functions})
    host = host_positions([p.assignment for p in planned.placements], facts)
    guest = guest_positions(planned.placements, planned.controllers, Q35)
    for one in host:
        for other in host:
            if one != other:
                there, here = (host[one], host[other]), (guest[one], guest[other])
                assert None not in (*there, *here)
                assert distance(*there) == distance(*here)  # type: ignore[arg-type]
                # A layout for which it holds already needs no cells: node for node.
    check_buses(planned.controllers)


@given(nodes(), st.sampled_from(["numa", "mirror"]))
def test_every_bus_has_a_number_of_its_own(functions: list[HostFunction], layout: Layout) -> None:
    planned = plan(functions, layout)
    check_buses(planned.controllers)
    used = [p.guest_address for p in planned.placements]
    assert len(set(used)) == len(used)


def check_buses(planned: Sequence[PlannedController]) -> None:
    """Firmware numbers what is behind an expander bus from its number on, depth first."""
    places_used = [c.address for c in planned]
    assert len(set(places_used)) == len(planned)
    end = 256
    for expander in (c for c in planned if c.model == "pcie-expander-bus"):
        behind, level = 0, {expander.index}
        while level:
            level = {c.index for c in planned if c.address and c.address.bus in level}
            behind += len(level)
        assert expander.bus_nr is not None
        assert expander.bus_nr + behind < end
        end = expander.bus_nr
    assert all(c.address is not None and (c.address.bus < c.index) for c in planned), (
        "what is above comes first"
    )
