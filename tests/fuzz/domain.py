"""Any bytes as a domain XML, in a handful of situations: render, and render again."""

from dataclasses import replace
from random import Random

from canonical import canonical_without_ours
from fuzz.elements import change_elements
from fuzz.target import CASES, SHARED_DOMAINS, Target, case_files
from lxml import etree

from launcher_hook.domain.document import parse_domain
from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError, SchemaError, one_line
from launcher_hook.host import Host
from launcher_hook.model import HostSource
from launcher_hook.pci import PciAddress
from launcher_hook.render import Inputs, render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.settings import BY_NODE, DeviceOptions, Settings
from launcher_hook.snapshot import FORMAT, parse_snapshot
from launcher_hook.vmi import parse_vmi

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def _snapshot() -> Host:
    """A node with a GPU of three functions in one group."""
    functions = ",".join(
        f'{{"address": "0000:86:00.{n}", "vendor": "10de", "device": "1f0{n}", "class": "{cls}",'
        '"iommuGroup": 42, "driver": "vfio-pci", "numaNode": 1, "bars64": [17179869184],'
        '"bridges": ["0000:80:01.0"]}'
        for n, cls in enumerate(("030000", "040300", "0c0330"))
    )
    text = (
        f'{{"format": "{FORMAT}", "functions": [{functions}], "mediatedDevices": null,'
        '"deviceNodes": []}'
    )
    return parse_snapshot(text.encode(), "snapshot")


_OPTIONS = {
    "0000:86:00.0": DeviceOptions(rom_bar="off", x_vga="on", p2p_clique=3, boot_order=7),
    "0000:af:00.0": DeviceOptions(driver_iommufd="yes", acpi_nodeset="0", driver_name="vfio"),
}


def _situations() -> list[Inputs]:
    """What a domain meets; an input's first byte picks one."""
    vmi = parse_vmi((CASES / "stock-sidecar" / "vmi.json").read_bytes(), "VMI")
    two = parse_allocations({"PCI_RESOURCE_A": "0000:86:00.0,0000:af:00.0"})
    gpu = parse_allocations({"PCI_RESOURCE_A": "0000:86:00.0"})
    eight = parse_allocations({"PCI_RESOURCE_A": ",".join(f"0000:a{n}:00.0" for n in range(8))})
    mdev = parse_allocations({"MDEV_PCI_RESOURCE_A": UUID})
    pinned = Settings(slots={"0000:86:00.0": PciAddress(0, 0x20, 0, 0)})
    return [
        Inputs(b""),
        Inputs(b"", vmi=vmi),
        Inputs(b"", allocations=two),
        Inputs(b"", allocations=two, settings=Settings(layout="root-bus")),
        Inputs(b"", allocations=eight, settings=Settings(layout="root-port", managed="keep")),
        Inputs(b"", allocations=mdev),
        Inputs(b"", allocations=gpu, host=_snapshot()),
        Inputs(b"", allocations=two, settings=pinned),
        Inputs(b"", vmi=vmi, allocations=two),
        Inputs(b"", allocations=gpu, host=_snapshot(), settings=Settings(layout="mirror")),
        Inputs(b"", allocations=two, host=_snapshot(), settings=Settings(layout="numa")),
        Inputs(b"", allocations=gpu, host=_snapshot(), settings=Settings(pci_hole64="auto")),
        Inputs(b"", allocations=two, settings=Settings(pci_hole64=1 << 38, devices=_OPTIONS)),
    ]


SITUATIONS = _situations()
BY_NUMA = [n for n, inputs in enumerate(SITUATIONS) if inputs.settings.layout in BY_NODE]
SCHEMAS = load_schemas()


def check(data: bytes) -> None:
    """Refused in one sentence, or: valid, the same when done twice, nothing else touched."""
    if not data:
        return
    inputs = replace(SITUATIONS[data[0] % len(SITUATIONS)], domain_xml=data[1:])
    try:
        xml = render_domain(inputs, SCHEMAS).xml
    except SchemaError:
        raise  # what we wrote is not valid
    except HookError as error:
        check_refusal(error)
    else:
        check_rendered(inputs, xml)


def check_refusal(error: HookError) -> None:
    """A message that a log and an object's status can hold."""
    assert error.what, error
    assert error.fix, error
    assert one_line(str(error)).isprintable()
    one_line(str(error)).encode()


def check_rendered(inputs: Inputs, xml: bytes) -> None:
    """What must be so of every domain that we give out."""
    root = parse_domain(xml).getroot()  # nothing but what we would take ourselves
    before = parse_domain(inputs.domain_xml).getroot()
    again = render_domain(replace(inputs, domain_xml=xml), SCHEMAS).xml
    assert again == xml, "rendered twice it is another domain"
    foreign = [canonical_without_ours(x, inputs.domain_xml, xml) for x in (inputs.domain_xml, xml)]
    assert foreign[0] == foreign[1], "something that is not ours has changed"
    given = {s for allocation in inputs.allocations.values() for s in allocation.sources}
    given |= {d.source for d in inputs.devices.values() if d.source is not None}
    for source in sources(root) - sources(before) - given:
        assert source in _companions(inputs, given | sources(before)), f"{source}: not allocated"


def _companions(inputs: Inputs, given: set[HostSource]) -> set[HostSource]:
    """What may come along: functions in slot and IOMMU group of what was given, on vfio-pci."""
    if not inputs.host.known:
        return set()
    functions = {f.address: f for f in inputs.host.functions()}
    found: set[HostSource] = set()
    for main in (functions[s] for s in given if isinstance(s, PciAddress) and s in functions):
        for other in functions.values():
            together = (main.address.slot_key, main.iommu_group)
            if together == (other.address.slot_key, other.iommu_group) and other.driver:
                found.add(other.address)
    return found


def sources(root: etree._Element) -> set[HostSource]:
    """What a domain passes through, read without the program."""
    found: set[HostSource] = set()
    for hostdev in root.iterfind("./devices/hostdev"):
        address = hostdev.find("./source/address")
        if address is None or hostdev.get("mode", "subsystem") != "subsystem":
            continue
        if hostdev.get("type") == "mdev":
            found.add(address.get("uuid", "").lower())
        elif hostdev.get("type") == "pci":
            parts = (address.get(p, "0") for p in ("domain", "bus", "slot", "function"))
            found.add(PciAddress(*(_number(part) for part in parts)))
    return found


def _number(text: str) -> int:
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()
    return int(text, 8) if octal else int(text, 0)


def seeds() -> list[bytes]:
    """Every fixture's domain in every situation that is not much like another, and launchers'."""
    domains = case_files("domain.xml") + case_files("expected.xml")
    if SHARED_DOMAINS.is_dir():
        domains += [path.read_bytes() for path in sorted(SHARED_DOMAINS.glob("*.xml"))]
    by_situation = [
        bytes([(number + n) % len(SITUATIONS)]) + domain
        for number, domain in enumerate(domains)
        for n in (0, 3, 6)
    ]
    return [*by_situation, *(bytes([n]) + pinned_to_everything(20) for n in BY_NUMA)]


def pinned_to_everything(count: int) -> bytes:
    """A domain with cells, memory and vCPUs of all that a set of CPUs can hold."""
    every = "0-65535"
    cells = "".join(f"<cell id='{n}' cpus='{every}' memory='1'/>" for n in range(count))
    nodes = "".join(f"<memnode cellid='{n}' nodeset='{every}'/>" for n in range(count))
    pins = "".join(f"<vcpupin vcpu='{n}' cpuset='{every}'/>" for n in range(count))
    return (
        "<domain type='kvm'><name>a</name><memory>1</memory><vcpu>1</vcpu>"
        f"<cpu><numa>{cells}</numa></cpu><numatune>{nodes}</numatune><cputune>{pins}</cputune>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>"
    ).encode()


WORDS = [
    *(
        word.encode()
        for word in (
            "<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0x0000'"
            " bus='0x86' slot='0x00' function='0x0'/></source></hostdev>",
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
            f"<address uuid='{UUID}'/></source></hostdev>",
            "<controller type='pci' index='24' model='pcie-root-port'/>",
            "<controller type='pci' index='1' model='pcie-expander-bus'><target busNr='254'/>"
            "</controller>",
            "<address type='pci' domain='0x0000' bus='0x18' slot='0x00' function='0x0'/>",
            "<address type='pci' bus='0' slot='0x10' function='1' multifunction='on'/>",
            "<interface type='hostdev'><source><address type='pci' bus='0xaf'/></source>",
            "<alias name='ua-gpu-gpu0'/>",
            "<alias name='a.b'/>",
            "<cputune><vcpupin vcpu='0' cpuset='0-65535'/></cputune>",
            "<memnode cellid='0' nodeset='0-65535,^1'/>",
            "<cell id='0' cpus='0-65535'/>",
            "<source>",
            "</source>",
            "<rom/>",
            "<driver name='vfio'/>",
            "<domain>",
            "</domain>",
            "<devices>",
            "</devices>",
            "<devices/>",
            "<hostdev>",
            "</hostdev>",
            "<controller/>",
            "<![CDATA[x]]>",
            "<!-- x -->",
            "<?x y?>",
            "<!DOCTYPE domain [<!ENTITY a 'b'>]>",
            "&a;",
            "&#x41;",
            "&lt;",
            "xmlns='urn:x'",
            "xmlns:q='urn:q'",
            "<q:hostdev/>",
            "type='pci'",
            "type='mdev'",
            "type='usb'",
            "mode='capabilities'",
            "index='255'",
            "index='-1'",
            "index='0x18'",
            "machine='q35'",
            "machine='pc'",
            "arch='aarch64'",
            "arch='s390x'",
            "model='pcie-root'",
            "text",
            "0x",
            "010",
            "0xffffffff",
            "\u2028",
            "\U0001f600",
            "\ufeff",
            "encoding='us-ascii'",
        )
    ),
    b"\0",
    b"\xff\xfe",
    b"\xc0\x80",
    b"<?xml version='1.0' encoding='utf-16'?>",
]

VALUES = (
    "", "0", "1", "24", "25", "254", "255", "-1", "0x00", "0x10", "0x18", "0x1f", "0000:86:00.0",
    "pci", "mdev", "usb", "virtio", "subsystem", "on", "off", "q35", "pc", "x86_64", "pcie-root",
    "pcie-root-port", "pcie-expander-bus", "pcie-switch-upstream-port",
    "pcie-switch-downstream-port", "pcie-to-pci-bridge", "0-65535", "0-65535,^1,3-7,^8-65000",
)  # fmt: skip
"""Of attributes: what decides something."""


def change(data: bytes, random: Random) -> bytes:
    """The same situation or check, and other elements."""
    return data[:1] + change_elements(data[1:], random, VALUES)


TARGET = Target(
    "domain",
    check,
    seeds,
    WORDS,
    (
        "domain",
        "render",
        "assign",
        "plan",
        "room",
        "companions",
        "schema.checks",
        "schema.rules",
        "schema.guest",
    ),
    change,
)
