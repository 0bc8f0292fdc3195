"""Which guest slot and function each device gets. Pure; the same input gives the same plan.

Functions of one host slot share a guest slot, so that the guest's driver sees one multi-function
device. They are renumbered from 0, because a guest does not look at functions 1 to 7 of a slot
that has no function 0. An address that a device has already stays: it may be in use by the
guest's configuration, and libvirt has seen it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher_hook.errors import InputError, PlanError
from launcher_hook.model import (
    Assignment,
    GuestPlan,
    GuestTopology,
    Layout,
    Machine,
    Placement,
    PlannedController,
    Settings,
    source_order,
)
from launcher_hook.pci import PciAddress
from launcher_hook.room import FIRST_INDEX, GuestRoom

SlotKey = tuple[int, int, int]
_Chosen = dict[str, tuple[PciAddress, str]]
"""Guest address and reason, by alias."""


def plan_guest(
    assignments: Sequence[Assignment], topology: GuestTopology, settings: Settings
) -> GuestPlan:
    """Place every assigned device in the guest.

    Args:
        assignments: In the order in which they are to be written; their aliases are unique.
        topology: The guest without them.
        settings: Layout and pins.

    Returns:
        Placements in the order of the assignments, and the root ports to be written.

    Raises:
        InputError: A pin names no device of this VM, or two; or a hostdev came with an address
            that another device has.
        PlanError: A pin cannot be kept, or the devices do not fit.
    """
    pins = _resolve_pins(assignments, settings.slots)
    if topology.machine is Machine.OTHER:
        return _left_to_libvirt(assignments, topology, pins)
    layout = _layout(topology, settings.layout)
    chosen: _Chosen = {}
    owners = dict(topology.taken)
    for assignment in assignments:
        kept = assignment.present.guest_address if assignment.present else None
        if kept is not None and pins.get(assignment.alias, ("", kept))[1] == kept:
            _check_kept(assignment, kept, owners.setdefault(kept, assignment.alias))
            chosen[assignment.alias] = (kept, "the address that it has")
    room = GuestRoom(topology, {address for address, _ in chosen.values()})
    for alias, (key, address) in pins.items():
        if alias not in chosen:
            room.pin(address, f"slots.{key}")
        chosen[alias] = (address, f"pinned by slots.{key}")
    _check_pinned_slots(chosen, pins, topology)
    for group in _host_slots(assignments):
        _place_group(group, chosen, room, layout)
    ports = _plan_ports(room, chosen, topology)
    return GuestPlan(tuple(_placements(assignments, chosen, topology)), ports, room.bridge_index())


def _resolve_pins(
    assignments: Sequence[Assignment], slots: Mapping[str, PciAddress]
) -> dict[str, tuple[str, PciAddress]]:
    """Find the device of each pin: key and address, by alias."""
    pins: dict[str, tuple[str, PciAddress]] = {}
    for key, address in sorted(slots.items()):
        matches = [a for a in assignments if key.lower() in _names(a)]
        if len(matches) != 1:
            names = ", ".join(a.name or a.alias for a in matches or assignments) or "none"
            what = "names more than one device" if matches else "names no device of this VM"
            raise InputError(
                f"slots.{key}", f"{key!r} {what}", f"write an alias or a host BDF of: {names}"
            )
        alias = matches[0].alias
        if alias in pins:
            raise InputError(
                f"slots.{key}", f"{pins[alias][0]!r} pins the same device", "keep one of the two"
            )
        for other_key, other in pins.values():
            if other == address:
                raise PlanError(
                    f"slots.{key}",
                    f"'{address}' is pinned by slots.{other_key} too",
                    "give each device an address of its own",
                )
        pins[alias] = (key, address)
    return pins


def _names(assignment: Assignment) -> set[str]:
    names = {assignment.alias, assignment.alias.removeprefix("ua-"), str(assignment.source)}
    return {name.lower() for name in (*names, assignment.name) if name}


def _check_kept(assignment: Assignment, kept: PciAddress, owner: str) -> None:
    """An address that a hostdev came with, and that libvirt would refuse."""
    if owner == assignment.alias and kept.domain == 0:
        return
    other = owner != assignment.alias
    what = f"is that of {owner} too" if other else "is in a PCI domain that no guest has"
    raise InputError(
        f"{assignment.source} ({assignment.alias})",
        f"its guest address {kept} {what}",
        f"take the address out of the hostdev, or pin it: slots.{assignment.alias}",
    )


def _left_to_libvirt(
    assignments: Sequence[Assignment],
    topology: GuestTopology,
    pins: Mapping[str, tuple[str, PciAddress]],
) -> GuestPlan:
    for key, address in pins.values():
        raise PlanError(
            f"slots.{key}",
            f"'{address}': machine {topology.machine_type!r} has no PCI slots of our planning",
            "take the pin out",
        )
    placements = (
        Placement(
            assignment,
            assignment.present.guest_address if assignment.present else None,
            multifunction=False,
            why=f"left to libvirt on machine {topology.machine_type!r}",
        )
        for assignment in assignments
    )
    return GuestPlan(tuple(placements), ())


def _layout(topology: GuestTopology, layout: Layout) -> Layout:
    if layout == "auto":
        return "root-bus" if topology.machine is Machine.I440FX else "root-port"
    if layout == "root-port" and topology.machine is Machine.I440FX:
        raise PlanError(
            "layout",
            f"machine {topology.machine_type!r} has no PCIe root ports",
            "write layout: root-bus, or give the VM machine type q35",
        )
    return layout


def _check_pinned_slots(
    chosen: _Chosen, pins: Mapping[str, tuple[str, PciAddress]], topology: GuestTopology
) -> None:
    """A guest does not look at a function whose slot has no function 0 of ours."""
    addresses = {address for address, _ in chosen.values()}
    for key, address in pins.values():
        first = address.with_function(0)
        if first not in addresses:
            owner = topology.taken.get(first)
            what = f"function 0 of its slot is {owner}" if owner else "its slot has no function 0"
            raise PlanError(
                f"slots.{key}",
                f"'{address}': {what}, and a guest finds other functions through it",
                f"pin to function 0 of a free slot, or pin another device to {first}",
            )


def _host_slots(assignments: Sequence[Assignment]) -> Iterator[list[Assignment]]:
    """Group the devices that share a guest slot, in host address order."""
    slots: dict[tuple[object, ...], list[Assignment]] = defaultdict(list)
    for assignment in sorted(assignments, key=lambda assignment: source_order(assignment.source)):
        address = assignment.host_address
        if address is None or assignment.own_slot:
            slots[(str(assignment.source),)].append(assignment)
        else:
            slots[address.slot_key].append(assignment)
    yield from slots.values()


def _place_group(
    group: Sequence[Assignment], chosen: _Chosen, room: GuestRoom, layout: Layout
) -> None:
    """Place one host slot's devices: beside those that have a place, or in a new guest slot."""
    placed = [chosen[a.alias][0] for a in group if a.alias in chosen]
    waiting = [a for a in group if a.alias not in chosen]
    if not waiting:
        return
    host_slot = str(group[0].source).rpartition(".")[0] or str(group[0].source)
    if placed:
        slot, why = placed[0], f"beside {placed[0]}, host slot {host_slot}"
    else:
        slot, why = _new_slot(waiting[0], host_slot, room, layout)
        chosen[waiting[0].alias] = (slot, why)
        waiting = waiting[1:]
    for assignment in waiting:
        address = room.free_function(slot)
        if address is None:
            raise PlanError(
                f"{assignment.source} ({assignment.alias})",
                f"guest slot {slot} has no function left for it",
                "pin the other devices elsewhere",
            )
        chosen[assignment.alias] = (address, why)


def _new_slot(
    first: Assignment, host_slot: str, room: GuestRoom, layout: Layout
) -> tuple[PciAddress, str]:
    slot = room.next_bus() if layout == "root-port" else room.next_root_slot()
    if slot is None:
        raise PlanError(
            f"{first.source} ({first.alias})",
            f"the guest has no free {'bus' if layout == 'root-port' else 'slot on bus 0'} for it "
            "that libvirt does not need for other devices",
            f"attach fewer devices{room.advice_when_full(layout)}",
        )
    if layout == "root-port":
        return slot, f"root port {slot.bus}, host slot {host_slot}"
    return slot, f"root bus, host slot {host_slot}"


def _plan_ports(
    room: GuestRoom, chosen: _Chosen, topology: GuestTopology
) -> tuple[PlannedController, ...]:
    """The new root ports, and those of an earlier pass, whose details KubeVirt has dropped."""
    new = room.place_ports()
    if new is None:
        raise PlanError(
            "guest",
            "bus 0 has no room for the root ports of so many devices, and those with which libvirt "
            "fills the gap below them",
            "attach fewer devices, or pin to lower buses",
        )
    places: dict[int, PciAddress | None] = dict(new)
    for address, _ in chosen.values():
        controller = topology.controllers.get(address.bus)
        if (
            controller is not None
            and controller.index >= FIRST_INDEX  # below, it may be one of libvirt's own
            and controller.model == "pcie-root-port"
        ):
            places[controller.index] = controller.address
    functions = _functions_by_slot((*topology.taken, *(p for p in places.values() if p)))
    return tuple(
        PlannedController(
            index, "pcie-root-port", places[index], _has_siblings(places[index], functions)
        )
        for index in sorted(places)
    )


def _functions_by_slot(addresses: Iterable[PciAddress]) -> Mapping[SlotKey, int]:
    """How many functions each slot has."""
    return Counter(address.slot_key for address in set(addresses))


def _has_siblings(address: PciAddress | None, functions: Mapping[SlotKey, int]) -> bool:
    """Whether this is function 0 of a slot in which there are other functions."""
    return address is not None and address.function == 0 and functions[address.slot_key] > 1


def _placements(
    assignments: Sequence[Assignment], chosen: _Chosen, topology: GuestTopology
) -> Iterator[Placement]:
    functions = _functions_by_slot((*topology.taken, *(address for address, _ in chosen.values())))
    for assignment in assignments:
        address, why = chosen[assignment.alias]
        yield Placement(assignment, address, _has_siblings(address, functions), why)
