"""Which guest slot and function each device gets. Pure; the same input gives the same plan.

The guest address of a VMI's entry depends on the VMI and its configuration, and not on the host
address that kubelet happened to allocate: a guest finds its devices where they were at its last
start. So every entry takes its turn in the VMI's order, and devices that no entry asks for come
after them.

Functions of one host slot share a guest slot, so that the guest's driver sees one multi-function
device. They are renumbered from 0, entries first, because a guest does not look at functions 1 to 7
of a slot that has no function 0. An address that a device has already stays: it may be in use by
the guest's configuration, and libvirt has seen it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from launcher_hook.chipset import owners_by_address
from launcher_hook.distance import find_changed, guest_positions, host_positions
from launcher_hook.errors import InputError, PlanError, shorten
from launcher_hook.expander import Built, build_complexes
from launcher_hook.hierarchy import find_misplaced, plan_hierarchy
from launcher_hook.model import (
    OUR_MODELS,
    Assignment,
    GuestPlan,
    GuestTopology,
    HostFacts,
    Machine,
    Placement,
    PlannedController,
)
from launcher_hook.naming import find_named
from launcher_hook.pci import PciAddress
from launcher_hook.room import FIRST_INDEX, GuestRoom
from launcher_hook.settings import BY_NODE, Layout, Settings
from launcher_hook.turns import (
    Chosen,
    group_host_slots,
    name_host_slot,
    place_group,
    place_in_turn,
)

_MOST_NAMED = 8
"""Of the distances that are not kept: a node's devices have thousands."""

_NOTHING_KNOWN = HostFacts()

_OUTSIDE = "kept from the guest by its address, type='unassigned'"

SlotKey = tuple[int, int, int]
_Pins = Mapping[str, tuple[str, PciAddress]]
"""Key below ``slots`` and guest address, by alias."""


def plan_guest(
    assignments: Sequence[Assignment],
    topology: GuestTopology,
    settings: Settings,
    facts: HostFacts = _NOTHING_KNOWN,
) -> GuestPlan:
    """Place every assigned device in the guest.

    Args:
        assignments: In the order in which they are to be written, which is also the order of
            their turns: entries of the VMI, each with its companions behind it, then unclaimed
            devices. Their aliases are unique.
        topology: The guest without them.
        settings: Layout and pins.
        facts: Where the devices are on the node, for the layouts that ask.

    Returns:
        Placements in the order of the assignments, and the controllers to be written.

    Raises:
        InputError: A pin names no device of this VM, or two; or a hostdev came with an address
            that another device has.
        PlanError: A pin cannot be kept, the devices do not fit, or the layout cannot keep what it
            is for and the settings are strict.
    """
    pins = _resolve_pins(assignments, settings.slots)
    _check_unassigned(assignments, pins)
    if topology.machine is Machine.OTHER:
        return _left_to_libvirt(assignments, topology, pins, settings)
    layout = _layout(topology, settings.layout)
    inside = [assignment for assignment in assignments if not assignment.is_unassigned]
    chosen: Chosen = {}
    owners = owners_by_address(topology)
    for assignment in inside:
        _check_address_type(assignment)
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
    _check_left_slots(inside, chosen, pins)
    slots = list(group_host_slots(inside))
    there = [slot for slot in slots if any(a.alias in chosen for a in slot)]
    built = Built()
    warnings: list[str] = []
    if layout in BY_NODE:
        new = [slot for slot in slots if not any(a.alias in chosen for a in slot)]
        hierarchy = plan_hierarchy(new, settings, topology.numa, facts)
        warnings += hierarchy.warnings
        for slot in hierarchy.left:
            place_group(slot, chosen, room, layout)
        built = build_complexes(hierarchy.complexes, room)
        for slot, address, why in built.slots:
            chosen[slot[0].alias] = (address, f"{why}, host slot {name_host_slot(slot)}")
    place_in_turn(slots, inside, chosen, room, layout)
    controllers = _plan_controllers(room, built, chosen, topology, pins)
    placements = tuple(_placements(assignments, chosen, topology))
    if layout == "mirror":
        warnings += _changed_distances(placements, controllers, topology, facts, settings)
    elif layout == "numa":
        guest = guest_positions(placements, controllers, topology)
        warnings += find_misplaced(there, guest, settings, topology.numa, facts)
    return GuestPlan(placements, controllers, room.bridge_index(), tuple(warnings))


def _resolve_pins(
    assignments: Sequence[Assignment], slots: Mapping[str, PciAddress]
) -> dict[str, tuple[str, PciAddress]]:
    """Find the device of each pin: key and address, by alias."""
    pins = find_named(slots, assignments, "slots")
    pinned: dict[PciAddress, str] = {}
    for key, address in pins.values():
        if address in pinned:
            raise PlanError(
                f"slots.{key}",
                f"'{address}' is pinned by slots.{pinned[address]} too",
                "give each device an address of its own",
            )
        pinned[address] = key
    return pins


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


def _check_unassigned(assignments: Sequence[Assignment], pins: _Pins) -> None:
    for assignment in assignments:
        if assignment.is_unassigned and assignment.alias in pins:
            raise PlanError(
                f"slots.{pins[assignment.alias][0]}",
                f"the domain keeps {assignment.source} ({assignment.alias}) from the guest: "
                "<address type='unassigned'/>",
                "take the pin out, or that address",
            )


def _check_address_type(assignment: Assignment) -> None:
    """An address that is no PCI one, which libvirt refuses on a machine with PCI."""
    kind = assignment.present.address_type if assignment.present is not None else None
    if kind not in (None, "pci"):
        raise InputError(
            f"{assignment.source} ({assignment.alias})",
            f"its guest address has type {shorten(kind)}, which libvirt does not take for it",
            "take the address out of the hostdev",
        )


def _left_to_libvirt(
    assignments: Sequence[Assignment],
    topology: GuestTopology,
    pins: _Pins,
    settings: Settings,
) -> GuestPlan:
    machine = shorten(topology.machine_type)
    for key, address in pins.values():
        raise PlanError(
            f"slots.{key}",
            f"'{address}': machine {machine} has no PCI slots of our planning",
            "take the pin out",
        )
    placements = (
        Placement(
            assignment,
            assignment.present.guest_address if assignment.present else None,
            multifunction=False,
            why=_OUTSIDE if assignment.is_unassigned else f"left to libvirt on machine {machine}",
        )
        for assignment in assignments
    )
    lost = f"layout {settings.layout} is left to libvirt on machine {machine}"
    if settings.layout not in BY_NODE:
        return GuestPlan(tuple(placements), ())
    if settings.strict:
        raise PlanError("strict", lost, "give the VM machine type q35, or write strict: false")
    return GuestPlan(tuple(placements), (), warnings=(lost,))


def _layout(topology: GuestTopology, layout: Layout) -> Layout:
    if layout == "auto":
        return "root-bus" if topology.machine is Machine.I440FX else "root-port"
    if layout != "root-bus" and topology.machine is Machine.I440FX:
        raise PlanError(
            "layout",
            f"machine {shorten(topology.machine_type)} has no PCIe root ports",
            "write layout: root-bus, or give the VM machine type q35",
        )
    return layout


def _check_pinned_slots(chosen: Chosen, pins: _Pins, topology: GuestTopology) -> None:
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


def _check_left_slots(
    assignments: Sequence[Assignment],
    chosen: Chosen,
    pins: _Pins,
) -> None:
    """A pin that takes function 0 out of a slot in which other functions of ours stay."""
    left = {
        a.present.guest_address: pins[a.alias][0]
        for a in assignments
        if a.present is not None and a.alias in pins
    }
    addresses = {address for address, _ in chosen.values()}
    for alias, (address, _) in chosen.items():
        first = address.with_function(0)
        if alias not in pins and first in left and first not in addresses:
            raise PlanError(
                f"slots.{left[first]}",
                f"it is function 0 of the slot in which {alias} stays, at '{address}', and a guest "
                "finds other functions through it",
                f"pin {alias} too, or take the pin out",
            )


def _plan_controllers(
    room: GuestRoom,
    built: Built,
    chosen: Chosen,
    topology: GuestTopology,
    pins: _Pins,
) -> tuple[PlannedController, ...]:
    """The new controllers, and those of an earlier pass, whose details KubeVirt has dropped."""
    new = room.place_ports()
    if new is None:
        _check_high_pin(room, chosen, pins)
        raise PlanError(
            "guest",
            "bus 0 has no room for the root ports of so many devices, and those with which libvirt "
            "fills the gap below them",
            "attach fewer devices, or pin to lower buses",
        )
    planned = {c.index: c for c in (*_earlier(chosen, topology), *built.controllers)}
    planned |= {i: PlannedController(i, "pcie-root-port", place) for i, place in new.items()}
    functions = _functions_by_slot(
        (*topology.taken, *(c.address for c in planned.values() if c.address is not None))
    )
    return tuple(
        replace(planned[index], multifunction=_has_siblings(planned[index].address, functions))
        for index in sorted(planned)
    )


def _check_high_pin(room: GuestRoom, chosen: Chosen, pins: _Pins) -> None:
    """Blame the pin that alone is as high as no other device: the gap below it is its own."""
    if not pins:
        return
    alias, (key, address) = max(pins.items(), key=lambda pin: pin[1][1])
    lowest = room.lowest_bus()
    others = [lowest, *(a.bus for other, (a, _) in chosen.items() if other != alias)]
    if address.bus > max(others) + 1:
        raise PlanError(
            f"slots.{key}",
            f"'{address}': libvirt fills the gap below bus {address.bus:#04x} with root ports, for "
            "which bus 0 has no room",
            f"pin to a lower bus, e.g. {PciAddress(0, lowest, 0, 0)}",
        )


def _earlier(chosen: Chosen, topology: GuestTopology) -> Iterator[PlannedController]:
    """The controllers above our devices that an earlier pass wrote.

    Below FIRST_INDEX they may be libvirt's or the launcher's own.
    """
    buses = {address.bus for address, _ in chosen.values()}
    seen: set[int] = set()
    while buses:
        seen |= buses
        there = [topology.controllers[bus] for bus in buses if bus in topology.controllers]
        for controller in there:
            if controller.index >= FIRST_INDEX and controller.model in OUR_MODELS:
                yield PlannedController(
                    controller.index,
                    controller.model,
                    controller.address,
                    bus_nr=controller.bus_nr,
                    node=controller.node,
                )
        buses = {c.address.bus for c in there if c.address is not None} - seen


def _changed_distances(
    placements: Sequence[Placement],
    controllers: Sequence[PlannedController],
    topology: GuestTopology,
    facts: HostFacts,
    settings: Settings,
) -> Iterator[str]:
    """What the layout mirror could not keep."""
    host = host_positions([p.assignment for p in placements], facts)
    guest = guest_positions(placements, controllers, topology)
    changed = list(find_changed(host, guest))
    if changed and settings.strict:
        raise PlanError(
            "strict",
            "; ".join(changed[:_MOST_NAMED]),
            "give the VM NUMA cells for its devices' NUMA nodes, take out pins and let the "
            "launcher give no addresses (feature gate PCINUMAAwareTopology), or write "
            "strict: false",
        )
    yield from changed[:_MOST_NAMED]
    if len(changed) > _MOST_NAMED:
        yield f"and {len(changed) - _MOST_NAMED} more distances are not kept"


def _functions_by_slot(addresses: Iterable[PciAddress]) -> Mapping[SlotKey, int]:
    """How many functions each slot has."""
    return Counter(address.slot_key for address in set(addresses))


def _has_siblings(address: PciAddress | None, functions: Mapping[SlotKey, int]) -> bool:
    """Whether this is function 0 of a slot in which there are other functions."""
    return address is not None and address.function == 0 and functions[address.slot_key] > 1


def _placements(
    assignments: Sequence[Assignment], chosen: Chosen, topology: GuestTopology
) -> Iterator[Placement]:
    functions = _functions_by_slot((*topology.taken, *(address for address, _ in chosen.values())))
    for assignment in assignments:
        if assignment.is_unassigned:
            yield Placement(assignment, None, multifunction=False, why=_OUTSIDE)
            continue
        address, why = chosen[assignment.alias]
        yield Placement(assignment, address, _has_siblings(address, functions), why)
