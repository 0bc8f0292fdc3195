"""A guest's own firmware maps every BAR in the hole that was planned.

In the place of each passed-through function stands an emulated one with a BAR of the same size.
Without being told, OVMF finds no room for the second of two GPUs with 64 GiB. Of four it leaves one
out where what it keeps in each of the guest's ports is not counted.
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

from launcher_hook.env import parse_allocations
from launcher_hook.render import Inputs
from launcher_hook.sizes import GIB, MIB
from launcher_hook.sysfs import HostTree
from launcher_hook.windows import windows_of

OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
BUSES = ("86", "af", "b0", "b1", "b2", "b3", "b4", "b5")


@pytest.mark.parametrize(
    ("case", "gpus", "size"),
    [("hole-auto", 2, 64 * GIB), ("hole-auto", 4, 16 * GIB), ("hole-auto-bios", 2, 64 * GIB)],
    ids=["OVMF, 2 GPUs", "OVMF, 4 GPUs", "SeaBIOS, 2 GPUs"],
)
def test_firmware_maps_every_bar_in_the_hole(
    case: str, gpus: int, size: int, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    sizes = {
        f"0000:{bus}:00.{function}": bar
        for bus in BUSES[:gpus]
        for function, bar in enumerate((size, 32 * MIB))
    }
    t = trial(case, with_gpus(read_case(case, tmp_path / "case"), sizes, tmp_path / "sys"))
    arguments = libvirt.qemu_argv(t.ours)
    command = emulated(arguments, sizes)
    if b"pflash" in t.ours:
        if not OVMF.exists():
            reason = f"{OVMF} is not installed"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}"]
    names = {p.assignment.alias for p in t.rendered.decision.plan.placements}
    assert len(names) == len(sizes)
    decision = t.rendered.decision
    ports = windows_of(decision.plan, decision.topology, {}).ports
    assert len(ports) == sum("pcie-root-port" in argument for argument in arguments)
    assert enumerate_by_firmware(command, names).keys() == names


def with_gpus(inputs: Inputs, sizes: dict[str, int], root: Path) -> Inputs:
    """A case with other GPUs, on a node that has them."""
    functions = [
        HostDevice(bdf, group=int(bdf[5:7], 16), driver="vfio-pci", bars=(size,))
        for bdf, size in sizes.items()
    ]
    (variable,) = inputs.allocations
    gpus = ",".join(bdf for bdf in sizes if bdf.endswith(".0"))
    return replace(
        inputs,
        allocations=parse_allocations({variable: gpus}),
        host=HostTree(build_host_tree(root, functions)),
    )


def emulated(arguments: list[str], sizes: dict[str, int]) -> list[str]:
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
                membar = sizes[device["host"]]
                kept += [option, json.dumps({"driver": "pci-testdev", "membar": membar, **place})]
    return kept
