# ruff: noqa: E501 (a table is read by line)
"""passthrough.xsd: what we may write, as libxml2 reads it and as xmlschema reads it aloud."""

import pytest
from lxml import etree

from launcher_hook.schema import load_schemas
from launcher_hook.schema.explain import explain

SOURCE = "<source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/></source>"
GUEST = "<address type='pci' domain='0x0000' bus='0x18' slot='0x00' function='0x0'/>"
UUID = "<source><address uuid='4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10'/></source>"
ALIAS = "<alias name='ua-gpu-1'/>"
PCI_HEAD = "<hostdev mode='subsystem' type='pci' managed='yes'>"
MDEV_HEAD = "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>"
PORT_HEAD = "<controller type='pci' index='24' model='pcie-root-port'>"

PCI = f"{PCI_HEAD}{SOURCE}{ALIAS}{GUEST}</hostdev>"
MDEV = f"{MDEV_HEAD}{UUID}{ALIAS}</hostdev>"
PORT = f"{PORT_HEAD}<target chassis='24' port='0x80'/>{GUEST}</controller>"

VALID = {
    "pci": PCI,
    "pci-children-in-any-order": f"{PCI_HEAD}{GUEST}{ALIAS}{SOURCE}</hostdev>",
    "pci-without-guest-address": f"{PCI_HEAD}{SOURCE}{ALIAS}</hostdev>",
    "pci-multifunction": PCI.replace("type='pci' domain", "type='pci' multifunction='on' domain"),
    "pci-behind-vmd": PCI.replace("<address domain='0x0000'", "<address domain='0x10000'"),
    "pci-with-kept-parts": PCI_HEAD.replace(">", " display='on' ramfb='off'>")
    + f"<rom bar='on' file='/x.rom'/><driver name='vfio' iommufd='yes' queue_size='256'/>"
    f"<boot order='1'/><teaming type='transient' persistent='ua-nic'/><acpi nodeset='0-3,5'/>"
    f"{SOURCE}{ALIAS}{GUEST}</hostdev>",
    "mdev": MDEV,
    "mdev-with-guest-address": f"{MDEV_HEAD}{UUID}{ALIAS}{GUEST}</hostdev>",
    "port": PORT,
    "port-with-empty-target": f"{PORT_HEAD}<target/>{GUEST}</controller>",
    "expander": "<controller type='pci' index='9' model='pcie-expander-bus'>"
    f"<target busNr='254'><node>1</node></target>{GUEST}</controller>",
    "upstream": PORT.replace("pcie-root-port", "pcie-switch-upstream-port"),
    "downstream": PORT.replace("pcie-root-port", "pcie-switch-downstream-port"),
    "root-with-a-hole": "<controller type='pci' index='0' model='pcie-root'>"
    "<pcihole64 unit='KiB'>537919488</pcihole64></controller>",
    "conventional-root": "<controller type='pci' index='0' model='pci-root'><pcihole64>1</pcihole64>"
    "</controller>",
    "other-hostdev": "<hostdev type='usb'><anything/></hostdev>",
    "other-pci-controller": "<controller type='pci' index='0' model='pcie-root'/>",
    "other-controller": "<controller type='usb' index='0' model='none'/>",
}

# What is wrong, and where both readers must put it.
INVALID = {
    "mode-missing": (PCI.replace("mode='subsystem' ", ""), ""),
    "mode-capabilities": (PCI.replace("subsystem", "capabilities"), "/@mode"),
    "type-misspelled": (PCI.replace("'pci' m", "'pcii' m"), "/@type"),
    "type-missing": (PCI.replace("type='pci' m", "m"), ""),
    "type-mdev-of-pci-source": (PCI.replace("'pci' m", "'mdev' m"), "/@type"),
    "managed-true": (PCI.replace("'yes'", "'true'"), "/@managed"),
    "unknown-attribute": (PCI.replace("managed", "manged"), "/@manged"),
    "source-missing": (PCI.replace(SOURCE, ""), ""),
    "alias-missing": (PCI.replace(ALIAS, ""), ""),
    "alias-without-ua": (PCI.replace("ua-gpu", "gpu"), "/alias/@name"),
    "alias-with-dot": (PCI.replace("gpu-1", "gpu.1"), "/alias/@name"),
    "source-bus-decimal": (PCI.replace("0x3b", "59"), "/source/address/@bus"),
    "source-bus-upper-case": (PCI.replace("0x3b", "0x3B"), "/source/address/@bus"),
    "source-bus-one-digit": (PCI.replace("0x3b", "0x3"), "/source/address/@bus"),
    "source-bus-missing": (PCI.replace(" bus='0x3b'", ""), "/source/address"),
    "source-address-type": (PCI.replace("<address d", "<address type='pci' d"), "/source/address/@type"),
    "source-both-kinds": (MDEV.replace("<address ", "<address bus='0x3b' "), "/source/address"),
    "mdev-without-model": (MDEV.replace(" model='vfio-pci'", ""), ""),
    "mdev-uuid-upper-case": (MDEV.replace("4fac", "4FAC"), "/source/address/@uuid"),
    "pci-with-model": (PCI.replace("managed", "model='vfio-pci' managed"), None),
    "guest-domain-one": (
        PCI.replace("'pci' domain='0x0000'", "'pci' domain='0x0001'"), "/address/@domain",
    ),
    "guest-slot-too-high": (PORT.replace("slot='0x00'", "slot='0x20'"), "/address/@slot"),
    "guest-function-too-high": (PORT.replace("function='0x0'", "function='0x8'"), "/address/@function"),
    "guest-function-missing": (PORT.replace(" function='0x0'", ""), "/address"),
    "multifunction-off": (
        PORT.replace("domain", "multifunction='off' domain"), "/address/@multifunction",
    ),
    "boot-order-zero": (PCI.replace(ALIAS, f"{ALIAS}<boot order='0'/>"), "/boot/@order"),
    "hole-of-a-port": (
        PORT.replace("<target", "<pcihole64 unit='KiB'>1</pcihole64><target"), "/pcihole64",
    ),
    "hole-with-a-unit-inside": (
        "<controller type='pci' index='0' model='pcie-root'><pcihole64>1G</pcihole64></controller>",
        "/pcihole64",
    ),
    "root-of-another-index": (
        "<controller type='pci' index='1' model='pcie-root'><pcihole64>1</pcihole64></controller>",
        "/@index",
    ),
    "text": (PCI.replace(ALIAS, f"gpu{ALIAS}"), ""),
    "index-zero": (PORT.replace("index='24'", "index='0'"), "/@index"),
    "index-hex": (PORT.replace("index='24'", "index='0x18'"), "/@index"),
    "index-too-high": (PORT.replace("index='24'", "index='256'"), "/@index"),
    "model-misspelled": (PORT.replace("pcie-root-port", "pcie-rootport"), "/@model"),
    "port-decimal": (PORT.replace("0x80", "128"), "/target/@port"),
    "chassis-too-high": (PORT.replace("chassis='24'", "chassis='256'"), "/target/@chassis"),
    "port-without-address": (PORT.replace(GUEST, ""), ""),
    "busnr-hex": (PORT.replace("port='0x80'", "busNr='0xfe'"), "/target/@busNr"),
    "node-word": (
        PORT.replace("port='0x80'/>", "port='0x80'><node>one</node></target>"), "/target/node",
    ),
}  # fmt: skip


def device_in_domain(text: str) -> etree._Element:
    return etree.fromstring(f"<domain><devices>{text}</devices></domain>")[0][0]


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_what_we_may_write_is_valid(text: str) -> None:
    schemas = load_schemas(roots=())
    element = device_in_domain(text)
    assert schemas.fragment_faults(element, element.tag) == ()
    assert explain(element) == ()
    root = element.getroottree().getroot()
    assert schemas.document_valid(root)
    assert schemas.document_faults(root) == ()


@pytest.mark.parametrize(("text", "place"), INVALID.values(), ids=INVALID.keys())
def test_what_we_may_not_write_is_refused_by_both_readers(text: str, place: str | None) -> None:
    schemas = load_schemas(roots=())
    element = device_in_domain(text)
    faults = schemas.fragment_faults(element, element.tag)
    aloud = explain(element)
    assert faults
    assert aloud
    if place is not None:
        expected = f"/domain/devices/{element.tag}{place}"
        assert expected in [fault.path for fault in faults]
        assert expected in [fault.path for fault in aloud]
    root = element.getroottree().getroot()
    assert not schemas.document_valid(root)
    assert schemas.document_faults(root) == faults


def test_the_xsd_refuses_an_element_of_another_name() -> None:
    (fault,) = load_schemas(roots=()).fragment_faults(device_in_domain(PORT), "hostdev")
    assert fault.path == "/domain/devices/controller"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("source-bus-decimal", r"passthrough\.xsd says: A PCI bus, 0x00 to 0xff"),
        (
            "alias-with-dot",
            r"libvirt drops any other; a hostdev without alias crashes virt-launcher",
        ),
        ("source-bus-missing", r"A source address has domain, bus, slot and function, or it has a"),
        ("mdev-without-model", r"A mediated device has a model; a PCI function has none"),
        ("port-without-address", r"without one libvirt puts it at 00:02\.0"),
        ("type-mdev-of-pci-source", r"type 'mdev' does not go with this source; write type='pci'"),
    ],
)
def test_the_xsds_documentation_is_read_aloud(name: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        raise AssertionError("\n".join(map(str, explain(device_in_domain(INVALID[name][0])))))


def test_faults_of_the_second_hostdev_say_so() -> None:
    root = etree.fromstring(f"<domain><devices>{PCI}{PCI.replace('0x3b', '3b')}</devices></domain>")
    places = {fault.path for fault in load_schemas(roots=()).document_faults(root)}
    assert "/domain/devices/hostdev[2]/source/address/@bus" in places
    assert not any("hostdev[1]" in place for place in places)
    assert explain(root[0][1])[0].path == "/domain/devices/hostdev[2]/source/address/@bus"
