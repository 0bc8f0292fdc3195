"""What a domain says of its guest's address space."""

import pytest
from lxml import etree

from launcher_hook.domain.space import read_space
from launcher_hook.mmio import AddressSpace
from launcher_hook.sizes import GIB, MIB


def space(inside: str) -> AddressSpace:
    return read_space(etree.fromstring(f"<domain>{inside}</domain>"))


def test_of_an_empty_domain_it_is_qemus_own() -> None:
    assert space("") == AddressSpace(phys_bits=40)


@pytest.mark.parametrize(
    ("firmware", "is_uefi"),
    [
        ("<os firmware='efi'/>", True),
        ("<os><loader type='pflash'>/x</loader></os>", True),
        ("<os><loader type='rom'>/x</loader></os>", False),
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
        ("<cpu mode='host-passthrough'/>", 40),
        ("<os><type machine='pc-q35-rhel9.6.0'/></os>", None),
        ("<os><type machine='q35'/></os>", 40),
    ],
)
def test_physical_address_bits_are_those_configured(cpu: str, bits: int | None) -> None:
    assert space(cpu).phys_bits == bits


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
