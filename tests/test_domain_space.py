"""What a domain says of its guest's address space."""

import pytest
from lxml import etree

from launcher_hook.domain.space import read_space
from launcher_hook.mmio import AddressSpace
from launcher_hook.sizes import GIB, MIB


def space(inside: str) -> AddressSpace:
    return read_space(etree.fromstring(f"<domain type='kvm'>{inside}</domain>"))


def test_of_an_empty_domain_nothing_is_known() -> None:
    assert space("") == AddressSpace()


@pytest.mark.parametrize(
    ("firmware", "is_uefi"),
    [
        ("<os firmware='efi'/>", True),
        ("<os><loader type='pflash'>/x</loader></os>", True),
        ("<os><loader type='rom'>/x</loader></os>", False),
        ("<os><loader type='rom'>/usr/share/OVMF/OVMF.amdsev.fd</loader></os>", True),
        ("<os><loader type='rom'> /usr/share/qemu/edk2-x86_64-code.fd </loader></os>", True),
        ("<os><loader>/usr/share/qemu/ovmf-x86_64-sev.bin</loader></os>", True),
        ("<os><loader type='rom'>/opt/edk2/bios-256k.bin</loader></os>", False),
        ("<os><loader type='rom'/></os>", False),
        ("<launchSecurity type='sev-snp'/>", True),
        ("<launchSecurity type='tdx'/>", True),
        ("<launchSecurity type='sev'/>", False),
        ("<os firmware='bios'/>", False),
    ],
)
def test_ovmf_is_known_by_its_loader(firmware: str, is_uefi: bool) -> None:
    assert space(firmware).is_uefi is is_uefi


@pytest.mark.parametrize(
    ("cpu", "bits"),
    [
        ("<cpu><maxphysaddr mode='emulate' bits='42'/></cpu>", 42),
        ("<cpu><maxphysaddr mode='passthrough'/></cpu>", None),
        ("<cpu><maxphysaddr mode='passthrough' limit='46'/></cpu>", 46),
        ("<cpu><maxphysaddr mode='emulate' bits='x'/></cpu>", None),
        ("<os><type machine='pc-q35-9.2'/></os>", 40),
        ("<os><type machine='pc-q35-9.2'/></os><cpu mode='host-model'/>", 40),
        ("<os><type machine='pc-q35-9.2'/></os><cpu mode='host-passthrough'/>", None),
        ("<os><type machine='pc-q35-9.2'/></os><cpu mode='maximum'/>", None),
        ("<os><type machine='pc-q35-rhel9.6.0'/></os>", None),
        ("<os><type machine='q35'/></os>", None),
        ("<os><type machine='pc'/></os>", None),
        ("<os><type/></os>", None),
    ],
)
def test_physical_address_bits_are_those_configured(cpu: str, bits: int | None) -> None:
    assert space(cpu).phys_bits == bits


@pytest.mark.parametrize("cpu", ["", "<cpu mode='maximum'/>", "<os><type machine='q35'/></os>"])
def test_without_kvm_they_are_qemus_40(cpu: str) -> None:
    assert read_space(etree.fromstring(f"<domain type='qemu'>{cpu}</domain>")).phys_bits == 40


def test_memory_has_a_unit_and_may_grow() -> None:
    found = space(
        "<memory unit='GiB'>4</memory><maxMemory slots='2' unit='b'>17179869184</maxMemory>"
    )
    assert (found.memory_bytes, found.hotplug_bytes) == (4 * GIB, 14 * GIB)
    found = space("<memory>4096</memory><maxMemory unit='KiB'>4096</maxMemory>")
    assert (found.memory_bytes, found.hotplug_bytes) == (4 * MIB, 0)
    assert space("<memory unit='x'>4</memory>").memory_bytes == 0


@pytest.mark.parametrize(
    ("controller", "hole_bytes"),
    [
        ("<controller type='pci' index='0' model='pcie-root'><pcihole64>1048576</pcihole64>", GIB),
        ("<controller type='pci' model='pci-root'><pcihole64 unit='GiB'>2</pcihole64>", 2 * GIB),
        ("<controller type='pci' model='pcie-root'><pcihole64 unit='KiB'>0</pcihole64>", 0),
        ("<controller type='pci' model='pcie-root'>", None),
        ("<controller type='pci' model='pcie-root-port'><pcihole64>1</pcihole64>", None),
        ("<controller type='usb' model='pcie-root'><pcihole64>1</pcihole64>", None),
    ],
)
def test_the_hole_is_that_of_the_roots_controller(controller: str, hole_bytes: int | None) -> None:
    assert space(f"<devices>{controller}</controller></devices>").hole_bytes == hole_bytes
