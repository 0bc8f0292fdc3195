"""qemu:commandline and qemu:override: once, wherever the namespace is declared, beside others'."""

import pytest
from lxml import etree

from launcher_hook.domain.aliases import find_lost_overrides
from launcher_hook.domain.document import parse_domain, print_domain
from launcher_hook.domain.qemu import put_overrides, put_told_to_ovmf, told_to_ovmf
from launcher_hook.settings import DeviceOptions

NS = "http://libvirt.org/schemas/domain/qemu/1.0"
DECLARED = f' xmlns:qemu="{NS}"'
TOLD = '<qemu:arg value="-fw_cfg"/><qemu:arg value="name=opt/ovmf/X-PciMmio64Mb,string=65536"/>'


def domain(inside: str = "", attributes: str = "") -> etree._Element:
    return parse_domain(f"<domain{attributes}>{inside}</domain>".encode()).getroot()


def with_arguments(*values: str) -> etree._Element:
    arguments = "".join(f'<qemu:arg value="{value}"/>' for value in values)
    return domain(f"<qemu:commandline>{arguments}</qemu:commandline>", f' xmlns:qemu="{NS}"')


def printed(root: etree._Element) -> str:
    return print_domain(root.getroottree(), b"").decode()


@pytest.mark.parametrize(
    "root",
    [domain(), domain(attributes=DECLARED), domain("<qemu:commandline/>", DECLARED)],
    ids=["undeclared", "declared", "empty"],
)  # fmt: skip
def test_ovmf_is_told_once(root: etree._Element) -> None:
    for _ in range(3):
        put_told_to_ovmf(root, 65536)
    assert list(told_to_ovmf(root)) == ["65536"]
    assert printed(root).count(TOLD) == 1
    assert printed(root).count(f'xmlns:qemu="{NS}"') == 1


def test_a_root_without_the_namespace_keeps_its_own_tag() -> None:
    root = domain("<name>x</name>")
    put_told_to_ovmf(root, 65536)
    assert printed(root).startswith("<domain><name>x</name><qemu:commandline xmlns:qemu=")


def test_arguments_of_others_stay_before_ours() -> None:
    root = with_arguments("-fw_cfg", "name=opt/x,file=/y", "-snapshot")
    put_told_to_ovmf(root, 65536)
    assert [arg.get("value") for arg in root[0]] == [
        "-fw_cfg", "name=opt/x,file=/y", "-snapshot", "-fw_cfg",
        "name=opt/ovmf/X-PciMmio64Mb,string=65536",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=1"), ["1"]),
        (("-fw_cfg", "opt/ovmf/X-PciMmio64Mb,string=1"), ["1"]),
        (("--fw_cfg", "string=1,name=opt/ovmf/X-PciMmio64Mb"), ["1"]),
        (("-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,file=/x"), ["file=/x"]),
        (("-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb"), ["?"]),
        (("-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=1") * 2, ["1", "1"]),
        (("-fw_cfg", "name=opt/ovmf/X-Other,string=1"), []),
        (("-name", "name=opt/ovmf/X-PciMmio64Mb,string=1"), []),
        (("-fw_cfg",), []),
        ((), []),
    ],
)
def test_what_others_tell_ovmf_is_read(values: tuple[str, ...], told: list[str]) -> None:
    assert list(told_to_ovmf(with_arguments(*values))) == told


def test_the_prefix_may_be_another_one() -> None:
    root = domain('<commandline xmlns="http://libvirt.org/schemas/domain/qemu/1.0">'
                  '<arg value="-fw_cfg"/><arg value="name=opt/ovmf/X-PciMmio64Mb,string=8"/>'
                  "</commandline>")  # fmt: skip
    assert list(told_to_ovmf(root)) == ["8"]
    put_told_to_ovmf(root, 8)
    assert len(root) == 1


def test_properties_are_written_once_and_beside_others() -> None:
    root = domain(
        '<qemu:override><qemu:device alias="ua-a"><qemu:frontend>'
        '<qemu:property name="x-vga" type="bool" value="false"/>'
        '<qemu:property name="x-other" type="string" value="y"/>'
        '</qemu:frontend></qemu:device><qemu:device alias="ua-c"/></qemu:override>',
        f' xmlns:qemu="{NS}"',
    )
    options = {
        "ua-a": DeviceOptions(x_vga="on", p2p_clique=15),
        "ua-b": DeviceOptions(x_vga="off"),
        "ua-c": DeviceOptions(boot_order=1),
    }
    for _ in range(2):
        put_overrides(root, options)
    found = {
        (p.getparent().getparent().get("alias"), p.get("name"), p.get("type"), p.get("value"))
        for p in root.iter(f"{{{NS}}}property")
    }
    assert found == {
        ("ua-a", "x-vga", "bool", "true"),
        ("ua-a", "x-other", "string", "y"),
        ("ua-a", "x-nv-gpudirect-clique", "unsigned", "15"),
        ("ua-b", "x-vga", "bool", "false"),
    }
    assert [d.get("alias") for d in root[0]] == ["ua-a", "ua-c", "ua-b"]


def test_without_such_an_option_nothing_is_written() -> None:
    root = domain()
    put_overrides(root, {"ua-a": DeviceOptions(boot_order=1, rom_bar="on")})
    assert printed(root) == "<domain/>"


@pytest.mark.parametrize(
    ("devices", "lost"),
    [
        ("", ["hostdev0", "hostdev1"]),
        ("<hostdev type='usb'/>", ["hostdev1"]),
        ("<hostdev type='usb'/><interface type='hostdev'/>", []),
        ("<hostdev type='usb'/><interface type='network'/>", []),
        ("<hostdev type='usb'/><hostdev type='pci'><alias name='ua-x'/></hostdev>", ["hostdev1"]),
        ("<hostdev type='usb'/><hostdev type='pci'><alias name='ua-x.1'/></hostdev>", []),
    ],
    ids=["none", "one", "interface", "network", "alias", "dropped-alias"],
)
def test_an_override_of_a_hostdev_that_is_not_there_is_warned_of(
    devices: str, lost: list[str]
) -> None:
    root = etree.fromstring(
        f"<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><devices>{devices}"
        "</devices><qemu:override><qemu:device alias='hostdev0'/><qemu:device alias='hostdev1'/>"
        "<qemu:device alias='net0'/></qemu:override></domain>"
    )
    warnings = list(find_lost_overrides(root))
    assert [warning.split("'")[1] for warning in warnings] == lost
