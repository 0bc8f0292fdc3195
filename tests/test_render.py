"""What holds for every domain and every allocation: made-up ones, and the launcher's own."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from canonical import canonical_without_ours
from cases import CASES, case_names, read_case, shared_domains, vmi_of
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError, InputError
from launcher_hook.pci import PciAddress
from launcher_hook.render import Inputs, render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.schema.explain import explain
from launcher_hook.settings import Settings

EIGHT = [f"0000:{bus:02x}:00.0" for bus in range(0xA0, 0xA8)]


def ours(xml: bytes) -> list[etree._Element]:
    """The hostdevs, and the root ports that carry them and have details."""
    root = etree.fromstring(xml)
    hostdevs = [h for h in root.iterfind("devices/hostdev") if h.get("type") in ("pci", "mdev")]
    ports = root.findall("devices/controller[@model='pcie-root-port']")
    return [*hostdevs, *(port for port in ports if int(port.get("index", "0")) >= 24)]


@pytest.mark.parametrize("version", ["9.0.0", "11.3.0"])
@pytest.mark.parametrize("functions", [["0000:a6:00.0"], EIGHT], ids=["one", "eight"])
@pytest.mark.parametrize("file", shared_domains(), ids=lambda file: file.stem)
def test_a_launchers_domain_is_rendered_whole(
    file: Path, functions: list[str], version: str, libvirt_schemas: None
) -> None:
    inputs = Inputs(
        domain_xml=file.read_bytes(),
        where=file.name,
        vmi=vmi_of(file),
        allocations=parse_allocations({"PCI_RESOURCE_EXAMPLE": ",".join(functions)}),
    )
    schemas = load_schemas(version)
    xml = render_domain(inputs, schemas).xml  # SchemaError if what we wrote is not valid
    sources = etree.fromstring(xml).findall("devices/hostdev[@type='pci']/source/address")
    buses = [int(source.get("bus", "0"), 0) for source in sources]
    assert sorted(set(buses) & set(range(0xA0, 0xA8))) == sorted(
        PciAddress.parse(function).bus for function in functions
    )
    assert render_domain(replace(inputs, domain_xml=xml), schemas).xml == xml
    assert canonical_without_ours(xml, inputs.domain_xml) == canonical_without_ours(
        inputs.domain_xml, inputs.domain_xml
    )


@pytest.mark.parametrize("name", [n for n in case_names() if not n.startswith("refused-")])
def test_what_we_write_is_what_our_own_schema_says_we_write(name: str, tmp_path: Path) -> None:
    xml = render_domain(read_case(name, tmp_path), load_schemas()).xml
    assert [fault for element in ours(xml) for fault in explain(element)] == []


def test_without_libvirts_schemas_our_own_is_used_and_said(tmp_path: Path) -> None:
    schemas = load_schemas(roots=[])
    assert schemas.name == "passthrough.xsd (no libvirt schemas installed)"
    inputs = read_case("companions", tmp_path)
    assert render_domain(inputs, schemas).xml == render_domain(inputs, load_schemas()).xml


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'bus="0x19" slot="0x00"', b'bus="0x18" slot="0x00"', "0000:18:00.0 is that of ua-gpu-g"),
        (b'bus="0x19" slot="0x00"', b'bus="0x19" slot="0x03"', "on a pcie-root-port, which has"),
        (b'domain="0x0000" bus="0x19"', b'domain="0x0001" bus="0x19"', "in a PCI domain that no"),
    ],
    ids=["twice", "slot-of-port", "domain"],
)
def test_what_a_hostdev_came_with_and_libvirt_would_refuse_is_an_input_error(
    old: bytes, new: bytes, message: str, tmp_path: Path
) -> None:
    inputs = read_case("second-pass", tmp_path)
    wrong = inputs.domain_xml.replace(old, new)
    assert wrong != inputs.domain_xml
    with pytest.raises(InputError, match=message):
        render_domain(replace(inputs, domain_xml=wrong), load_schemas())


def test_a_fault_that_was_there_inside_an_adopted_hostdev_is_a_warning(tmp_path: Path) -> None:
    inputs = read_case("stock-sidecar", tmp_path)
    for wrong in (b'<hostdev model="vfio-pci" x="1" ', b"<hostdev "):
        domain = inputs.domain_xml.replace(b"<hostdev ", wrong)
        domain = domain.replace(b"<source>\n", b'<source odd="1">\n')
        rendered = render_domain(replace(inputs, domain_xml=domain), load_schemas(), explain=True)
        assert any("odd" in warning for warning in rendered.warnings)


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\r"),
    max_size=12,
)


@st.composite
def foreign_elements(draw: st.DrawFn, depth: int = 2) -> str:
    """An element that libvirt and we know nothing of, with a comment, text and children in it."""
    name = draw(NAMES)
    prefix = draw(st.sampled_from(["", "q:"]))
    text = draw(TEXT).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    inner = "".join(draw(st.lists(foreign_elements(depth - 1), max_size=2))) if depth else ""
    comment = draw(st.sampled_from(["", "<!-- kept -->", "<?kept too?>"]))
    return f"<{prefix}x-{name} a='1'>{text}{comment}{inner}</{prefix}x-{name}>"


@st.composite
def domains(draw: st.DrawFn) -> bytes:
    """A q35 domain with a few devices among foreign things."""
    known = [
        "<disk type='block' device='disk'><target dev='vda' bus='virtio'/></disk>",
        "<interface type='user'><model type='virtio'/></interface>",
        "<controller type='usb' index='0' model='none'/>",
        "<controller type='pci' index='0' model='pcie-root'/>",
        "<video><model type='vga'/></video>",
        "<hostdev type='pci' managed='no'><source><address type='pci' domain='0x0000' bus='0x3b'"
        " slot='0x00' function='0x0'/></source><alias name='ua-gpu-g'/></hostdev>",
    ]
    devices = draw(st.lists(st.sampled_from(known) | foreign_elements(), unique=True, max_size=8))
    machine = draw(st.sampled_from(["q35", "pc-q35-9.0"]))
    gap = draw(st.sampled_from(["", "\n", "\n    ", "\n\t\t"]))
    return (
        f"<domain type='kvm' xmlns:q='urn:q'>{gap}<name>x</name>{draw(foreign_elements())}"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>{gap}"
        f"<devices>{gap.join(['', *devices, ''])}</devices></domain>"
    ).encode()


FUNCTIONS = st.lists(
    st.builds(
        PciAddress,
        domain=st.just(0),
        bus=st.integers(0x80, 0x83),
        slot=st.integers(0, 1),
        function=st.integers(0, 7),
    ),
    unique=True,
    max_size=12,
)


@given(domains(), FUNCTIONS, st.sampled_from(["root-port", "root-bus"]), st.randoms())
def test_any_domain_keeps_what_is_not_ours_and_a_second_run_changes_nothing(
    xml: bytes, functions: list[PciAddress], layout: str, random: object
) -> None:
    def render(order: list[PciAddress], domain: bytes) -> bytes:
        value = ",".join(map(str, order))
        inputs = Inputs(
            domain_xml=domain,
            allocations=parse_allocations({"PCI_RESOURCE_X": value}),
            settings=Settings(layout=layout),  # type: ignore[arg-type]
        )
        return render_domain(inputs, load_schemas()).xml

    once = render(functions, xml)
    assert render(functions, once) == once
    assert canonical_without_ours(once, xml) == canonical_without_ours(xml, xml)
    shuffled = list(functions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert render(shuffled, xml) == once
    sources = etree.fromstring(once).findall("devices/hostdev/source/address")
    present = 1 if b"ua-gpu-g" in xml else 0
    assert len(sources) == len(functions) + present


VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=6) | (
    st.sampled_from(["-1", "0x", "zz", "99999999999999999999", "0x1f", "256", "", "0b1"])
)


@given(st.data())
def test_wrong_values_anywhere_are_refused_or_rendered_and_nothing_else(
    data: st.DataObject,
) -> None:
    root = etree.fromstring((CASES / "second-pass" / "domain.xml").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        element = data.draw(st.sampled_from([e for e in root.iter() if e.keys()]))
        name = data.draw(st.sampled_from(element.keys()))
        element.set(name, data.draw(VALUES))
    inputs = Inputs(
        etree.tostring(root), allocations=parse_allocations({"PCI_RESOURCE_X": "0000:a6:00.0"})
    )
    with suppress(HookError):
        once = render_domain(inputs, load_schemas()).xml
        assert render_domain(replace(inputs, domain_xml=once), load_schemas()).xml == once
