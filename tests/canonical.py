"""Compares domains without what is ours to write, independently of how the program finds it."""

from lxml import etree

_MODELS = (
    "pcie-root-port",
    "pcie-expander-bus",
    "pcie-switch-upstream-port",
    "pcie-switch-downstream-port",
    "pcie-to-pci-bridge",
)


def canonical_without_ours(xml: bytes, original: bytes) -> str:
    """Canonical XML less PCI and mdev hostdevs, less the controllers that were not there before.

    Only what carries our devices may be new (root ports, expander buses, switches), and a
    pcie-to-pci-bridge where libvirt would add one by itself.

    A root port of an earlier pass that carries one of those hostdevs may be completed, so its
    target and ``multifunction`` are left out; its index, model and address are not.
    """
    had = _port_indexes(etree.fromstring(original))
    root = etree.fromstring(xml)
    buses = set()
    devices = root.find("devices")
    for hostdev in root.findall("./devices/hostdev"):
        if hostdev.get("type") in ("pci", "mdev"):
            for address in hostdev.findall("./address"):
                buses.add(int(address.get("bus", "0"), 0))
            _drop(hostdev)
    for controller in _ports(root):
        index = controller.get("index", "")
        if index not in had:
            _drop(controller)
        elif int(index) in buses:
            for target in controller.findall("./target"):
                target.attrib.clear()
            for address in controller.findall("./address"):
                address.attrib.pop("multifunction", None)
    _drop_hole(root, etree.fromstring(original))
    _drop_qemu(root, etree.fromstring(original))
    if devices is not None and not len(devices):
        devices.text = None
        if etree.fromstring(original).find("devices") is None:
            _drop(devices)
    for element in root.iter():
        element.text = (element.text or "").strip() or None
        element.tail = (element.tail or "").strip() or None
    return etree.tostring(root.getroottree(), method="c14n").decode()


def _ports(root: etree._Element) -> list[etree._Element]:
    return [c for c in root.iterfind("./devices/controller") if c.get("model") in _MODELS]


def _port_indexes(root: etree._Element) -> set[str | None]:
    return {port.get("index") for port in _ports(root)}


def _drop_hole(root: etree._Element, original: etree._Element) -> None:
    """The root bus's controller, if there was none, or its hole, which may be widened."""
    path = "./devices/controller[@index='0'][@type='pci']"
    for controller in root.findall(path):
        if original.find(path) is None:
            _drop(controller)
        for hole in controller.findall("./pcihole64"):
            _drop(hole)


def _drop_qemu(root: etree._Element, original: etree._Element) -> None:
    """What OVMF is told and the properties of our devices, if nobody said so before."""
    names = {"q": "http://libvirt.org/schemas/domain/qemu/1.0"}
    told = "./q:commandline/q:arg[starts-with(@value, 'name=opt/ovmf/X-PciMmio64Mb,')]"
    if not original.xpath(told, namespaces=names):
        for argument in root.xpath(told, namespaces=names):
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


def _drop(element: etree._Element) -> None:
    parent = element.getparent()
    assert parent is not None
    tail = (element.tail or "").strip()
    assert not tail, f"text {tail!r} behind an element"
    parent.remove(element)
