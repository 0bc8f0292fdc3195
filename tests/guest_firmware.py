"""Has a guest's own firmware look at what was planned, without a device of the host.

QEMU gets libvirt's own command for the domain's PCI controllers, NUMA cells and hole; in the place
of each passed-through function stands an emulated one.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import ovmf
import pytest

_CONTROLLERS = (
    "pcie-root-port", "pxb-pcie", "x3130-upstream", "xio3130-downstream", "pcie-pci-bridge",
)  # fmt: skip
_PLACE = ("id", "bus", "addr", "multifunction")
_MEMORY_ONLY = {"disable-legacy": "on"}  # I/O space is too small for so many
_LIMIT_S = 600


def find_ovmf(suite: str = "") -> Path:
    """The code of a Debian suite's OVMF, or of this machine's."""
    code = ovmf.code_of(suite) if suite else ovmf.OF_THE_MACHINE
    if not code.exists():
        reason = f"{code} is not there: make setup" if suite else f"{code} is not installed"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return code


def emulated(arguments: list[str], bars: Mapping[str, int] | None = None) -> list[str]:
    """The PCI tree of a QEMU command, its memory and hole, with nothing of the host.

    Args:
        arguments: The command that libvirt has made.
        bars: Size of the BAR that a function is to have, by its host address; without it, small.
    """
    kept: list[str] = []
    for option, value in pairwise(arguments):
        # Of cells; the other is the machine's own, which its -machine names.
        is_memory = option == "-object" and "memory-backend" in value and "pc.ram" not in value
        is_hole = option == "-global" and "hole64" in value
        if option in ("-m", "-smp", "-numa", "-fw_cfg") or is_memory or is_hole:
            kept += [option, value]
        elif option == "-device" and value.startswith("{"):
            device = json.loads(value)
            if device["driver"] in _CONTROLLERS:
                kept += [option, value]
            elif device["driver"].startswith("vfio-pci"):
                place = {key: device[key] for key in _PLACE if key in device}
                model: dict[str, Any] = {"driver": "virtio-rng-pci", **_MEMORY_ONLY}
                if bars is not None:
                    model = {"driver": "pci-testdev", "membar": bars[device["host"]]}
                kept += [option, json.dumps({**model, **place})]
    return kept


def enumerate_by_firmware(
    arguments: list[str], names: set[str], code: Path | None = None
) -> dict[str, tuple[int, int, int]]:
    """Bus number, slot and function of each device, once the firmware has mapped them all.

    Args:
        arguments: Of QEMU.
        names: The devices' ids.
        code: The code of an OVMF; without it, QEMU's own SeaBIOS.
    """
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max",
               "-display", "none", "-nodefaults", "-qmp", "stdio", *arguments]  # fmt: skip
    if code is not None:
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
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
