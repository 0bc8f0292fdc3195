"""Writes a plan into a domain: ``put_`` functions, each idempotent.

virt-launcher reads libvirt's answer through a struct that drops ``rom``, ``driver``,
``multifunction`` and root-port targets between the passes, so that each pass writes our part in
full again. A hostdev that is adopted keeps every child and attribute that is not ours to say.
"""

from collections.abc import Sequence

from lxml import etree
from lxml.builder import E

from launcher_hook.domain.document import Element
from launcher_hook.model import GuestPlan, Placement, PresentHostdev, RootPort, Settings
from launcher_hook.pci import PciAddress


def address_attributes(address: PciAddress) -> dict[str, str]:
    """An address as libvirt prints it."""
    return {
        "domain": f"0x{address.domain:04x}",
        "bus": f"0x{address.bus:02x}",
        "slot": f"0x{address.slot:02x}",
        "function": f"0x{address.function:x}",
    }


def put_plan(
    root: Element,
    plan: GuestPlan,
    present: Sequence[tuple[Element, PresentHostdev]],
    settings: Settings,
) -> tuple[Element, ...]:
    """Write every device and root port of a plan.

    Args:
        root: The domain; edited in place.
        plan: What is to stand there.
        present: The domain's hostdevs of ours and what was read from them.
        settings: For ``managed``.

    Returns:
        The elements that are now ours: root ports, then hostdevs.
    """
    if not plan.placements:
        return ()
    devices = root.find("./devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    written = put_root_ports(devices, plan.root_ports)
    elements = {hostdev.source: element for element, hostdev in present}
    last = present[-1][0] if present else None
    for placement in plan.placements:
        element = elements.get(placement.assignment.source)
        if element is None:
            element = last = _insert(devices, etree.Element("hostdev"), last)
        put_hostdev(element, placement, settings)
        written.append(element)
    return tuple(written)


def put_hostdev(element: Element, placement: Placement, settings: Settings) -> None:
    """Write what is ours into a ``<hostdev>``, new or adopted."""
    assignment = placement.assignment
    host_address = assignment.host_address
    element.set("mode", "subsystem")
    if host_address is not None:
        element.set("type", "pci")
        if assignment.keep_driver:
            element.set("managed", "no")
        elif settings.managed != "keep":
            element.set("managed", settings.managed)
        elif element.get("managed") is None:
            element.set("managed", "yes")
        _put(element, "source/address", address_attributes(host_address))
    else:
        element.set("type", "mdev")
        if element.get("model") is None:
            element.set("model", "vfio-pci")
        for name, value in (("display", assignment.display), ("ramfb", assignment.ramfb)):
            if value is not None:
                element.set(name, value)
        _put(element, "source/address", {"uuid": str(assignment.source)})
    _put(element, "alias", {"name": assignment.alias})
    if placement.guest_address is not None:
        attributes = _guest_attributes(placement.guest_address, placement.multifunction)
        _put(element, "address", attributes)


def put_root_ports(devices: Element, ports: Sequence[RootPort]) -> list[Element]:
    """Write ``pcie-root-port``s with chassis, port and address, new or of an earlier pass."""
    controllers = list(devices.iterfind("./controller"))
    by_index = {c.get("index"): c for c in controllers if c.get("type") == "pci"}
    last = next(reversed(by_index.values()), controllers[-1] if controllers else None)
    written = []
    for port in ports:
        index = str(port.index)
        element = by_index.get(index)
        if element is None:
            element = E.controller(type="pci", index=index, model="pcie-root-port")
            last = _insert(devices, element, last)
        written.append(element)
        if port.address is None:
            continue
        # libvirt's own defaults (qemuDomainAssignPCIAddresses), written out so that they stay.
        number = (port.address.slot << 3) + port.address.function
        _put(element, "target", {"chassis": index, "port": f"0x{number:x}"})
        _put(element, "address", _guest_attributes(port.address, port.multifunction))
    return written


def _guest_attributes(address: PciAddress, multifunction: bool) -> dict[str, str]:
    attributes = {"type": "pci", **address_attributes(address)}
    return {**attributes, "multifunction": "on"} if multifunction else attributes


def _put(element: Element, path: str, attributes: dict[str, str]) -> None:
    """Give the child at a path exactly these attributes; attributes that are right stay put."""
    child = element
    for tag in path.split("/"):
        found = child.find(f"./{tag}")
        if found is None:
            found = _insert(child, etree.Element(tag), child[-1] if len(child) else None)
        child = found
    if dict(child.attrib) != attributes:
        child.attrib.clear()
        child.attrib.update(attributes)


def _insert(parent: Element, element: Element, after: Element | None) -> Element:
    """Insert behind a sibling, or at the end, indented as the neighbours are."""
    last = after if after is not None else (parent[-1] if len(parent) else None)
    if last is None:
        outer = _indent_of(parent)
        if outer is not None:
            parent.text = outer + _step(outer, parent)
        parent.append(element)
        element.tail = outer
        return element
    tail = last.tail
    closing = last.getnext() is None
    last.addnext(element)
    element.tail = tail
    if closing:  # the closing tag's indentation has moved behind the new element
        last.tail = parent.text if not (parent.text or "").strip() else None
    else:
        last.tail = tail
    return element


def _indent_of(element: Element) -> str | None:
    """The white space before an element's own tag; None in a document on one line."""
    previous = element.getprevious()
    parent = element.getparent()
    text = previous.tail if previous is not None else parent.text if parent is not None else None
    return text if text and not text.strip() and "\n" in text else None


def _step(outer: str, element: Element) -> str:
    """One level of indentation, as the document does it."""
    parent = element.getparent()
    above = _indent_of(parent) if parent is not None else None
    inner_width = outer.rpartition("\n")[2]
    outer_width = (above or "\n").rpartition("\n")[2]
    if inner_width.startswith(outer_width) and inner_width != outer_width:
        return inner_width[len(outer_width) :]
    return "\t" if inner_width.startswith("\t") else "  "
