"""A guest's own firmware finds what was planned: the bus numbers behind expander buses fit."""

from pathlib import Path

import pytest
from guest_firmware import emulated, enumerate_by_firmware, find_ovmf
from libvirt_driver import LibvirtDriver
from nodes import Node, cascade, hgx, sriov, two_sockets
from topology_trials import topology_trial

from launcher_hook.settings import Layout

NODES = [(hgx(), "mirror"), (cascade(), "mirror"), (sriov(), "mirror"), (two_sockets(), "numa")]


@pytest.mark.parametrize("firmware", ["SeaBIOS", "OVMF of trixie"])
@pytest.mark.parametrize(("node", "layout"), NODES, ids=lambda value: getattr(value, "name", value))
def test_firmware_finds_every_function_where_it_was_planned(
    node: Node, layout: Layout, firmware: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    code = find_ovmf("trixie") if firmware != "SeaBIOS" else None
    t = topology_trial(node, layout, tmp_path / "sys")
    command = emulated(libvirt.qemu_argv(t.ours))
    plan = t.rendered.decision.plan
    names = {p.assignment.alias for p in plan.placements}
    found = enumerate_by_firmware(command, names, code)
    lowest = min(c.bus_nr for c in plan.controllers if c.bus_nr is not None)
    slots: dict[int, int] = {}  # bus number in the guest, by the bus in the XML
    for placement in plan.placements:
        place = placement.guest_address
        assert place is not None
        bus, slot, function = found[placement.assignment.alias]
        assert (slot, function) == (place.slot, place.function)
        assert lowest < slots.setdefault(place.bus, bus) == bus
    assert len(set(slots.values())) == len(slots)
