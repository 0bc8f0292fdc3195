"""Gives the root complexes and switches of a hierarchy their indexes, bus numbers and places. Pure.

Written as libvirt and the guest's firmware need it (libvirt docs/pci-hotplug, QEMU docs/pcie.txt):
an expander bus sits on the root bus and counts its buses from ``busNr`` on, so that its number and
those of all buses behind it must be free; root ports sit on it, an upstream port on a root port's
bus, downstream ports on the upstream port's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from launcher_hook.errors import PlanError
from launcher_hook.hierarchy import HostSlot, Port, RootComplex
from launcher_hook.model import PlannedController
from launcher_hook.pci import MAX_FUNCTION, MAX_SLOT, PciAddress
from launcher_hook.room import GuestRoom


@dataclass
class Built:
    """The controllers of some root complexes, and the guest slot of each host slot.

    Attributes:
        controllers: What is above comes before what is below.
        slots: Host slots, function 0 of the guest slot, and for people: what that is.
    """

    controllers: list[PlannedController] = field(default_factory=list)
    slots: list[tuple[HostSlot, PciAddress, str]] = field(default_factory=list)


def build_complexes(complexes: Sequence[RootComplex], room: GuestRoom) -> Built:
    """Give every controller its place.

    Raises:
        PlanError: The guest has no bus numbers or slots for so many.
    """
    built = Built()
    for root_complex in complexes:
        place = room.next_expander_bus()
        if place is None:
            raise _too_many(root_complex, "slot on bus 0 for the expander bus")
        index, address = place
        position = len(built.controllers)
        built.controllers.append(PlannedController(index, "pcie-expander-bus", address))
        why = f"{root_complex.why}, expander bus {index}"
        _add_ports(root_complex, root_complex.ports, "pcie-root-port", index, why, room, built)
        bus_nr = room.next_bus_nr(len(built.controllers) - position)
        if bus_nr is None:
            raise _too_many(root_complex, "bus numbers for the buses behind it")
        built.controllers[position] = replace(
            built.controllers[position], bus_nr=bus_nr, node=root_complex.cell
        )
    return built


def _add_ports(
    root_complex: RootComplex,
    ports: Sequence[Port],
    model: str,
    bus: int,
    why: str,
    room: GuestRoom,
    built: Built,
) -> None:
    for port, place in zip(ports, _places(bus), strict=False):
        index = _next_index(root_complex, room)
        built.controllers.append(PlannedController(index, model, place))
        if not port.switch:
            slot = room.take(PciAddress(0, index, 0, 0))
            built.slots.append((port.devices, slot, f"{why}, port {index}"))
            continue
        upstream = _next_index(root_complex, room)
        built.controllers.append(
            PlannedController(upstream, "pcie-switch-upstream-port", PciAddress(0, index, 0, 0))
        )
        below = f"{why}, switch {upstream}"
        _add_ports(
            root_complex, port.switch, "pcie-switch-downstream-port", upstream, below, room, built
        )


def _places(bus: int) -> Iterator[PciAddress]:
    """A slot each; only where there are more than 32 do ports share one.

    256 places: more than there are controller indexes for ports.
    """
    for function in range(MAX_FUNCTION + 1):
        for slot in range(MAX_SLOT + 1):
            yield PciAddress(0, bus, slot, function)


def _next_index(root_complex: RootComplex, room: GuestRoom) -> int:
    index = room.next_index_off_root()
    if index is None:
        raise _too_many(root_complex, "controller index left: libvirt's highest is 255")
    return index


def _too_many(root_complex: RootComplex, what: str) -> PlanError:
    return PlanError(
        f"layout: {root_complex.why}",
        f"the guest has no {what}",
        "attach fewer devices, or write layout: root-port",
    )
