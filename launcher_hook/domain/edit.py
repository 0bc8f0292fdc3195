"""Writes a plan into a domain: ``put_`` functions, each idempotent.

virt-launcher reads libvirt's answer through a struct that drops ``rom``, most of ``driver`` (1.9
keeps its ``iommufd``), ``multifunction`` and root-port targets between the passes, so that each
pass writes our part in full again. A hostdev that is adopted keeps every child and attribute that
is not ours to say.
"""

from collections.abc import Iterator, Sequence

from lxml import etree

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.aliases import follow_aliases, read_names
from launcher_hook.domain.document import Element
from launcher_hook.domain.layout import insert
from launcher_hook.domain.options import add_options, put_hole
from launcher_hook.domain.qemu import put_overrides, put_told_to_ovmf
from launcher_hook.model import (
    PORT_MODELS,
    GuestPlan,
    Machine,
    Placement,
    PlannedController,
    PresentHostdev,
)
from launcher_hook.pci import PciAddress
from launcher_hook.sizes import MIB

_WHOLLY_OURS = ("address", "alias")
"""Elements of which every attribute is ours to say."""


def put_plan(
    root: Element,
    plan: GuestPlan,
    present: Sequence[tuple[Element, PresentHostdev]],
    machine: Machine,
) -> tuple[Element, ...]:
    """Write every device and controller of a plan.

    Args:
        root: The domain; edited in place.
        plan: What is to stand there.
        present: The domain's hostdevs of ours and what was read from them.
        machine: The guest's.

    Returns:
        The devices that are now ours: controllers, then hostdevs.
    """
    if not plan.placements:
        return ()
    devices = root.find("./devices")
    if devices is None:
        devices = insert(root, etree.Element("devices"), None)
    names = read_names(root)
    written = (
        *put_controllers(devices, plan),
        *(put_hole(root, devices, plan.hole, machine) if plan.hole else ()),
        *put_hostdevs(devices, plan, present, machine),
    )
    follow_aliases(root, names)
    put_overrides(root, plan.options)
    if plan.hole is not None and plan.hole.tell_firmware:
        put_told_to_ovmf(root, plan.hole.size_bytes // MIB)
    return written


def put_hostdevs(
    devices: Element,
    plan: GuestPlan,
    present: Sequence[tuple[Element, PresentHostdev]],
    machine: Machine,
) -> Iterator[Element]:
    """Write ``<hostdev>``s, new ones behind the last that is there."""
    elements = {hostdev.source: element for element, hostdev in present}
    last = present[-1][0] if present else None
    # On a machine that we do not lay out, an address that is there stays as it is.
    laid_out = machine is not Machine.OTHER
    for placement in plan.placements:
        adopted = elements.get(placement.assignment.source)
        wanted = _hostdev(placement, adopted)
        if placement.guest_address is not None and laid_out:
            _add_guest_address(wanted, placement.guest_address, placement.multifunction)
        options = plan.options.get(placement.assignment.alias)
        if options is not None:
            add_options(wanted, options)
        if adopted is None:
            last = insert(devices, wanted, last)
            yield last
        else:
            _merge(wanted, adopted)
            yield adopted


def put_controllers(devices: Element, plan: GuestPlan) -> Iterator[Element]:
    """Write the controllers of a plan, new or of an earlier pass, behind the last controller."""
    controllers = list(devices.iterfind("./controller"))
    ours = [c for c in controllers if c.get("type") == "pci"]
    by_index = {parse_number(c.get("index", "0")): c for c in ours}
    last = next(reversed(ours or controllers), None)
    wanted = [_planned_controller(controller) for controller in plan.controllers]
    if plan.bridge_index is not None:
        # Without an address: libvirt gives it the one that it would have had.
        wanted.insert(0, _controller(plan.bridge_index, "pcie-to-pci-bridge"))
    for controller in wanted:
        there = by_index.get(int(controller.get("index", "")))
        if there is None:
            last = insert(devices, controller, last)
            yield last
        else:
            _merge(controller, there)
            yield there


def _hostdev(placement: Placement, adopted: Element | None) -> Element:
    """A hostdev without guest address; of an adopted one the parts that we have a say in."""
    assignment = placement.assignment
    hostdev = etree.Element("hostdev", mode="subsystem")
    source = etree.SubElement(hostdev, "source")
    if assignment.host_address is not None:
        hostdev.set("type", "pci")
        hostdev.set("managed", assignment.managed)
        etree.SubElement(source, "address", _numbers(assignment.host_address))
        if assignment.driver_model is not None:
            etree.SubElement(hostdev, "driver", name="vfio", model=assignment.driver_model)
    else:
        hostdev.set("type", "mdev")
        hostdev.set("model", (adopted.get("model") if adopted is not None else None) or "vfio-pci")
        for name, value in (("display", assignment.display), ("ramfb", assignment.ramfb)):
            if value is not None:
                hostdev.set(name, value)
        etree.SubElement(source, "address", uuid=str(assignment.source))
    etree.SubElement(hostdev, "alias", name=assignment.alias)
    return hostdev


def _planned_controller(planned: PlannedController) -> Element:
    """A controller as it should be."""
    controller = _controller(planned.index, planned.model)
    place = planned.address
    if planned.bus_nr is not None:
        target = etree.SubElement(controller, "target", busNr=str(planned.bus_nr))
        if planned.node is not None:
            etree.SubElement(target, "node").text = str(planned.node)
    elif planned.model in PORT_MODELS and place is not None:
        # libvirt's own defaults (qemuDomainAssignPCIAddresses), written out so that they stay.
        is_root = planned.model == "pcie-root-port"
        number = (place.slot << 3) + place.function if is_root else place.slot
        etree.SubElement(controller, "target", chassis=str(planned.index), port=f"0x{number:x}")
    if place is not None:
        _add_guest_address(controller, place, planned.multifunction)
    return controller


def _controller(index: int, model: str) -> Element:
    return etree.Element("controller", type="pci", index=str(index), model=model)


def _add_guest_address(device: Element, address: PciAddress, multifunction: bool) -> None:
    attributes = {"type": "pci", **_numbers(address)}
    if multifunction:
        attributes["multifunction"] = "on"
    etree.SubElement(device, "address", attributes)


def _numbers(address: PciAddress) -> dict[str, str]:
    """An address as libvirt prints it."""
    return {
        "domain": f"0x{address.domain:04x}",
        "bus": f"0x{address.bus:02x}",
        "slot": f"0x{address.slot:02x}",
        "function": f"0x{address.function:x}",
    }


def _merge(wanted: Element, there: Element) -> None:
    """Bring an element that is there to what is wanted; what is not ours in it stays."""
    attributes = dict(wanted.attrib)
    if wanted.tag in _WHOLLY_OURS:
        if dict(there.attrib) != attributes:
            there.attrib.clear()
            there.attrib.update(attributes)
        return
    there.attrib.update(attributes)
    if wanted.text is not None:
        there.text = wanted.text
    for child in list(wanted):
        found = there.find(f"./{child.tag!s}")
        if found is None:
            # libxml2 takes nothing between a driver and its source (any order is libvirt's schema).
            beside = there.find("./source") if child.tag == "driver" else None
            last = there[-1] if len(there) else None
            insert(there, child, beside if beside is not None else last)
        else:
            _merge(child, found)
