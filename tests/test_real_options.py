"""The hole and options of devices in libvirt's hands: read back, made a command, three passes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cases import read_case
from launcher_passes import next_pass
from libvirt_driver import LibvirtDriver, for_this_machine, vfio_devices
from libvirt_trials import trial
from lxml import etree

from launcher_hook.config import read_settings

HOLES = {
    "hole-auto": ("q35-pcihost.pci-hole64-size=536870912K", "524288"),
    "hole-auto-rom": ("q35-pcihost.pci-hole64-size=536870912K", "524288"),
    "hole-auto-bios": ("q35-pcihost.pci-hole64-size=537919488K", None),
    "hole-enough": (None, None),
    "hole-of-a-size": ("q35-pcihost.pci-hole64-size=268435456K", "262144"),
    "hole-told-already": ("q35-pcihost.pci-hole64-size=268435456K", "262144"),
    "hole-told-by-others": ("q35-pcihost.pci-hole64-size=268435456K", "65536"),
}


def hole_and_firmware(arguments: list[str]) -> tuple[str | None, str | None]:
    """What a QEMU command says of both; each may be there once."""
    holes = [argument for argument in arguments if "pci-hole64-size" in argument]
    name = "name=opt/ovmf/X-PciMmio64Mb,string="
    told = [argument for argument in arguments if "X-PciMmio64Mb" in argument]
    assert len(holes) < 2
    assert len(told) < 2
    assert all(arguments[arguments.index(argument) - 1] == "-fw_cfg" for argument in told)
    return (holes[0] if holes else None, told[0].removeprefix(name) if told else None)


def devices(arguments: list[str]) -> dict[str, dict[str, Any]]:
    return {device["id"]: device for device in vfio_devices(arguments)}


@pytest.mark.parametrize(("name", "said"), HOLES.items(), ids=HOLES.keys())
def test_qemu_is_told_of_the_hole_once(
    name: str, said: tuple[str | None, str | None], libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    t = trial(name, read_case(name, tmp_path))
    assert hole_and_firmware(libvirt.qemu_argv(t.ours)) == said


@pytest.mark.parametrize("keeps_commandline", [True, False], ids=["kept", "gone"])
@pytest.mark.parametrize("name", [*HOLES, "device-options", "override-of-others"])
def test_three_passes_end_in_the_same_command(
    name: str, keeps_commandline: bool, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    t = trial(name, read_case(name, tmp_path))
    first = libvirt.qemu_argv(t.ours)
    for spare_ports in (0, 3):
        keeps = keeps_commandline or spare_ports == 0
        answer = libvirt.read_back(t.ours)
        t = t.next(next_pass(t.ours, answer, spare_ports, keeps_commandline=keeps))
        arguments = libvirt.qemu_argv(t.ours)
        assert ours_of(arguments) == ours_of(first)
        # Where the launcher drops somebody else's size, nobody is in the way of ours.
        if keeps or name != "hole-told-by-others":
            assert hole_and_firmware(arguments) == hole_and_firmware(first)
        assert t.next(t.rendered.xml).rendered.xml == t.rendered.xml


def ours_of(arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Our devices as QEMU gets them, without what others override, which a launcher drops."""
    return {
        alias: {key: value for key, value in device.items() if key != "x-pci-sub-device-id"}
        for alias, device in devices(arguments).items()
    }


def test_what_is_asked_of_a_device_reaches_qemu(libvirt: LibvirtDriver, tmp_path: Path) -> None:
    t = trial("device-options", read_case("device-options", tmp_path))
    found = devices(libvirt.qemu_argv(t.ours))
    gpu, audio = found["ua-gpu-gpu0"], found["ua-pci-0000-86-00-1"]
    assert {key: gpu[key] for key in ("romfile", "rombar", "bootindex", "x-vga")} == {
        "romfile": "/var/run/roms/tu106.rom",
        "rombar": 1,
        "bootindex": 7,
        "x-vga": True,
    }
    assert gpu["x-nv-gpudirect-clique"] == 3
    assert audio["rombar"] == 0
    others = [key for device in found.values() if device not in (gpu, audio) for key in device]
    assert {"romfile", "rombar", "bootindex", "x-vga"}.isdisjoint(others)


def test_an_override_of_others_is_kept(libvirt: LibvirtDriver, tmp_path: Path) -> None:
    t = trial("override-of-others", read_case("override-of-others", tmp_path))
    xml = t.ours.replace(b'<qemu:device alias="ua-other"/>', b"")  # no such device
    gpu = devices(libvirt.qemu_argv(xml))["ua-gpu-gpu0"]
    assert (gpu["x-pci-sub-device-id"], gpu["x-nv-gpudirect-clique"]) == (1, 1)


@pytest.mark.parametrize(("machine", "host"), [("pc", "i440FX-pcihost"), ("q35", "q35-pcihost")])
def test_each_machine_has_its_hole_on_its_own_root(
    machine: str, host: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    inputs = read_case("hole-auto", tmp_path)
    domain = etree.fromstring(inputs.domain_xml)
    domain.find("os/type").set("machine", machine)
    for root in domain.xpath("devices/controller[@model='pcie-root']"):
        root.getparent().remove(root)
    t = trial(machine, replace(inputs, domain_xml=etree.tostring(domain)))
    # On the root bus of i440fx, no bridge rounds the second GPU's BARs up.
    size = {"pc": 258, "q35": 512}[machine] * 1024 * 1024
    hole, _ = hole_and_firmware(libvirt.qemu_argv(t.ours))
    assert hole == f"{host}.pci-hole64-size={size}K"


def test_a_vgpus_screen_reaches_qemu(libvirt: LibvirtDriver, tmp_path: Path) -> None:
    inputs = read_case("mdev-adopted", tmp_path)
    uuid = etree.fromstring(inputs.domain_xml).xpath("string(//hostdev//address/@uuid)")
    asked = {"devices": {uuid: {"display": "on", "ramfb": "on"}}}
    settings = read_settings(("f", json.dumps(asked).encode()))
    t = trial("mdev", replace(inputs, settings=settings))
    text = " ".join(libvirt.qemu_argv(for_this_machine(t.rendered.xml)))
    assert '"driver":"vfio-pci-nohotplug"' in text
    assert '"display":"on","ramfb":true' in text
