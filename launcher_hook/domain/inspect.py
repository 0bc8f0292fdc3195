"""What stands in a domain: its passed-through devices, and everything a plan must go round."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count

from launcher_hook.domain.address import parse_number, read_address, read_guest_address
from launcher_hook.domain.demand import Demand, read_demand
from launcher_hook.domain.document import Element, first_child
from launcher_hook.domain.numa import read_numa
from launcher_hook.errors import InputError, shorten
from launcher_hook.mdev import parse_mdev_uuid
from launcher_hook.model import (
    GuestController,
    GuestNuma,
    GuestScreen,
    GuestTopology,
    HostSource,
    Machine,
    PresentHostdev,
)
from launcher_hook.pci import MAX_BUS, PciAddress

# docs/formatdomain: <os><type machine=>; an x86 guest without one is QEMU's "pc".
_X86 = ("x86_64", "i686")
_VIRT_ARCHITECTURES = ("aarch64", "armv7l", "riscv64", "loongarch64")

ROOT_MODELS = ("pci-root", "pcie-root")
"""Of the controllers that libvirt takes a pcihole64 from (conf/domain_conf.c)."""

ROOT_BUSES = {
    Machine.Q35: "pcie-root",
    Machine.VIRT: "pcie-root",
    Machine.I440FX: "pci-root",
}
"""The model of index 0, which is the machine's own, and only that
(qemuValidateDomainDeviceDefControllerPCI)."""


# libvirt reads it with base 10 (virDomainControllerDefParseXML), as its schemas say.
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


def passed_hostdevs(root: Element) -> Iterator[Element]:
    """The hostdevs that are ours to write: PCI functions and mediated devices, in order.

    A hostdev of mode capabilities (an LXC thing) is none.
    """
    for hostdev in root.iterfind("./devices/hostdev"):
        if (
            hostdev.get("type") in ("pci", "mdev")
            and hostdev.get("mode", "subsystem") == "subsystem"
        ):
            yield hostdev


def root_controllers(root: Element) -> Iterator[Element]:
    """The controller of the root bus; a domain before libvirt has seen it may have none."""
    for controller in root.iterfind("./devices/controller"):
        if controller.get("type") != "pci":
            continue
        of_index_0 = not controller.get("model") and controller.get("index") == "0"
        if of_index_0 or controller.get("model") in ROOT_MODELS:
            yield controller


def read_hostdev(hostdev: Element, where: str) -> PresentHostdev:
    """Read a hostdev of ours.

    Raises:
        InputError: Its source is missing or is not an address.
    """
    place = f"{where}:{hostdev.sourceline}: hostdev"
    for tag in ("source", "alias"):
        if len(hostdev.findall(tag)) > 1:
            raise InputError(place, f"it has more than one <{tag}>", "keep the one that counts")
    source = hostdev.find("./source/address")
    if source is None or not set(source.keys()) - {"type"}:
        raise InputError(
            place, "it has no <source><address/></source>", "write the host function's address"
        )
    address = first_child(hostdev, "address")
    driver = first_child(hostdev, "driver")
    return PresentHostdev(
        source=_read_source(hostdev, source, f"{place}/source/address"),
        alias=alias_of(hostdev) or None,
        guest_address=guest_address(hostdev, place),
        managed=hostdev.get("managed"),
        driver_name=driver.get("name") if driver is not None else None,
        driver_model=driver.get("model") if driver is not None else None,
        display=hostdev.get("display"),
        line=hostdev.sourceline,
        address_type=None if address is None else address.get("type"),
        iommufd=None if driver is None else driver.get("iommufd"),
    )


def opens_by_iommufd(root: Element) -> bool:
    """Whether the domain has iommufd open every hostdev whose driver does not say otherwise.

    libvirt 12.2 and newer; KubeVirt 1.9 writes it with its gate IOMMUFD
    (virtwrap/converter/compute/iommufd.go).
    """
    element = root.find("./iommufd")
    return element is not None and element.get("enabled") == "yes"


def _read_source(hostdev: Element, source: Element, place: str) -> HostSource:
    if hostdev.get("type") == "pci":
        return read_address(source, place)
    try:
        return parse_mdev_uuid(source.get("uuid", ""))
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise InputError(f"{place}/@uuid", what, fix) from None


def guest_address(device: Element, place: str) -> PciAddress | None:
    """The PCI address that a device or controller has in the guest; None without one.

    Raises:
        InputError: It cannot be read.
    """
    addresses = list(device.iterchildren("address"))
    if len(addresses) > 1:
        raise InputError(place, "it has more than one <address>", "keep the one that counts")
    return read_guest_address(addresses[0], f"{place}/address") if addresses else None


def read_topology(
    root: Element, where: str = "domain XML", *, with_numa: bool = False
) -> GuestTopology:
    """Read what a plan must go round: everything but the hostdevs of ours.

    Raises:
        InputError: A guest address or a controller index cannot be read, or they are in two places.
    """
    machine, machine_type = read_machine(root)
    ours = set(passed_hostdevs(root))
    parts = root.findall("./devices")
    if len(parts) > 1:  # libvirt takes them together, its schemas one only
        raise InputError(
            f"{where}:{parts[1].sourceline}",
            f"it has {len(parts)} <devices>",
            "write all devices into the first",
        )
    devices = parts[0] if parts else None
    unnumbered: list[GuestController] = []
    controllers: dict[int, GuestController] = {}
    taken: dict[PciAddress, str] = {}
    for device in devices if devices is not None else ():
        if not isinstance(device.tag, str) or device in ours:
            continue
        place = f"{where}:{device.sourceline}: {device.tag}"
        address = guest_address(device, place)
        if address is not None:
            taken.setdefault(address, name_of(device))
        if device.tag == "controller" and device.get("type") == "pci":
            controller = _read_controller(device, address, place)
            if address is not None and 0 < controller.index == address.bus:
                what = f"it is on bus {address.bus:#04x}, which is its own"
                raise InputError(f"{place}/address", what, "put it on a bus above")
            if controller.index < 0:
                unnumbered.append(controller)
            elif controller.index in controllers:
                # libvirt refuses them too: "Multiple 'pci' controllers with index".
                what = f"another PCI controller has index {controller.index} already"
                raise InputError(f"{place}/@index", what, "give each an index of its own")
            else:
                controllers[controller.index] = controller
    unused = (index for index in count(1) if index not in controllers)
    for controller in unnumbered:
        # virDomainControllerFindUnusedIndex; 0 is the root's.
        is_root = controller.model in ROOT_MODELS
        if is_root and 0 in controllers:
            raise InputError(
                f"{where}: controller",
                f"the {controller.model} has no index, and 0, which is its own, is another's",
                "number the other one from 1",
            )
        index = 0 if is_root else next(unused)
        controllers[index] = replace(controller, index=index)
    root_bus = controllers.get(0)
    if root_bus is not None and root_bus.model not in (
        "",
        ROOT_BUSES.get(machine, root_bus.model),
    ):
        raise InputError(
            f"{where}: controller",
            f"the PCI controller of index 0 is a {shorten(root_bus.model)}",
            f"number it from 1: 0 is the {ROOT_BUSES[machine]} of the machine itself",
        )
    demand = read_demand(devices, machine) if devices is not None else Demand(0, 0, None)
    return GuestTopology(
        machine=machine,
        machine_type=machine_type,
        controllers=controllers,
        taken=taken,
        waiting=demand.indexes,
        waiting_on_root=demand.root_slots,
        ports_before_bridge=demand.ports_before_bridge,
        numa=read_numa(root, where) if with_numa else GuestNuma(),
    )


def _read_controller(device: Element, address: PciAddress | None, place: str) -> GuestController:
    text = device.get("index")
    if text is not None and _INDEX.fullmatch(text) is None:
        what = f"{shorten(text)} is not a plain decimal number"
        raise InputError(f"{place}/@index", what, "number the PCI controllers from 0")
    index = -1 if text is None else int(text)
    if index > MAX_BUS:
        raise InputError(
            f"{place}/@index", f"{index} is more than {MAX_BUS}", "number it from 0 to 255"
        )
    target = first_child(device, "target")
    if target is None:
        return GuestController(index, device.get("model", ""), address)
    model = device.get("model", "")
    bus_nr, node = (_number_or_none(t) for t in (target.get("busNr"), target.findtext("./node")))
    if model == "pcie-expander-bus":
        # virDomainControllerDefParseXML, qemuValidateDomainDeviceDefControllerPCI
        if target.get("busNr") is not None and bus_nr not in range(1, 255):
            raise InputError(
                f"{place}/target/@busNr",
                f"{shorten(target.get('busNr'))} is no number from 1 to 254",
                "write the bus number that the guest gives it",
            )
        if target.find("./node") is not None and node is None:
            raise InputError(
                f"{place}/target/node",
                f"{shorten(target.findtext('./node'))} is no number",
                "write the guest NUMA cell's",
            )
    return GuestController(index, model, address, bus_nr=bus_nr, node=node)


def _number_or_none(text: str | None) -> int | None:
    with suppress(ValueError):  # what is no number is the schema's business
        return parse_number((text or "").strip())
    return None


def read_machine(root: Element) -> tuple[Machine, str]:
    """What the machine type means for PCI, and the type itself (the architecture without one)."""
    os_type = root.find("./os/type")
    arch = os_type.get("arch", "x86_64") if os_type is not None else "x86_64"
    machine = os_type.get("machine", "") if os_type is not None else ""
    if arch in _X86:
        if machine == "q35" or machine.startswith("pc-q35"):
            return Machine.Q35, machine
        if machine in ("", "pc") or machine.startswith(("pc-i440fx", "pc-0.", "pc-1.")):
            return Machine.I440FX, machine or "pc"
    elif arch in _VIRT_ARCHITECTURES and (machine == "virt" or machine.startswith("virt-")):
        return Machine.VIRT, machine
    return Machine.OTHER, machine or arch


def name_of(device: Element) -> str:
    """Name a device for a message: tag, and what tells it from its like."""
    target = first_child(device, "target")
    detail = (
        alias_of(device)
        or (target.get("dev") if target is not None else None)
        or " ".join(filter(None, (device.get("type"), device.get("model"), device.get("index"))))
    )
    return f"{device.tag!s} {detail}".strip()


def alias_of(device: Element) -> str | None:
    """The alias of a device; None where it has none."""
    alias = first_child(device, "alias")
    return None if alias is None else alias.get("name")


def read_aliases(root: Element) -> Iterator[str]:
    """The aliases of all devices."""
    for alias in root.iterfind("./devices/*/alias"):
        if alias.get("name"):
            yield alias.get("name", "")


def read_usb_aliases(root: Element) -> tuple[str | None, ...]:
    """The aliases of the USB hostdevs; None for one without."""
    hostdevs = root.iterfind("./devices/hostdev")
    return tuple(alias_of(hostdev) for hostdev in hostdevs if hostdev.get("type") == "usb")


def has_graphics(root: Element) -> bool:
    """Whether there is somewhere to show a screen."""
    return root.find("./devices/graphics") is not None


def read_screen(root: Element) -> GuestScreen:
    """Read whether a vGPU can have a screen."""
    ramfb = ("./devices/hostdev[@ramfb='on']", "./devices/video/model[@type='ramfb']")
    return GuestScreen(has_graphics(root), any(root.find(path) is not None for path in ramfb))
