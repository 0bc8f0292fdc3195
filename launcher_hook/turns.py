"""In which order devices get their guest slots, and which of them share one. Pure.

Every entry of the VMI has a turn, in the VMI's order, and its place depends on that alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from launcher_hook.errors import PlanError
from launcher_hook.model import Assignment
from launcher_hook.pci import PciAddress
from launcher_hook.room import GuestRoom
from launcher_hook.settings import BY_NODE, Layout

Chosen = dict[str, tuple[PciAddress, str]]
"""Guest address and reason, by alias."""


def group_host_slots(assignments: Sequence[Assignment]) -> Iterator[list[Assignment]]:
    """Group the devices that share a guest slot, by the turn of the first of each."""
    slots: dict[tuple[object, ...], list[Assignment]] = defaultdict(list)
    for assignment in assignments:
        address = assignment.host_address
        if address is None or assignment.own_slot:
            slots[(str(assignment.source),)].append(assignment)
        else:
            slots[address.slot_key].append(assignment)
    yield from slots.values()


def place_in_turn(
    slots: Sequence[Sequence[Assignment]],
    assignments: Sequence[Assignment],
    chosen: Chosen,
    room: GuestRoom,
    layout: Layout,
) -> None:
    """Place the devices that have no place yet, entry by entry.

    An entry that shares the guest slot of an earlier one leaves the place of its own turn free.
    Whether it shares one depends on the host addresses, and the entries behind it must not move
    with that. Only where the guest has no room for so many places do the later ones close up.
    """
    slot_of = {assignment.alias: slot for slot in slots for assignment in slot}
    waiting = [assignment for assignment in assignments if assignment.alias not in chosen]
    unasked = [slot for slot in slots if not any(map(_is_entry, slot))]
    count = sum(map(_is_entry, waiting)) + len(unasked)
    keeps_turns = layout not in BY_NODE and room.has_places(count, on_root_bus=_is_flat(layout))
    for assignment in waiting:
        shares = assignment.alias in chosen or any(
            other.alias in chosen for other in slot_of[assignment.alias]
        )
        place_group(slot_of[assignment.alias], chosen, room, layout)
        if shares and keeps_turns and _is_entry(assignment):
            room.skip_place(on_root_bus=_is_flat(layout))


def _is_entry(assignment: Assignment) -> bool:
    """Whether the VMI or the launcher asks for the device by itself."""
    return not assignment.is_companion and not assignment.is_unclaimed


def _is_flat(layout: Layout) -> bool:
    return layout == "root-bus"


def place_group(
    group: Sequence[Assignment], chosen: Chosen, room: GuestRoom, layout: Layout
) -> None:
    """Place one host slot's devices: beside those that have a place, or in a new guest slot."""
    placed = [chosen[a.alias][0] for a in group if a.alias in chosen]
    waiting = [a for a in group if a.alias not in chosen]
    if not waiting:
        return
    host_slot = name_host_slot(group)
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


def name_host_slot(group: Sequence[Assignment]) -> str:
    """Name the host slot of devices that share a guest slot: ``0000:86:00``, or an mdev's UUID."""
    source = str(group[0].source)
    return source.rpartition(".")[0] or source  # a mediated device's UUID has no dot


def _new_slot(
    first: Assignment, host_slot: str, room: GuestRoom, layout: Layout
) -> tuple[PciAddress, str]:
    on_root_bus = _is_flat(layout)
    slot = room.next_root_slot() if on_root_bus else room.next_bus()
    if slot is None:
        raise PlanError(
            f"{first.source} ({first.alias})",
            f"the guest has no free {'slot on bus 0' if on_root_bus else 'bus'} for it "
            "that libvirt does not need for other devices",
            f"attach fewer devices{room.advice_when_full(layout)}",
        )
    where = "root bus" if on_root_bus else f"root port {slot.bus}"
    return slot, f"{where}, host slot {host_slot}"
