"""Compares domains without what is ours to write, independently of how the program finds it."""

import re

from lxml import etree

_PARTS = ("domain", "bus", "slot", "function")

_FIRST = 24
"""Of the controllers that we make: from here on those of an earlier pass may be completed."""

_QEMU = {"q": "http://libvirt.org/schemas/domain/qemu/1.0"}

_MODELS = (
    "pcie-root-port",
    "pcie-expander-bus",
    "pcie-switch-upstream-port",
    "pcie-switch-downstream-port",
    "pcie-to-pci-bridge",
)


def canonical_without_ours(xml: bytes, original: bytes, rendered: bytes | None = None) -> str:
    """Canonical XML less PCI and mdev hostdevs, less the controllers that were not there before.

    Only what carries our devices may be new (root ports, expander buses, switches), and a
    pcie-to-pci-bridge where libvirt would add one by itself.

    A root port of an earlier pass that carries one of those hostdevs may be completed, so its
    target and ``multifunction`` are left out; its index, model and address are not. With
    ``rendered``, so may one that carries one of those there or in ``original``.
    """
    had = _port_indexes(etree.fromstring(original))
    root = etree.fromstring(xml)
    buses = _buses(root)
    if rendered is not None:
        buses |= _buses(etree.fromstring(original)) | _buses(etree.fromstring(rendered))
    devices = root.find("devices")
    _name_overrides_by_source(root, etree.fromstring(original))
    for hostdev in _hostdevs(root):
        _drop(hostdev)
    for controller in _ports(root):
        index = controller.get("index", "")
        if index not in had:
            _drop(controller)
        elif _number(index) in buses or _number(index) >= _FIRST:
            for target in controller.findall("./target"):
                _drop(target)
            for address in controller.findall("./address"):
                numbers = {part: _number(address.get(part)) for part in _PARTS}
                address.attrib.clear()
                address.attrib.update({part: str(number) for part, number in numbers.items()})
    _drop_hole(root, etree.fromstring(original))
    _drop_qemu(root, etree.fromstring(original))
    if devices is not None and not len(devices):
        devices.text = None
        if etree.fromstring(original).find("devices") is None:
            _drop(devices)
    for element in root.iter():
        element.text = (element.text or "").strip() or None
        element.tail = (element.tail or "").strip() or None
    try:
        return etree.tostring(root.getroottree(), method="c14n").decode()
    except etree.C14NError:  # a namespace that is no URI
        return etree.tostring(root.getroottree(), method="c14n2").decode()


def _name_overrides_by_source(root: etree._Element, original: etree._Element) -> None:
    """An override follows its device: what counts is the device, whatever its alias."""
    had = set(_sources_by_name(original).values())
    names = _sources_by_name(root)
    for override in root.iterfind("./q:override/q:device", _QEMU):
        source = names.get(override.get("alias", ""))
        if source in had:
            override.set("alias", source)


def _sources_by_name(root: etree._Element) -> dict[str, str]:
    """The host device of each passed-through one, by libvirt's name and by an alias it drops."""
    names: dict[str, str] = {}
    number = 0
    for path in ("./devices/interface[@type='hostdev']", "./devices/hostdev"):
        for device in root.iterfind(path):
            alias = device.find("./alias")
            name = "" if alias is None else alias.get("name", "")
            source = "".join(
                f" {key}={value.lower()}"
                for address in device.iterfind("./source/*")
                for key, value in sorted(address.attrib.items())
                if key != "type"
            )
            if re.fullmatch("ua-[A-Za-z0-9_-]+", name):
                names[name] = source
            else:
                names[f"hostdev{number}"] = source
                if name:
                    names.setdefault(name, source)
                number += 1
    return names


def _hostdevs(root: etree._Element) -> list[etree._Element]:
    hostdevs = root.findall("./devices/hostdev")
    return [
        hostdev
        for hostdev in hostdevs
        if hostdev.get("type") in ("pci", "mdev") and hostdev.get("mode") in (None, "subsystem")
    ]


def _buses(root: etree._Element) -> set[int]:
    """Where those hostdevs sit."""
    addresses = (address for h in _hostdevs(root) for address in h.findall("./address"))
    return {_number(address.get("bus", "0")) for address in addresses}


def _number(text: str | None) -> int:
    octal = text is not None and text[:1] == "0" and text.isdigit()
    try:
        return int(text or "0", 8 if octal else 0)
    except ValueError:
        return 0


def _ports(root: etree._Element) -> list[etree._Element]:
    controllers = root.iterfind("./devices/controller[@type='pci']")
    return [c for c in controllers if c.get("model") in _MODELS]


def _port_indexes(root: etree._Element) -> set[str | None]:
    return {port.get("index") for port in _ports(root)}


def _drop_hole(root: etree._Element, original: etree._Element) -> None:
    """The root bus's controller, if there was none, or its hole, which may be widened."""
    for controller in _root_buses(root):
        if not _root_buses(original):
            _drop(controller)
        for hole in controller.findall("./pcihole64"):
            _drop(hole)
        for name in ("index", "model"):  # those that there are, where it was not said
            controller.attrib.pop(name, None)


def _root_buses(root: etree._Element) -> list[etree._Element]:
    controllers = root.findall("./devices/controller[@type='pci']")
    models = ("pci-root", "pcie-root")
    return [c for c in controllers if c.get("index") == "0" or c.get("model") in models]


def _drop_qemu(root: etree._Element, original: etree._Element) -> None:
    """What OVMF is told and the properties of our devices, if nobody said so before."""
    names = _QEMU
    told = "./q:commandline/q:arg[starts-with(@value, 'name=opt/ovmf/X-PciMmio64Mb,')]"
    there = {_with_option(argument) for argument in original.xpath(told, namespaces=names)}
    for argument in root.xpath(told, namespaces=names):
        if _with_option(argument) not in there:
            _drop(argument.getprevious())
            _drop(argument)
    properties = "./q:override/q:device/q:frontend/q:property"
    had = {p.get("name") for p in original.iterfind(properties, names)}
    for item in root.findall(properties, names):
        if item.get("name") in {"x-vga", "x-nv-gpudirect-clique"} - had:
            _drop(item)
    for path in ("./q:override/q:device/q:frontend", "./q:override/q:device", "./q:override",
                 "./q:commandline"):  # fmt: skip
        for element in root.findall(path, names):
            if not len(element):
                _drop(element)


def _with_option(argument: etree._Element) -> tuple[str | None, ...]:
    option = argument.getprevious()
    before = (None, None) if option is None else (option.tag, option.get("value"))
    return *before, argument.get("value")


def _drop(element: etree._Element) -> None:
    parent = element.getparent()
    assert parent is not None
    before = element.getprevious()
    if before is None:
        parent.text = (parent.text or "") + (element.tail or "")
    else:
        before.tail = (before.tail or "") + (element.tail or "")
    element.tail = None
    parent.remove(element)
