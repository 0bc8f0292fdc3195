# ruff: noqa: E501 (a table is read by line)
"""The fault finder: which element and attribute it names where libxml2 only refuses."""

import time
from itertools import permutations
from pathlib import Path

import pytest
from cases import pinned_schemas
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from launcher_hook.schema import SchemaSet

REAL_DOMAINS = Path(__file__).parents[2] / "shared" / "kubevirt-domains"

PCI = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x1'/></source>
  <alias name='ua-gpu-1'/><boot order='1'/><rom bar='on' file='/gpu.rom'/>
  <address type='pci' domain='0x0000' bus='0x18' slot='0x00' function='0x0' multifunction='on'/>
</hostdev>"""
MDEV = """<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci' display='off'>
  <source><address uuid='4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10'/></source>
  <alias name='ua-vgpu'/>
</hostdev>"""
PORT = """<controller type='pci' index='24' model='pcie-root-port'>
  <target chassis='24' port='0x80'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/>
</controller>"""
EXPANDER = """<controller type='pci' index='9' model='pcie-expander-bus'>
  <target busNr='254'><node>1</node></target>
</controller>"""
TEAM = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <driver name='vfio'/><teaming type='transient' persistent='ua-nic'/>
  <source><address domain='0x0000' bus='0x65' slot='0x00' function='0x2'/></source>
  <alias name='ua-vf'/>
</hostdev>"""
DEVICES = {"pci": PCI, "mdev": MDEV, "port": PORT, "expander": EXPANDER, "team": TEAM}

# Device, what is replaced, by what, and where the fault must be found.
MUTATIONS = {
    "hostdev-type-misspelled": ("pci", "'pci' man", "'pcii' man", "/@type"),
    "hostdev-type-missing": ("pci", "type='pci' man", "man", ""),
    "hostdev-type-upper-case": ("pci", "'pci' man", "'PCI' man", "/@type"),
    "hostdev-type-empty": ("pci", "'pci' man", "'' man", "/@type"),
    "hostdev-mode-misspelled": ("pci", "subsystem", "subsys", "/@mode"),
    "hostdev-mode-attribute-misspelled": ("pci", "mode=", "mod=", "/@mod"),
    "hostdev-type-attribute-misspelled": ("pci", "type='pci' man", "tipe='pci' man", "/@tipe"),
    "managed-true": ("pci", "'yes'", "'true'", "/@managed"),
    "managed-misspelled": ("pci", "managed", "manged", "/@manged"),
    "hostdev-unknown-attribute": ("pci", "managed=", "florp='1' managed=", "/@florp"),
    "hostdev-model-on-pci": ("pci", "managed=", "model='vfio-pci' managed=", "/@model"),
    "hostdev-source-misspelled": ("pci", "source", "sorce", "/sorce"),
    "hostdev-source-twice": ("pci", "<alias", "<source><address/></source><alias", "/source[2]"),
    "hostdev-source-attribute": ("pci", "<source>", "<source florp='1'>", "/source/@florp"),
    "hostdev-source-text": ("pci", "<source>", "<source>0000:3b:00.1", "/source"),
    "source-address-type": ("pci", "<address domain", "<address type='pci' domain", "/source/address/@type"),
    "source-address-uuid": ("pci", "<address domain", "<address uuid='1' domain", "/source/address/@uuid"),
    "source-domain-word": ("pci", "domain='0x0000' bus='0x3b'", "domain='zero' bus='0x3b'", "/source/address/@domain"),
    "source-bus-not-hex": ("pci", "'0x3b'", "'3b'", "/source/address/@bus"),
    "source-bus-too-high": ("pci", "'0x3b'", "'0x13b'", "/source/address/@bus"),
    "source-bus-misspelled": ("pci", "bus='0x3b'", "buss='0x3b'", "/source/address/@buss"),
    "source-slot-too-high": ("pci", "slot='0x00' function='0x1'", "slot='0x20' function='0x1'", "/source/address/@slot"),
    "source-slot-negative": ("pci", "slot='0x00' function='0x1'", "slot='-1' function='0x1'", "/source/address/@slot"),
    "source-function-too-high": ("pci", "'0x1'", "'0x8'", "/source/address/@function"),
    "source-function-empty": ("pci", "'0x1'", "''", "/source/address/@function"),
    "source-address-twice": ("pci", "</source>", "<address/></source>", "/source/address[2]"),
    "source-address-missing": ("team", "<address domain='0x0000' bus='0x65' slot='0x00' function='0x2'/>", "", "/source"),
    "source-address-has-child": ("pci", "'0x1'/>", "'0x1'><zpci/></address>", "/source/address/zpci"),
    "source-address-as-text": ("mdev", "<address uuid='4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10'/>", "uuid", "/source"),
    "alias-with-space": ("pci", "ua-gpu-1", "ua gpu", "/alias/@name"),
    "alias-empty": ("pci", "ua-gpu-1", "", "/alias/@name"),
    "alias-without-name": ("pci", " name='ua-gpu-1'", "", "/alias"),
    "alias-as-text": ("pci", "<alias name='ua-gpu-1'/>", "<alias name='ua-g'>x</alias>", "/alias"),
    "alias-twice": ("pci", "<boot", "<alias name='ua-b'/><boot", "/alias[2]"),
    "alias-misspelled": ("pci", "<alias", "<allias", "/allias"),
    "boot-order-zero": ("pci", "order='1'", "order='0'", "/boot/@order"),
    "boot-order-hex": ("pci", "order='1'", "order='0x1'", "/boot/@order"),
    "boot-without-order": ("pci", " order='1'", "", "/boot"),
    "boot-dev": ("pci", "order='1'", "order='1' dev='hd'", "/boot/@dev"),
    "rom-bar-yes": ("pci", "bar='on'", "bar='yes'", "/rom/@bar"),
    "rom-file-relative": ("pci", "/gpu.rom", "gpu.rom", "/rom/@file"),
    "rom-in-source": ("pci", "</source>", "<rom bar='on'/></source>", "/source/rom"),
    "guest-address-type-missing": ("pci", "<address type='pci' d", "<address d", "/address"),
    "guest-address-type-misspelled": ("pci", "<address type='pci' d", "<address type='pcie' d", "/address/@type"),
    "guest-bus-word": ("pci", "'0x18'", "'pcie.0'", "/address/@bus"),
    "guest-slot-too-high": ("pci", "bus='0x18' slot='0x00'", "bus='0x18' slot='0x2a'", "/address/@slot"),
    "guest-function-word": ("pci", "function='0x0' m", "function='zero' m", "/address/@function"),
    "guest-multifunction-yes": ("pci", "multifunction='on'", "multifunction='yes'", "/address/@multifunction"),
    "guest-multifunction-misspelled": ("pci", "multifunction", "multi-function", "/address/@multi-function"),
    "guest-address-misspelled": ("port", "<address", "<adress", "/adress"),
    "guest-address-unknown-attribute": ("pci", "multifunction='on'", "node='1'", "/address/@node"),
    "guest-address-twice": ("pci", "</hostdev>", "<address type='pci'/></hostdev>", "/address[2]"),
    "hostdev-unknown-child": ("pci", "<boot", "<florp/><boot", "/florp"),
    "hostdev-child-of-controller": ("pci", "<boot", "<target chassis='1'/><boot", "/target"),
    "hostdev-text": ("pci", "<boot", "0000:3b:00.0<boot", ""),
    "mdev-model-missing": ("mdev", "model='vfio-pci' ", "", ""),
    "mdev-model-misspelled": ("mdev", "vfio-pci", "vfio_pci", "/@model"),
    "mdev-uuid-too-short": ("mdev", "4fac1d3e-", "", "/source/address/@uuid"),
    "mdev-uuid-misspelled": ("mdev", "uuid", "uid", "/source/address/@uid"),
    "mdev-uuid-missing": ("mdev", " uuid='4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10'", "", "/source/address"),
    "mdev-display-yes": ("mdev", "'off'", "'yes'", "/@display"),
    "mdev-type-misspelled": ("mdev", "'mdev'", "'mdv'", "/@type"),
    "mdev-driver": ("mdev", "<alias", "<driver name='vfio'/><alias", "/driver"),
    "driver-name-misspelled": ("team", "'vfio'", "'vfoi'", "/driver/@name"),
    "driver-unknown-attribute": ("team", "'vfio'", "'vfio' queues='1'", "/driver/@queues"),
    "teaming-type-misspelled": ("team", "transient", "transent", "/teaming/@type"),
    "teaming-persistent-missing": ("team", " persistent='ua-nic'", "", "/teaming"),
    "controller-type-misspelled": ("port", "'pci' i", "'pcie' i", "/@type"),
    "controller-type-missing": ("port", "type='pci' i", "i", ""),
    "controller-model-misspelled": ("port", "pcie-root-port", "pcie-rootport", "/@model"),
    "controller-model-of-usb": ("port", "pcie-root-port", "qemu-xhci", "/@model"),
    "controller-model-missing": ("port", " model='pcie-root-port'", "", ""),
    "controller-index-hex": ("port", "index='24'", "index='0x18'", "/@index"),
    "controller-index-negative": ("port", "index='24'", "index='-1'", "/@index"),
    "controller-ports": ("port", "index='24'", "index='24' ports='4'", "/@ports"),
    "target-chassis-too-high": ("port", "chassis='24'", "chassis='256'", "/target/@chassis"),
    "target-port-not-hex": ("port", "'0x80'", "'8x'", "/target/@port"),
    "target-hotplug-yes": ("port", "port='0x80'", "hotplug='yes'", "/target/@hotplug"),
    "target-misspelled": ("port", "<target", "<traget", "/traget"),
    "target-twice": ("port", "<target", "<target/><target", "/target[2]"),
    "target-unknown-attribute": ("port", "port='0x80'", "bus='1'", "/target/@bus"),
    "expander-busnr-too-high": ("expander", "'254'", "'300'", "/target/@busNr"),
    "expander-busnr-lower-case": ("expander", "busNr", "busnr", "/target/@busnr"),
    "expander-node-word": ("expander", ">1<", ">one<", "/target/node"),
    "expander-node-empty": ("expander", ">1<", "><", "/target/node"),
    "expander-node-beside-target": ("expander", "<target busNr='254'><node>1</node></target>", "<node>1</node>", "/node"),
    "expander-node-attribute": ("expander", "<node>", "<node id='1'>", "/target/node/@id"),
    "controller-pcihole64-on-port": ("port", "<target", "<pcihole64>1</pcihole64><target", "/pcihole64"),
    "controller-unknown-child": ("port", "<target", "<florp/><target", "/florp"),
    "controller-text": ("port", "<target", "port 24<target", ""),
}  # fmt: skip


@pytest.fixture(params=["9.0.0", "11.3.0"])
def schemas(request: pytest.FixtureRequest) -> SchemaSet:
    return pinned_schemas(request.param)


def domain_with(*devices: str) -> etree._Element:
    return etree.fromstring(
        "<domain type='kvm'><name>x</name><memory>1024</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        f"<devices>{''.join(devices)}</devices></domain>"
    )


def only_device(root: etree._Element) -> etree._Element:
    return root[-1][0]


@pytest.mark.parametrize("device", DEVICES)
def test_a_valid_device_has_no_faults(schemas: SchemaSet, device: str) -> None:
    root = domain_with(DEVICES[device])
    element = only_device(root)
    assert schemas.fragment_faults(element, element.tag) == ()
    assert schemas.document_valid(root)
    assert schemas.document_faults(root) == ()


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_fault_is_found_where_it_was_made(
    schemas: SchemaSet, mutation: tuple[str, str, str, str]
) -> None:
    device, old, new, place = mutation
    assert old in DEVICES[device]
    root = domain_with(DEVICES[device].replace(old, new))
    element = only_device(root)
    expected = f"/domain/devices/{element.tag}{place}"
    assert {fault.path for fault in schemas.fragment_faults(element, element.tag)} == {expected}
    assert not schemas.document_valid(root)
    assert {fault.path for fault in schemas.document_faults(root)} == {expected}


@pytest.mark.parametrize(
    ("mutation", "words"),
    [
        ("hostdev-type-misspelled", r"type 'pcii' is not one of pci, usb, scsi, .*; write 'pci'"),
        ("hostdev-type-missing", r"attribute 'type' is missing .*; add type= with one of pci, usb"),
        ("managed-true", r"managed 'true' is not yes or no"),
        ("managed-misspelled", r"attribute 'manged' is not known in <hostdev>; write 'managed'"),
        ("hostdev-source-misspelled", r"<sorce> is not known in <hostdev>; write <source>"),
        ("hostdev-model-on-pci", r"'model' is not allowed .* with mode='subsystem' type='pci'; re"),
        ("guest-slot-too-high", r"slot '0x2a' is not allowed here; write 0x00 to 0x1f"),
        ("source-bus-not-hex", r"bus '3b' is not allowed here; write 0x00 to 0xff"),
        ("source-function-too-high", r"write 0x0 to 0x7"),
        ("alias-twice", r"<alias> stands in <hostdev> once too often; keep one"),
        ("mdev-model-missing", r"'model' is missing .* type='mdev'; add model= with one of vfio-p"),
        ("mdev-uuid-too-short", r"write a UUID, e\.g\."),
        ("controller-model-misspelled", r"; write 'pcie-root-port'"),
        ("expander-node-beside-target", r"<node> is not known .*; move it into <target>"),
        ("hostdev-text", r"text '0000:3b:00\.0' stands in <hostdev>, which takes none; remove it"),
        ("alias-empty", r"write letters, digits, '_', '-' and '\.'"),
    ],
)
def test_the_fault_says_what_to_do(schemas: SchemaSet, mutation: str, words: str) -> None:
    device, old, new, _ = MUTATIONS[mutation]
    element = only_device(domain_with(DEVICES[device].replace(old, new)))
    (fault,) = schemas.fragment_faults(element, element.tag)
    assert fault.line is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(str(fault))


def test_independent_faults_are_all_reported_in_document_order(schemas: SchemaSet) -> None:
    broken = (
        PCI.replace("'0x3b'", "'3b'"),
        PORT.replace("'0x80'", "'x'"),
        MDEV.replace("uuid", "id"),
    )
    paths = [fault.path for fault in schemas.document_faults(domain_with(*broken))]
    assert paths == [
        "/domain/devices/hostdev[1]/source/address/@bus",
        "/domain/devices/controller/target/@port",
        "/domain/devices/hostdev[2]/source/address/@id",
        *paths[3:],
    ]


def test_a_hostdev_without_mode_is_what_libvirt_allows(schemas: SchemaSet) -> None:
    element = only_device(domain_with(PCI.replace("mode='subsystem' ", "")))
    assert schemas.fragment_faults(element) == ()


def test_an_element_of_another_name_is_refused(schemas: SchemaSet) -> None:
    (fault,) = schemas.fragment_faults(only_device(domain_with(PORT)), "hostdev")
    assert fault.path == "/domain/devices/controller"
    assert not schemas.document_valid(only_device(domain_with(PCI)))


def test_checking_leaves_the_tree_as_it_is(schemas: SchemaSet) -> None:
    root = domain_with(PCI, PORT.replace("index='24'", "index='x'"))
    before = etree.tostring(root)
    for element in root[-1]:
        schemas.fragment_faults(element, element.tag)
        assert element.getparent() is root[-1]
    schemas.document_faults(root)
    assert etree.tostring(root) == before


@pytest.mark.parametrize(
    "text",
    [
        "<domain/>",
        "<domain type='kvm'><!-- c --><?pi x?></domain>",
        "<florp xmlns='urn:x'><domain/></florp>",
        "<domain xmlns='urn:x'/>",
        "<domain type='kvm'><q:commandline xmlns:q='urn:q'><q:arg value='x'/></q:commandline></domain>",
        f"<domain>{'<devices>' * 200}{'</devices>' * 200}</domain>",
        "<domain><devices><disk>" + "<backingStore>" * 200 + "</backingStore>" * 200
        + "</disk></devices></domain>",
    ],
    ids=["empty", "comments", "wrong-root", "namespace", "extension", "deep", "deep-recursive"],
)  # fmt: skip
def test_any_well_formed_document_gets_faults_not_an_exception(
    schemas: SchemaSet, text: str
) -> None:
    assert schemas.document_faults(etree.fromstring(text))


words = st.sampled_from(
    ["hostdev", "controller", "source", "address", "alias", "disk", "driver", "target", "florp"]
)
names = st.sampled_from(["type", "mode", "model", "name", "bus", "slot", "index", "file", "x"])
values = st.sampled_from(["pci", "mdev", "subsystem", "0x00", "1", "", "file", "-1", "é"])


def _element(name: str, attributes: dict[str, str], children: list[etree._Element]) -> bytes:
    element = etree.Element(name, attributes)
    element.extend(etree.fromstring(child) for child in children)
    return etree.tostring(element)


trees = st.recursive(
    st.builds(_element, words, st.dictionaries(names, values, max_size=4), st.just([])),
    lambda children: st.builds(
        _element,
        words,
        st.dictionaries(names, values, max_size=4),
        st.lists(children, max_size=4),
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(devices=st.lists(trees, max_size=4))
def test_faults_are_found_exactly_where_libxml2_refuses(
    schemas: SchemaSet, devices: list[bytes]
) -> None:
    root = domain_with(*(device.decode() for device in devices))
    faults = schemas.document_faults(root)
    assert bool(faults) is not schemas.document_valid(root)
    for fault in faults:
        assert root.getroottree().xpath(fault.path), fault
        assert "no reason that we can name" not in fault.what


DRIVEN = {
    "source": "<source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/></source>",
    "driver": "<driver name='vfio'/>",
    "alias": "<alias name='ua-gpu-1'/>",
    "address": "<address type='pci' domain='0x0000' bus='0x18' slot='0x00' function='0x0'/>",
}


@pytest.mark.parametrize("mode", ["", "mode='subsystem'"])
@pytest.mark.parametrize("order", list(permutations(DRIVEN)), ids="-".join)
def test_the_children_of_a_hostdev_stand_in_any_order(
    schemas: SchemaSet, order: tuple[str, ...], mode: str
) -> None:
    """KubeVirt writes <driver> behind <alias>, where libxml2 refuses it and libvirt does not."""
    children = "".join(DRIVEN[name] for name in order)
    root = domain_with(f"<hostdev {mode} type='pci' managed='no'>{children}</hostdev>")
    assert schemas.document_faults(root) == ()
    assert schemas.fragment_faults(root[-1][0]) == ()
    children = children.replace("name='vfio'", "name='florp'")
    root = domain_with(f"<hostdev {mode} type='pci' managed='no'>{children}</hostdev>")
    (fault,) = schemas.document_faults(root)
    assert fault.path == "/domain/devices/hostdev/driver/@name"


def test_a_large_document_takes_seconds_at_most(schemas: SchemaSet) -> None:
    root = domain_with(*[PCI.replace("'0x3b'", "'3b'"), PORT, MDEV] * 80)
    assert len(etree.tostring(root)) > 50_000
    start = time.monotonic()
    assert len(schemas.document_faults(root)) == 80
    assert time.monotonic() - start < 10  # 1 s on an idle machine


@pytest.mark.skipif(not REAL_DOMAINS.is_dir(), reason="needs ../shared/kubevirt-domains")
def test_the_faults_of_a_real_launcher_domain_are_named(schemas: SchemaSet) -> None:
    root = etree.parse(REAL_DOMAINS / "v-sriov-2.xml").getroot()
    assert [fault.path for fault in schemas.document_faults(root)] == [
        "/domain/sysinfo/bios",
        "/domain/sysinfo/baseBoard",
        "/domain/sysinfo/chassis",
        "/domain/devices/hostdev[1]/source/address/@type",
        "/domain/devices/hostdev[2]/source/address/@type",
    ]


@pytest.mark.skipif(not REAL_DOMAINS.is_dir(), reason="needs ../shared/kubevirt-domains")
def test_every_real_domain_is_invalid_for_reasons_that_can_be_named(schemas: SchemaSet) -> None:
    for path in sorted(REAL_DOMAINS.glob("*.xml")):
        faults = schemas.document_faults(etree.parse(path).getroot())
        assert faults, path
        assert not any("no reason that we can name" in fault.what for fault in faults), path
