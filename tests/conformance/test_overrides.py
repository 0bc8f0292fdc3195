"""An override reaches the device that it was written for, whatever that is called afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest
from cases import read_case
from libvirt_driver import LibvirtDriver, LibvirtRefusedError, for_this_machine
from libvirt_trials import trial


def marks(arguments: list[str]) -> dict[str, int]:
    """The marks that overrides put on devices of a QEMU command, by device."""
    devices: list[dict[str, Any]] = [json.loads(a) for a in arguments if a.startswith('{"driver":')]
    return {
        device.get("host") or device.get("sysfsdev") or device["driver"]: device["x-mark"]
        for device in devices
        if "x-mark" in device
    }


@pytest.mark.parametrize("passes", [1, 2])
def test_each_device_keeps_the_override_that_names_it(
    passes: int, driver: LibvirtDriver, tmp_path: Path
) -> None:
    """libvirt itself counts which device is hostdev0, in the domain without us and in ours."""
    t = trial("override-follows-aliases", read_case("override-follows-aliases", tmp_path))
    (answer,) = driver.qemu_argv_all([for_this_machine(t.inputs.domain_xml)])
    if isinstance(answer, LibvirtRefusedError):
        assert "not supported by the host" in str(answer)  # 12.8 looks for an IOMMU here already
        pytest.skip(str(answer))
    plain = marks(answer)
    assert len(plain) == 7
    for _ in range(passes - 1):
        t = t.next(t.ours)
    assert marks(driver.qemu_argv(t.ours)) == plain
