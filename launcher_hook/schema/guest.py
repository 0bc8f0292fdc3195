"""The guest's PCI side of a domain as libvirt reads it: addresses, buses, who sits where."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher_hook.pci import PciAddress
from launcher_hook.schema.fault import Element, child_elements, element_name

PORTS = ("pcie-root-port", "pcie-switch-downstream-port")

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,20}|[1-9][0-9]{0,18}")
_MACHINE = re.compile(r"(?:pc-)?(q35|virt|i440fx)\b|(pc)$")


@dataclass(frozen=True, slots=True)
class Seat:
    """A device with a PCI address in the guest."""

    device: Element
    element: Element
    address: PciAddress

    @property
    def multifunction(self) -> bool:
        """Whether the XML says that the slot has more functions."""
        return self.element.get("multifunction") == "on"


@dataclass(frozen=True, slots=True)
class Guest:
    """What the rules look at.

    Attributes:
        machine: ``q35``, ``virt``, ``i440fx`` or "".
        devices: All children of ``<devices>``.
        seats: Devices and controllers that have an address, in document order.
        controllers: PCI controllers by index; libvirt takes only one of each.
    """

    machine: str
    devices: tuple[Element, ...]
    seats: tuple[Seat, ...]
    controllers: Mapping[int, tuple[Element, ...]]

    def bus_model(self, bus: int) -> str | None:
        """Model of the controller behind which a bus is; None where there is no controller."""
        owners = self.controllers.get(bus)
        return owners[0].get("model", "") if owners else None

    def slots(self) -> Mapping[tuple[int, int, int], tuple[Seat, ...]]:
        """Who sits in each slot."""
        slots: defaultdict[tuple[int, int, int], list[Seat]] = defaultdict(list)
        for seat in self.seats:
            slots[seat.address.slot_key].append(seat)
        return {slot: tuple(seats) for slot, seats in slots.items()}

    def hostdevs(self) -> Iterator[Element]:
        """Passed-through devices of every kind."""
        return (device for device in self.devices if device.tag == "hostdev")


def read_guest(root: Element) -> Guest:
    """Read a domain; addresses with numbers that libvirt would refuse count as absent."""
    devices = tuple(device for part in root.iterfind("devices") for device in child_elements(part))
    controllers: defaultdict[int, list[Element]] = defaultdict(list)
    for device in devices:
        index = read_number(device.get("index", ""))
        if device.tag == "controller" and device.get("type") == "pci" and index is not None:
            controllers[index].append(device)
    return Guest(
        machine=_machine(root),
        devices=devices,
        seats=tuple(_read_seats(devices)),
        controllers={index: tuple(owners) for index, owners in controllers.items()},
    )


def read_number(text: str) -> int | None:
    """A number as libvirt reads it: the prefix is the base, ``010`` is eight; else None."""
    if not _NUMBER.fullmatch(text):
        return None
    return int(text, 8) if text[:2].isdigit() and text[0] == "0" else int(text, 0)


def read_pci_address(element: Element) -> PciAddress | None:
    """An ``<address>``'s four numbers; a missing one is 0, a wrong one makes it no address."""
    numbers = [
        read_number(element.get(name, "0")) for name in ("domain", "bus", "slot", "function")
    ]
    if None in numbers:
        return None
    try:
        return PciAddress(*(number for number in numbers if number is not None))
    except ValueError:
        return None


def device_name(device: Element) -> str:
    """A device for messages: ``<hostdev> ua-gpu-1``, ``<controller> pci 3``, ``<rng>``."""
    alias = device.find("alias")
    if device.tag == "controller":
        name = f"{device.get('type', '')} {device.get('index', '')}"
    else:
        name = "" if alias is None else alias.get("name", "")
    return f"<{element_name(device)}> {name}".strip()


def _read_seats(devices: tuple[Element, ...]) -> Iterator[Seat]:
    for device in devices:
        for element in device.iterfind("address"):
            address = read_pci_address(element) if element.get("type") == "pci" else None
            # virpci.c: virPCIDeviceAddressIsEmpty: 0000:00:00 is an address yet to be assigned.
            if address is not None and any(address.slot_key):
                yield Seat(device, element, address)


def _machine(root: Element) -> str:
    node = root.find("os/type")
    match = _MACHINE.match("" if node is None else node.get("machine", ""))
    return "" if match is None else match.group(1) or "i440fx"
