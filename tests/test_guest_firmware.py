"""A guest's own firmware finds what was planned: the bus numbers behind expander buses fit.

QEMU gets libvirt's own command for the domain's PCI controllers and NUMA cells; in the place of
each passed-through function stands an emulated one.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from libvirt_driver import LibvirtDriver
from nodes import Node, cascade, hgx, sriov, two_sockets
from topology_trials import topology_trial

from launcher_hook.settings import Layout

_CONTROLLERS = (
    "pcie-root-port", "pxb-pcie", "x3130-upstream", "xio3130-downstream", "pcie-pci-bridge",
)  # fmt: skip
_PLACE = ("id", "bus", "addr", "multifunction")
_MEMORY_ONLY = {"disable-legacy": "on"}  # I/O space is too small for so many
_LIMIT_S = 300


@pytest.mark.parametrize(
    ("node", "layout"),
    [(hgx(), "mirror"), (cascade(), "mirror"), (sriov(), "mirror"), (two_sockets(), "numa")],
    ids=lambda value: getattr(value, "name", value),
)
def test_firmware_finds_every_function_where_it_was_planned(
    node: Node, layout: Layout, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    t = topology_trial(node, layout, tmp_path / "sys")
    command = emulated(libvirt.qemu_argv(t.ours))
    plan = t.rendered.decision.plan
    found = enumerate_by_firmware(command, {p.assignment.alias for p in plan.placements})
    lowest = min(c.bus_nr for c in plan.controllers if c.bus_nr is not None)
    slots: dict[int, int] = {}  # bus number in the guest, by the bus in the XML
    for placement in plan.placements:
        place = placement.guest_address
        assert place is not None
        bus, slot, function = found[placement.assignment.alias]
        assert (slot, function) == (place.slot, place.function)
        assert lowest < slots.setdefault(place.bus, bus) == bus
    assert len(set(slots.values())) == len(slots)


def emulated(arguments: list[str]) -> list[str]:
    """The PCI tree of a QEMU command, with nothing that needs a device of the host."""
    kept: list[str] = []
    for option, value in pairwise(arguments):
        is_memory = option == "-object" and "memory-backend" in value
        if option in ("-m", "-smp", "-numa") or is_memory:
            kept += [option, value]
        elif option == "-device" and value.startswith("{"):
            device = json.loads(value)
            if device["driver"] in _CONTROLLERS:
                kept += [option, value]
            elif device["driver"].startswith("vfio-pci"):
                place = {key: device[key] for key in _PLACE if key in device}
                kept += [option, json.dumps({"driver": "virtio-rng-pci", **_MEMORY_ONLY, **place})]
    return kept


def enumerate_by_firmware(arguments: list[str], names: set[str]) -> dict[str, tuple[int, int, int]]:
    """Bus number, slot and function of each device, once the firmware has mapped them all."""
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-display", "none",
               "-nodefaults", "-qmp", "stdio", *arguments]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as qemu:
        try:
            ask(qemu, "qmp_capabilities")
            deadline = time.monotonic() + _LIMIT_S
            while True:
                found = {
                    device["qdev_id"]: (bus, device["slot"], device["function"])
                    for bus, device in walk(ask(qemu, "query-pci"))
                    if device["qdev_id"] in names and is_mapped(device)
                }
                if found.keys() == names:
                    return found
                assert time.monotonic() < deadline, f"the firmware has mapped {sorted(found)} only"
                time.sleep(0.2)
        finally:
            qemu.kill()


def is_mapped(device: dict[str, Any]) -> bool:
    return all(region["address"] > 0 for region in device["regions"])


def walk(buses: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for bus in buses:
        for device in bus["devices"]:
            yield bus["bus"], device
            bridge = device.get("pci_bridge")
            if bridge is not None:
                yield from walk(
                    [{"bus": bridge["bus"]["secondary"], "devices": bridge.get("devices", [])}]
                )


def ask(qemu: "subprocess.Popen[str]", command: str) -> Any:
    assert qemu.stdin is not None
    assert qemu.stdout is not None
    qemu.stdin.write(json.dumps({"execute": command}) + "\n")
    qemu.stdin.flush()
    for line in qemu.stdout:
        answer = json.loads(line)
        if "return" in answer:
            return answer["return"]
        assert "error" not in answer, answer
    raise AssertionError("QEMU ended")
