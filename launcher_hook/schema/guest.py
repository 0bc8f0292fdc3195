"""The guest's PCI side of a domain as libvirt reads it: addresses, buses, who sits where."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from launcher_hook.domain.address import parse_number, read_guest_address
from launcher_hook.domain.inspect import read_machine
from launcher_hook.errors import InputError
from launcher_hook.model import Machine
from launcher_hook.pci import PciAddress
from launcher_hook.schema.fault import Element, child_elements


@dataclass(frozen=True, slots=True)
class Seat:
    """A device with a PCI address in the guest."""

    device: Element
    element: Element
    address: PciAddress

    @property
    def multifunction(self) -> str | None:
        """What the XML says of it: ``on``, ``off`` or nothing."""
        return self.element.get("multifunction")


@dataclass(frozen=True, slots=True)
class Guest:
    """What the rules look at.

    Attributes:
        root: The domain.
        devices: All children of ``<devices>``.
        seats: Devices and controllers that have an address, in document order.
        slots: Who sits in each slot, by PCI domain, bus and slot.
        controllers: PCI controllers by index; libvirt takes only one of each.
    """

    root: Element
    machine: Machine
    devices: tuple[Element, ...]
    seats: tuple[Seat, ...]
    slots: Mapping[tuple[int, int, int], Sequence[Seat]]
    controllers: Mapping[int, tuple[Element, ...]]

    def bus_model(self, bus: int) -> str | None:
        """Model of the controller behind which a bus is; None where there is no controller."""
        owners = self.controllers.get(bus)
        return owners[0].get("model", "") if owners else None

    def hostdevs(self) -> Iterator[Element]:
        """Passed-through devices of every kind."""
        return (device for device in self.devices if device.tag == "hostdev")


def read_guest(root: Element) -> Guest:
    """Read a domain; addresses with numbers that libvirt would refuse count as absent."""
    devices = tuple(device for part in root.iterfind("devices") for device in child_elements(part))
    controllers: defaultdict[int, list[Element]] = defaultdict(list)
    for device in devices:
        if device.tag == "controller" and device.get("type") == "pci":
            with suppress(ValueError):
                controllers[parse_number(device.get("index", ""))].append(device)
    seats = tuple(_read_seats(devices))
    slots: defaultdict[tuple[int, int, int], list[Seat]] = defaultdict(list)
    for seat in seats:
        slots[seat.address.slot_key].append(seat)
    return Guest(
        root=root,
        machine=read_machine(root)[0],
        devices=devices,
        seats=seats,
        slots=slots,
        controllers={index: tuple(owners) for index, owners in controllers.items()},
    )


def _read_seats(devices: tuple[Element, ...]) -> Iterator[Seat]:
    for device in devices:
        for element in device.iterchildren("address"):
            with suppress(InputError):
                address = read_guest_address(element, "")
                if address is not None:
                    yield Seat(device, element, address)
