"""Writes what is asked of a device into its hostdev, and the hole into the root's controller."""

from collections.abc import Iterator

from lxml import etree

from launcher_hook.domain.document import Element
from launcher_hook.domain.inspect import ROOT_BUSES, root_controllers
from launcher_hook.domain.layout import insert
from launcher_hook.model import Hole, Machine
from launcher_hook.settings import DeviceOptions
from launcher_hook.sizes import KIB, scale

_CHILDREN = (
    ("rom", (("bar", "rom_bar"), ("file", "rom_file"))),
    (
        "driver",
        (("name", "driver_name"), ("model", "driver_model"), ("iommufd", "driver_iommufd")),
    ),
    ("boot", (("order", "boot_order"),)),
    ("acpi", (("nodeset", "acpi_nodeset"),)),
)

_KEYS = {
    "/boot/@order": "bootOrder",
    "/acpi/@nodeset": "acpiNodeset",
    "/@display": "display",
    "/@ramfb": "ramfb",
}


def add_options(hostdev: Element, options: DeviceOptions) -> None:
    """Add what libvirt has words for; the rest is in ``domain.qemu``."""
    for name, value in (("display", options.display), ("ramfb", options.ramfb)):
        if value is not None:
            hostdev.set(name, value)
    for tag, attributes in _CHILDREN:
        values = {name: getattr(options, of) for name, of in attributes}
        given = {name: str(value) for name, value in values.items() if value is not None}
        if not given:
            continue
        there = hostdev.find(f"./{tag}")
        if there is not None:  # a driver that we chose ourselves
            there.attrib.update(given)
            continue
        child = etree.SubElement(hostdev, tag, given)
        source = hostdev.find("./source")
        if tag == "driver" and source is not None:
            source.addnext(child)


def key_at(path: str) -> str:
    """The configuration's key of what stands at a path, of which a hostdev is the root."""
    tail = path.removeprefix("/hostdev")
    return _KEYS.get(tail) or tail.strip("/").replace("/@", ".")


def put_hole(root: Element, devices: Element, hole: Hole, machine: Machine) -> Iterator[Element]:
    """Write the hole's size into the controller of the root bus, the only one that has one.

    Yields:
        The controller, if anything had to be written.
    """
    kib = str(hole.size_bytes // KIB)
    controller = next(root_controllers(root), None)
    model = ROOT_BUSES[machine]
    if controller is None:
        controller = etree.Element("controller", type="pci", index="0", model=model)
        etree.SubElement(controller, "pcihole64", unit="KiB").text = kib
        last = next(reversed(devices.findall("./controller")), None)
        yield insert(devices, controller, last)
        return
    for name, default in (("index", "0"), ("model", model)):  # libvirt's own
        if not controller.get(name):
            controller.set(name, default)
    there = controller.find("./pcihole64")
    if there is None:
        wanted = etree.Element("pcihole64", unit="KiB")
        wanted.text = kib
        insert(controller, wanted, controller[-1] if len(controller) else None)
    elif scale((there.text or "").strip(), there.get("unit", "KiB")) == hole.size_bytes:
        return
    else:
        there.set("unit", "KiB")
        there.text = kib
    yield controller
