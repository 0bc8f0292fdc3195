"""What is read of a domain: hostdevs, machine, controllers, addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.inspect import (
    passed_hostdevs,
    read_aliases,
    read_hostdev,
    read_topology,
)
from launcher_hook.errors import InputError
from launcher_hook.model import Machine
from launcher_hook.pci import PciAddress


def domain(devices: str = "", machine: str = "arch='x86_64' machine='q35'") -> etree._Element:
    return etree.fromstring(
        f"<domain><os><type {machine}>hvm</type></os><devices>{devices}</devices></domain>"
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [("0x3b", 0x3B), ("2", 2), ("0", 0), ("0X1F", 0x1F), ("010", 8), ("00", 0)],
)
def test_a_number_is_read_by_its_prefix_as_libvirt_does(text: str, number: int) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "x", "0x", "1g", "08", "-", "0b", "1.0", " 7", "-1", "1_0"])
def test_what_is_no_number_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own message
        parse_number(text)


@given(st.integers(0, 0xFFFFFFFF))
def test_every_spelling_of_a_number_is_the_same_number(number: int) -> None:
    spellings = (str(number), f"{number:#x}", f"{number:#06x}", f"0{number:o}")
    assert {parse_number(text) for text in spellings} == {number}


def test_only_pci_and_mdev_hostdevs_are_ours() -> None:
    root = domain(
        "<hostdev type='pci'/><hostdev type='usb' mode='subsystem'/>"
        "<hostdev type='mdev' mode='subsystem'/><hostdev type='pci' mode='capabilities'/>"
        "<hostdev type='scsi'/>"
    )
    assert [h.get("type") for h in passed_hostdevs(root)] == ["pci", "mdev"]


def test_a_hostdev_is_read_in_any_spelling() -> None:
    root = domain(
        "<hostdev type='pci' managed='no'><source><address bus='134' slot='0x0'/></source>"
        "<alias name='ua-x'/><address type='pci' domain='0x0000' bus='9' slot='0'/></hostdev>"
    )
    (element,) = passed_hostdevs(root)
    present = read_hostdev(element, "vm.xml")
    assert present.source == PciAddress(0, 0x86, 0, 0)
    assert present.guest_address == PciAddress(0, 9, 0, 0)
    assert (present.alias, present.managed) == ("ua-x", "no")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "<address type='pci'/>",
        "<address type='unassigned'/>",
        "<address/>",
        "<address type='pci' domain='0x0000' bus='0' slot='0x00' function='0'/>",
    ],
)
def test_an_address_that_says_nothing_is_none(address: str) -> None:
    source = "<source><address bus='1'/></source>"
    (element,) = passed_hostdevs(domain(f"<hostdev type='pci'>{source}{address}</hostdev>"))
    assert read_hostdev(element, "vm.xml").guest_address is None


@pytest.mark.parametrize(
    ("hostdev", "message"),
    [
        ("<hostdev type='pci'/>", "hostdev: it has no <source><address/></source>; write"),
        ("<hostdev type='pci'><source><address bus='x'/></source></hostdev>",
         "hostdev/source/address/@bus: 'x' is not a number; write e.g. 0x1f or 31"),
        ("<hostdev type='pci'><source><address bus='256'/></source></hostdev>",
         "hostdev/source/address: PCI bus 0x100 is not in 0 to 0xff; write an address"),
        ("<hostdev type='pci'><source><address type='pci'/></source></hostdev>",
         "hostdev: it has no <source><address/></source>; write"),
        ("<hostdev type='mdev'><source><address uuid='4b20'/></source></hostdev>",
         "hostdev/source/address/@uuid: '4b20' is not a UUID; write e.g. 4b20d080"),
        ("<hostdev type='pci'><source><address bus='1'/></source>"
         "<address type='pci' slot='0x40'/></hostdev>", "hostdev/address: PCI slot 0x40 is not"),
    ],
)  # fmt: skip
def test_a_hostdev_that_cannot_be_read_is_refused_with_its_line(hostdev: str, message: str) -> None:
    (element,) = passed_hostdevs(domain(hostdev))
    with pytest.raises(InputError, match=f"vm.xml:1: {message}"):
        read_hostdev(element, "vm.xml")


@pytest.mark.parametrize(
    ("machine", "kind"),
    [
        ("arch='x86_64' machine='q35'", Machine.Q35),
        ("arch='x86_64' machine='pc-q35-rhel9.4.0'", Machine.Q35),
        ("machine='pc-q35-8.2'", Machine.Q35),
        ("arch='x86_64' machine='pc'", Machine.I440FX),
        ("arch='i686' machine='pc-i440fx-8.2'", Machine.I440FX),
        ("arch='x86_64' machine='pc-1.2'", Machine.I440FX),
        ("arch='x86_64'", Machine.I440FX),
        ("arch='aarch64' machine='virt'", Machine.VIRT),
        ("arch='riscv64' machine='virt'", Machine.VIRT),
        ("arch='aarch64' machine='virt-8.2'", Machine.VIRT),
        ("arch='x86_64' machine='microvm'", Machine.OTHER),
        ("arch='x86_64' machine='isapc'", Machine.OTHER),
        ("arch='s390x' machine='s390-ccw-virtio'", Machine.OTHER),
        ("arch='ppc64' machine='pseries'", Machine.OTHER),
        ("arch='aarch64' machine='versatilepb'", Machine.OTHER),
        ("arch='x86_64' machine='virt'", Machine.OTHER),
    ],
)
def test_a_machine_type_means_a_kind_of_pci(machine: str, kind: Machine) -> None:
    assert read_topology(domain(machine=machine)).machine is kind


def test_a_topology_is_everything_but_our_hostdevs() -> None:
    root = domain(
        "<controller type='pci' index='0' model='pcie-root'/>"
        "<controller type='pci' index='3' model='pcie-root-port'>"
        "<address type='pci' slot='0x02' function='0x1'/></controller>"
        "<controller type='pci' index='4' model='pcie-root-port'/>"
        "<!-- a comment --><disk><target dev='vda'/>"
        "<address type='pci' bus='0x03'/></disk>"
        "<disk><address type='drive' bus='0'/></disk>"
        "<hostdev type='pci'><source><address bus='1'/></source>"
        "<address type='pci' bus='0x04'/></hostdev>"
    )
    topology = read_topology(root)
    assert {i: (c.model, c.address) for i, c in topology.controllers.items()} == {
        0: ("pcie-root", None),
        3: ("pcie-root-port", PciAddress(0, 0, 2, 1)),
        4: ("pcie-root-port", None),
    }
    assert dict(topology.taken) == {
        PciAddress(0, 0, 2, 1): "controller pci pcie-root-port 3",
        PciAddress(0, 3, 0, 0): "disk vda",
    }


def test_a_controller_without_index_gets_the_lowest_that_is_free_as_libvirt_does() -> None:
    root = domain(
        "<controller type='pci' model='pcie-root-port'/>"
        "<controller type='pci' index='1' model='pcie-root-port'/>"
        "<controller type='pci' model='pcie-switch-upstream-port'/>"
    )
    assert {i: c.model for i, c in read_topology(root).controllers.items()} == {
        1: "pcie-root-port",
        2: "pcie-root-port",
        3: "pcie-switch-upstream-port",
    }


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            "x",
            "controller/@index: 'x' is not a plain decimal number; number the PCI contr",
        ),
        ("-1", "controller/@index: '-1' is not a plain decimal number"),
        ("0x18", "controller/@index: '0x18' is not a plain decimal number"),
        ("09", "controller/@index: '09' is not a plain decimal number"),
        ("256", "controller/@index: 256 is more than 255; number it from 0 to 255"),
    ],
)
def test_a_controller_with_a_wrong_index_is_refused(index: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_topology(domain(f"<controller type='pci' index='{index}' model='pcie-root-port'/>"))


def test_a_domain_without_devices_has_an_empty_topology() -> None:
    root = etree.fromstring("<domain><os><type machine='q35'>hvm</type></os></domain>")
    assert read_topology(root).taken == {}


def test_the_aliases_of_all_devices_are_read() -> None:
    root = domain(
        "<disk><alias name='ua-d'/></disk><disk><alias/></disk>"
        "<hostdev type='pci'><alias name='ua-h'/></hostdev>"
    )
    assert list(read_aliases(root)) == ["ua-d", "ua-h"]
