"""A guest's own firmware maps every BAR in the hole that was planned.

In the place of each passed-through function stands an emulated one with a BAR of the same size.
Without being told, OVMF finds no room for the second of these GPUs.
"""

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from cases import read_case
from hosttree import HostDevice, build_host_tree
from libvirt_driver import LibvirtDriver
from libvirt_trials import trial
from test_guest_firmware import enumerate_by_firmware

from launcher_hook.sysfs import HostTree

OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
SIZES = {"0000:86:00.0": 1 << 36, "0000:86:00.1": 1 << 25,
         "0000:af:00.0": 1 << 36, "0000:af:00.1": 1 << 25}  # fmt: skip


@pytest.mark.parametrize("case", ["hole-auto", "hole-auto-bios"])
def test_firmware_maps_every_bar_in_the_hole(
    case: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    inputs = read_case(case, tmp_path / "case")
    functions = [
        HostDevice(bdf, group=int(bdf[5:7], 16), driver="vfio-pci", bars=(size,))
        for bdf, size in SIZES.items()
    ]
    root = build_host_tree(tmp_path / "sys", functions)
    t = trial(case, replace(inputs, host=HostTree(root)))
    command = emulated(libvirt.qemu_argv(t.ours))
    if b"pflash" in t.ours:
        if not OVMF.exists():
            reason = f"{OVMF} is not installed"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}"]
    names = {p.assignment.alias for p in t.rendered.decision.plan.placements}
    assert len(names) == len(SIZES)
    assert enumerate_by_firmware(command, names).keys() == names


def emulated(arguments: list[str]) -> list[str]:
    """The hole, what OVMF is told, and our ports and devices, of a QEMU command."""
    kept = ["-cpu", "max"]
    for option, value in pairwise(arguments):
        if option == "-fw_cfg" or (option == "-global" and "hole64" in value):
            kept += [option, value]
        elif option == "-device" and value.startswith("{"):
            device = json.loads(value)
            if device["driver"] == "pcie-root-port":
                kept += [option, value]
            elif device["driver"] == "vfio-pci":
                place = {
                    k: device[k] for k in ("id", "bus", "addr", "multifunction") if k in device
                }
                membar = SIZES[device["host"]]
                kept += [option, json.dumps({"driver": "pci-testdev", "membar": membar, **place})]
    return kept
