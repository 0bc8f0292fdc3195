"""Checking an edit: what we brought is refused, what was there before us is only reported."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest
from cases import pinned_schemas
from lxml import etree

from launcher_hook.errors import InputError, SchemaError
from launcher_hook.schema import (
    Fault,
    SchemaSet,
    check_written,
    load_schemas,
    look_before,
    named_faults,
)

PORT = (
    "<controller type='pci' index='24' model='pcie-root-port'>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/></controller>"
)
HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/></source>
  <alias name='ua-gpu-1'/>
  <address type='pci' domain='0x0000' bus='0x18' slot='0x00' function='0x0'/>
</hostdev>"""
RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
BROKEN = "<rng model='florp'><backend model='random'>/dev/urandom</backend></rng>"


@pytest.fixture(params=["9.0.0", "11.3.0", "xsd"])
def schemas(request: pytest.FixtureRequest) -> SchemaSet:
    return load_schemas(roots=()) if request.param == "xsd" else pinned_schemas(request.param)


@pytest.fixture(params=["9.0.0", "11.3.0"])
def libvirt_schemas(request: pytest.FixtureRequest) -> SchemaSet:
    return pinned_schemas(request.param)


def domain_with(*devices: str) -> etree._Element:
    return etree.fromstring(
        "<domain type='kvm'><name>x</name><memory>1024</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        f"<devices>{''.join(devices)}</devices></domain>"
    )


def check(
    written: Sequence[etree._Element],
    before: etree._Element,
    after: etree._Element,
    schemas: SchemaSet,
    explain: bool = True,
) -> tuple[Fault, ...]:
    return check_written(written, look_before(before, schemas, explain=explain), after, schemas)


def written_in(root: etree._Element) -> list[etree._Element]:
    return [element for element in root[-1] if element.tag in ("hostdev", "controller")]


def test_a_good_edit_has_no_warnings(schemas: SchemaSet) -> None:
    after = domain_with(RNG, PORT, HOSTDEV)
    assert check(written_in(after), domain_with(RNG), after, schemas) == ()


def test_what_was_invalid_before_us_is_explained_only_on_request(
    libvirt_schemas: SchemaSet,
) -> None:
    before, after = domain_with(BROKEN), domain_with(BROKEN, PORT, HOSTDEV)
    assert check(written_in(after), before, after, libvirt_schemas, explain=False) == ()
    (warning,) = check(written_in(after), before, after, libvirt_schemas, explain=True)
    assert warning.path == "/domain/devices/rng/@model"


@pytest.mark.parametrize(
    ("old", "new"),
    [("'0x3b'", "'3b'"), ("'pci' managed", "'pcii' managed"), ("source", "sorce")],
    ids=["value", "type", "child"],
)
@pytest.mark.parametrize("rest", [RNG, BROKEN], ids=["valid-before", "invalid-before"])
def test_a_wrong_hostdev_of_ours_is_our_bug(
    schemas: SchemaSet, rest: str, old: str, new: str
) -> None:
    after = domain_with(rest, PORT, HOSTDEV.replace(old, new))
    with pytest.raises(SchemaError, match="/domain/devices/hostdev"):
        check(written_in(after), domain_with(rest), after, schemas)


def test_a_wrong_controller_of_ours_is_our_bug(schemas: SchemaSet) -> None:
    after = domain_with(BROKEN, PORT.replace("'24'", "'x'"))
    with pytest.raises(SchemaError, match="/domain/devices/controller/@index"):
        check(written_in(after), domain_with(BROKEN), after, schemas)


@pytest.mark.parametrize(
    "kept",
    ["<florp/>", "<driver name='florp'/>", "<boot order='0'/>", "<rom bar='maybe'/>"],
    ids=["unknown-child", "driver", "boot", "rom"],
)
def test_parts_that_the_launcher_put_into_our_hostdev_are_warnings(
    schemas: SchemaSet, kept: str
) -> None:
    before = domain_with(HOSTDEV.replace("</hostdev>", f"{kept}</hostdev>"), PORT)
    after = deepcopy(before)
    (warning, *_) = check(written_in(after), before, after, schemas)
    assert warning.path.startswith("/domain/devices/hostdev/")


def test_display_on_a_pci_hostdev_is_not_our_fault(schemas: SchemaSet) -> None:
    before = domain_with(HOSTDEV.replace("managed", "display='on' ramfb='on' managed"), PORT)
    after = deepcopy(before)
    warnings = check(written_in(after), before, after, schemas)
    # libvirt 9.0.0 does not know them there.
    assert len(warnings) == (2 if schemas.name == "libvirt 9.0.0" else 0)


def test_a_rule_that_we_break_is_our_bug(schemas: SchemaSet) -> None:
    disk = "<disk><address type='pci' bus='0x18'/></disk>"
    before, after = domain_with(PORT, disk), domain_with(PORT, disk, HOSTDEV)
    with pytest.raises(SchemaError, match=r"guest address 0000:18:00\.0 is given to 2 devices"):
        check(written_in(after), before, after, schemas)


def test_what_our_device_came_with_and_libvirt_would_refuse_is_bad_input(
    schemas: SchemaSet,
) -> None:
    disk = "<disk><address type='pci' bus='0x18'/></disk>"
    before = domain_with(PORT, disk, HOSTDEV)
    after = deepcopy(before)
    after[-1][2].set("managed", "no")
    with pytest.raises(InputError, match="0000:18:00.0 is given to 2 devices; give each of them"):
        check([after[-1][2]], before, after, schemas)


def test_what_our_device_came_with_and_libvirt_lets_pass_is_a_warning(schemas: SchemaSet) -> None:
    before = domain_with(HOSTDEV)
    after = deepcopy(before)
    after[-1][0].set("managed", "no")
    (warning,) = check([after[-1][0]], before, after, schemas)
    assert warning.rule == "bus-without-controller"


def test_a_rule_broken_by_others_is_a_warning(schemas: SchemaSet) -> None:
    other = HOSTDEV.replace("0x18", "0x09").replace("0x3b", "0xaf").replace("gpu-1", "gpu-2")
    before, after = domain_with(), domain_with(PORT, HOSTDEV, other)
    ours = written_in(after)[:2]
    (warning,) = check(ours, before, after, schemas)
    assert warning.rule == "bus-without-controller"


def test_a_document_that_we_made_invalid_is_our_bug(libvirt_schemas: SchemaSet) -> None:
    with pytest.raises(SchemaError, match="/domain/devices/rng/@model: model 'florp' is not one"):
        check((), domain_with(RNG), domain_with(BROKEN), libvirt_schemas)


def test_all_that_is_wrong_stands_in_the_refusal(schemas: SchemaSet) -> None:
    wrong = HOSTDEV.replace("'0x3b'", "'3b'").replace("'yes'", "'true'")
    after = domain_with(PORT, wrong)
    with pytest.raises(SchemaError, match=r"(?s)@managed.*\(and \d more: .*@bus"):
        check(written_in(after), domain_with(), after, schemas)


# What it demands of a source is beyond the fault finder, which takes a <list> for any text.
UNNAMEABLE = """<grammar xmlns="http://relaxng.org/ns/structure/1.0"
    datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
  <start><ref name="domain"/></start>
  <define name="domain"><element name="domain">
    <attribute name="type"/>
    <element name="name"><text/></element>
    <element name="memory"><text/></element>
    <element name="os"><element name="type">
      <attribute name="arch"/><attribute name="machine"/><text/></element></element>
    <element name="devices"><zeroOrMore><choice>
      <ref name="hostdev"/><ref name="controller"/></choice></zeroOrMore></element>
  </element></define>
  <define name="address"><element name="address">
    <optional><attribute name="type"/></optional>
    <attribute name="domain"/><attribute name="bus"/>
    <attribute name="slot"/><attribute name="function"/>
  </element></define>
  <define name="controller"><element name="controller">
    <attribute name="type"/><attribute name="index"/><attribute name="model"/>
    <ref name="address"/>
  </element></define>
  <define name="hostdev"><element name="hostdev">
    <attribute name="mode"/><attribute name="type"/><attribute name="managed"/>
    <element name="source"><ref name="address"/></element>
    <element name="alias"><attribute name="name">
      <list><data type="token"/><data type="token"/></list></attribute></element>
    <ref name="address"/>
  </element></define>
</grammar>"""


def test_a_fault_that_cannot_be_named_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "libvirt" / "99.0.0").mkdir(parents=True)
    (tmp_path / "libvirt" / "99.0.0" / "domain.rng").write_text(UNNAMEABLE)
    schemas = load_schemas("99.0.0", [tmp_path])
    after = domain_with(PORT, HOSTDEV)
    before = domain_with()
    assert schemas.document_valid(before)
    assert not schemas.document_valid(after)
    warnings = check(written_in(after), before, after, schemas)
    assert [warning.rule for warning in warnings] == ["unnamed", "unnamed"]
    assert named_faults(warnings) == ()
    wrong = domain_with(PORT, HOSTDEV.replace("<source>", "<source/><source>"))
    with pytest.raises(SchemaError, match="once too often"):
        check(written_in(wrong), before, wrong, schemas)
