"""Rules over the whole domain: each with a domain that breaks it and one that does not."""

from pathlib import Path

import pytest
from lxml import etree

from launcher_hook.schema import Fault, rule_faults

REAL_DOMAINS = Path(__file__).parents[2] / "shared" / "kubevirt-domains"

ROOT = "<controller type='pci' index='0' model='pcie-root'/>"
PORT_1 = "<controller type='pci' index='1' model='pcie-root-port'/>"
PORT_2 = "<controller type='pci' index='2' model='pcie-root-port'/>"


def domain_with(*devices: str, machine: str = "q35") -> etree._Element:
    return etree.fromstring(
        f"<domain><os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
        f"<devices>{''.join(devices)}</devices></domain>"
    )


def faults_of(*devices: str, machine: str = "q35") -> list[Fault]:
    return list(rule_faults(domain_with(*devices, machine=machine)))


def rules_of(*devices: str, machine: str = "q35") -> list[str]:
    return [fault.rule for fault in faults_of(*devices, machine=machine)]


def at(bus: str, slot: str = "0x00", function: str = "0x0", more: str = "") -> str:
    return f"<address type='pci' bus='{bus}' slot='{slot}' function='{function}' {more}/>"


def hostdev(address: str = "", alias: str = "ua-a", source: str = "0x3b") -> str:
    return (
        f"<hostdev type='pci'><source><address bus='{source}'/></source>"
        f"<alias name='{alias}'/>{address}</hostdev>"
    )


def mdev(uuid: str, alias: str) -> str:
    return (
        f"<hostdev type='mdev'><source><address uuid='{uuid}'/></source>"
        f"<alias name='{alias}'/></hostdev>"
    )


def port(index: int, model: str, address: str = "") -> str:
    return f"<controller type='pci' index='{index}' model='{model}'>{address}</controller>"


BAD = {
    "address-of-two-hostdevs": (
        "guest-address-twice",
        (PORT_1, hostdev(at("1")), hostdev(at("1"), "ua-b", "0xaf")),
    ),
    "address-of-disk-in-other-spelling": (
        "guest-address-twice",
        (PORT_1, hostdev(at("0x01")), f"<disk>{at('1', '0', '0')}</disk>"),
    ),
    "address-of-controller": (
        "guest-address-twice",
        (port(1, "pcie-root-port", at("0", "2")), f"<rng>{at('0', '0x02')}</rng>"),
    ),
    "bus-without-controller": ("bus-without-controller", (ROOT, PORT_1, hostdev(at("9")))),
    "bus-in-octal": ("bus-without-controller", (port(10, "pcie-root-port"), hostdev(at("010")))),
    "slot-of-root-port": ("slot-of-port", (PORT_1, hostdev(at("1", "0x01")))),
    "slot-of-downstream-port": (
        "slot-of-port",
        (port(1, "pcie-switch-downstream-port"), hostdev(at("1", "0x1f"))),
    ),
    "function-1-alone": ("no-function-zero", (PORT_1, hostdev(at("1", function="0x1")))),
    "multifunction-said-off": (
        "multifunction-off",
        (
            PORT_1,
            hostdev(at("1", more="multifunction='off'")),
            hostdev(at("1", function="1"), "ua-b", "0xaf"),
        ),
    ),
    "alias-with-dot": ("alias-form", (hostdev(alias="ua-gpu-g.1"),)),
    "alias-of-libvirt": ("alias-form", (hostdev(alias="hostdev0"),)),
    "alias-prefix-only": ("alias-form", (hostdev(alias="ua-"),)),
    "alias-missing": ("alias-missing", ("<hostdev type='usb'/>",)),
    "alias-empty": ("alias-missing", (hostdev(alias=""),)),
    "alias-of-disk": ("alias-twice", (hostdev(), "<disk><alias name='ua-a'/></disk>")),
    "pci-source-twice": ("source-twice", (hostdev(), hostdev(alias="ua-b", source="59"))),
    "mdev-source-twice": ("source-twice", (mdev("ab-1", "ua-a"), mdev("AB1", "ua-b"))),
    "device-on-expander-bus": (
        "not-a-port",
        (port(1, "pcie-expander-bus"), hostdev(at("1"))),
    ),
    "device-on-upstream-port": (
        "not-a-port",
        (PORT_1, port(2, "pcie-switch-upstream-port", at("1")), hostdev(at("2"))),
    ),
    "root-port-on-upstream-port": (
        "not-a-port",
        (port(2, "pcie-switch-upstream-port"), port(3, "pcie-root-port", at("2"))),
    ),
    "guest-domain": ("guest-domain", (PORT_1, hostdev(at("1", more="domain='0x0001'")))),
    "controller-index-twice": ("controller-index-twice", (PORT_1, PORT_1)),
}

GOOD = {
    "nothing": (),
    "one-behind-each-port": (
        ROOT,
        PORT_1,
        PORT_2,
        hostdev(at("1")),
        hostdev(at("2"), "ua-b", "0xaf"),
    ),
    "functions-of-one-slot": (
        PORT_1,
        hostdev(at("1", more="multifunction='on'")),
        hostdev(at("1", function="1"), "ua-b", "0xaf"),
    ),
    "functions-of-one-slot-without-multifunction": (
        PORT_1,
        hostdev(at("1")),
        hostdev(at("1", function="1"), "ua-b", "0xaf"),
    ),
    "libvirts-root-ports-without-multifunction": (
        port(1, "pcie-root-port", at("0", "2", "0")),
        port(2, "pcie-root-port", at("0", "2", "1")),
    ),
    "sata-of-the-chipset": (
        f"<controller type='sata' index='0'>{at('0', '0x1f', '2')}</controller>",
    ),
    "slot-of-root-bus": (ROOT, hostdev(at("0", "0x10"))),
    "slot-of-pci-bridge": (port(1, "pcie-to-pci-bridge"), hostdev(at("1", "5"))),
    "root-bus-not-written": (hostdev(at("0", "0x10")),),
    "addresses-not-assigned-yet": (
        hostdev("<address type='pci'/>"),
        hostdev("<address type='pci'/>", "ua-b", "0xaf"),
    ),
    "addresses-of-other-kinds": (
        "<disk><address type='drive' bus='9'/></disk>",
        "<disk><address type='drive' bus='9'/></disk>",
    ),
    "numbers-that-libvirt-refuses": (hostdev(at("3b")), hostdev(at("0x1ff"), "ua-b", "zz")),
    "aliases-of-other-devices": ("<disk><alias name='virtio-disk0'/></disk>", "<rng/>"),
    "same-bus-of-other-slots": (hostdev(), hostdev(alias="ua-b", source="0xaf")),
    "ports-on-expander-bus": (
        port(1, "pcie-expander-bus"),
        port(2, "pcie-root-port", at("1")),
        hostdev(at("2")),
    ),
    "switch": (
        PORT_1,
        port(2, "pcie-switch-upstream-port", at("1")),
        port(3, "pcie-switch-downstream-port", at("2")),
        hostdev(at("3")),
    ),
    "same-index-of-another-type": (ROOT, "<controller type='usb' index='0'/>"),
}


@pytest.mark.parametrize(("rule", "devices"), BAD.values(), ids=BAD.keys())
def test_a_broken_rule_is_named(rule: str, devices: tuple[str, ...]) -> None:
    assert rules_of(*devices) == [rule]


@pytest.mark.parametrize("devices", GOOD.values(), ids=GOOD.keys())
def test_what_libvirt_takes_is_not_complained_of(devices: tuple[str, ...]) -> None:
    assert faults_of(*devices) == []


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (
            (PORT_1, hostdev(at("1")), hostdev(at("1"), "ua-b", "0xaf")),
            r"/hostdev\[2\]/address .*: guest address 0000:01:00\.0 is given to 2 devices; "
            r"give each .* hostdev ua-a, hostdev ua-b",
        ),
        (
            (hostdev(at("0x09")),),
            r"/address/@bus .* index 9; write <controller type='pci' index='9' "
            r"model='pcie-root-port'/>, or leave it to libvirt",
        ),
        ((hostdev(alias="ua-g.1"),), r"/alias/@name .* 'ua-g\.1' .*; write ua- and then letters"),
        ((PORT_1, hostdev(at("1", function="2"))), r"function 2 but no function 0; number its"),
    ],
    ids=["guest-address-twice", "bus-without-controller", "alias-form", "no-function-zero"],
)
def test_a_fault_says_where_and_what_to_do(devices: tuple[str, ...], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(str(faults_of(*devices)[0]))


def test_a_bridge_is_what_an_i440fx_lacks() -> None:
    (fault,) = faults_of(hostdev(at("9")), machine="pc-i440fx-9.2")
    assert "model='pci-bridge'" in fault.fix
    (fault,) = faults_of(hostdev(at("9")), machine="s390-ccw-virtio")
    assert fault.fix == "write a PCI controller with index='9', or another bus"


@pytest.mark.parametrize(
    ("machine", "slot"), [("pc", "1"), ("pc-i440fx-9.2", "1"), ("pc-q35-9.2", "0x1f")]
)
def test_the_chipset_has_function_zero_of_its_own_slot(machine: str, slot: str) -> None:
    assert (
        rules_of(f"<controller type='usb'>{at('0', slot, '2')}</controller>", machine=machine) == []
    )


def test_aliases_do_not_change_what_a_fault_says() -> None:
    (one,) = faults_of(PORT_1, hostdev(at("1"), "ua-a"), f"<disk>{at('1')}</disk>")
    (other,) = faults_of(PORT_1, hostdev(at("1"), "ua-b"), f"<disk>{at('1')}</disk>")
    assert (one.rule, one.what) == (other.rule, other.what)


def test_usb_sources_of_interfaces_are_no_pci_functions() -> None:
    usb = "<interface type='hostdev'><source><address type='usb' bus='0' device='{}'/></source>"
    devices = [usb.format(device) + "</interface>" for device in (2, 3)]
    assert rules_of(ROOT, *devices) == []
    pci = "<interface type='hostdev'><source><address type='pci' bus='1'/></source></interface>"
    assert rules_of(ROOT, pci, pci) == ["source-twice"]


@pytest.mark.skipif(not REAL_DOMAINS.is_dir(), reason="needs ../shared/kubevirt-domains")
def test_real_domains_raise_no_false_alarm() -> None:
    found = {
        (path.name, fault.rule, fault.path)
        for path in REAL_DOMAINS.glob("*.xml")
        for fault in rule_faults(etree.parse(path).getroot())
    }
    # An SR-IOV VF with a guest address in the VMI: buses are not assigned yet in pass 1.
    assert found == {
        ("v-sriov-2.xml", "bus-without-controller", "/domain/devices/hostdev[2]/address/@bus")
    }
