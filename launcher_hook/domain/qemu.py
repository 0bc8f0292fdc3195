"""What libvirt has no words for and hands to QEMU: ``qemu:commandline`` and ``qemu:override``.

libvirt looks for both by namespace, wherever that is declared (conf/virdomain's XPath), and so do
KubeVirt's readers. lxml cannot add a declaration to a root that has none, and making a new root
would touch what is not ours: where the root lacks it, our element brings its own. libvirt writes
it on the root when it prints the domain.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from lxml import etree

from launcher_hook.domain.document import Element
from launcher_hook.domain.layout import insert
from launcher_hook.settings import DeviceOptions

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"

_FILE = "opt/ovmf/X-PciMmio64Mb"
_NAMES = {"qemu": QEMU_NAMESPACE}


def _tag(name: str) -> str:
    return f"{{{QEMU_NAMESPACE}}}{name}"


def command_line(root: Element) -> list[str]:
    """What the domain adds to QEMU's command line, word by word."""
    return [arg.get("value", "") for arg in root.iterfind("./qemu:commandline/qemu:arg", _NAMES)]


def told_to_ovmf(root: Element) -> Iterator[str]:
    """The size in MiB that the domain's command line tells OVMF, each time that it does."""
    for option, value in pairwise(command_line(root)):
        if option.lstrip("-") == "fw_cfg":
            # QemuOpts: the first part may go without its name.
            parts = value.split(",")
            name = parts[0].removeprefix("name=")
            if name == _FILE or f"name={_FILE}" in parts:
                texts = [part for part in parts if part.startswith(("string=", "file="))]
                yield texts[0].removeprefix("string=") if texts else "?"


def put_told_to_ovmf(root: Element, mib: int) -> None:
    """Tell OVMF the size, once."""
    if str(mib) in told_to_ovmf(root):
        return
    commandline = root.find("./qemu:commandline", _NAMES)
    fresh = commandline is None
    if commandline is None:
        commandline = etree.Element(_tag("commandline"), nsmap=_NAMES)
    for value in ("-fw_cfg", f"name={_FILE},string={mib}"):
        argument = etree.Element(_tag("arg"), value=value)
        if fresh:
            commandline.append(argument)
        else:
            insert(commandline, argument, _last(commandline))
    if fresh:
        insert(root, commandline, None)


def overridden_devices(root: Element) -> list[Element]:
    """The devices of ``qemu:override``, each of which names one by its alias."""
    return root.findall("./qemu:override/qemu:device", _NAMES)


def put_overrides(root: Element, options: Mapping[str, DeviceOptions]) -> None:
    """Write the properties that libvirt has no words for, of each device by its alias."""
    for alias, asked in options.items():
        for name, kind, value in _properties(asked):
            _put_property(root, alias, name, kind, value)


def _properties(options: DeviceOptions) -> Iterator[tuple[str, str, str]]:
    if options.x_vga is not None:
        yield "x-vga", "bool", "true" if options.x_vga == "on" else "false"
    if options.p2p_clique is not None:
        yield "x-nv-gpudirect-clique", "unsigned", str(options.p2p_clique)


def _put_property(root: Element, alias: str, name: str, kind: str, value: str) -> None:
    override = root.find("./qemu:override", _NAMES)
    if override is None:
        override = insert(root, etree.Element(_tag("override"), nsmap=_NAMES), None)
    device = _child(override, "device", "alias", alias)  # of several libvirt takes the last word
    frontend = device.find("./qemu:frontend", _NAMES)
    if frontend is None:
        frontend = insert(device, etree.Element(_tag("frontend")), None)
    found = _child(frontend, "property", "name", name)
    found.set("type", kind)
    found.set("value", value)


def _child(parent: Element, tag: str, attribute: str, value: str) -> Element:
    for child in reversed(parent.findall(f"./qemu:{tag}", _NAMES)):
        if child.get(attribute) == value:
            return child
    return insert(parent, etree.Element(_tag(tag), {attribute: value}), _last(parent))


def _last(parent: Element) -> Element | None:
    return parent[-1] if len(parent) else None
