"""What root complexes and switches a guest should have for its devices: the layouts ``numa`` and
``mirror``. Pure; which index, bus number and slot each gets is decided in ``expander``.

``numa`` gives each guest NUMA cell that has devices one root complex, and each host slot a port of
it. ``mirror`` gives each root complex of the host one in the guest, and builds below it as many
switches as it takes to keep every distance: what is behind one switch of the host (PIX) is behind
one switch of the guest, what is further apart (PXB) is there as well. A switch of the host that
has one of our devices behind it is a port in the guest: nothing tells the two apart.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from launcher_hook.distance import Position, host_function, host_position, name_host_bridge
from launcher_hook.errors import PlanError
from launcher_hook.model import Assignment, GuestNuma, HostFacts
from launcher_hook.numa import find_cell
from launcher_hook.pci import PciAddress
from launcher_hook.settings import Settings

HostSlot = Sequence[Assignment]
"""The devices that share a guest slot."""

_Located = tuple[HostSlot, Position]
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Port:
    """A root port, or a downstream port of a switch.

    Attributes:
        devices: Those in the slot behind it; none where there is a switch.
        switch: The downstream ports of the switch behind it.
    """

    devices: HostSlot = ()
    switch: tuple["Port", ...] = ()


@dataclass(frozen=True, slots=True)
class RootComplex:
    """An expander bus of the guest.

    Attributes:
        cell: The guest NUMA cell that it belongs to; None for none.
        ports: Root ports.
        why: For people: what it stands for.
    """

    cell: int | None
    ports: tuple[Port, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """What is to be built, and what could not be had.

    Attributes:
        left: Host slots that belong to no root complex of these: the guest's own has them.
    """

    complexes: tuple[RootComplex, ...]
    left: tuple[HostSlot, ...]
    warnings: tuple[str, ...]


def plan_hierarchy(
    slots: Sequence[HostSlot], settings: Settings, numa: GuestNuma, facts: HostFacts
) -> Hierarchy:
    """Decide which root complexes, switches and ports the devices need.

    Args:
        slots: In the order of their turns, in which complexes and ports are numbered too.
        settings: Its layout is numa or mirror.
        numa: The guest's cells.
        facts: Where the devices are on the node.

    Raises:
        PlanError: A device's NUMA node is no cell of the guest, and the settings are strict.
    """
    located: list[_Located] = []
    left: list[HostSlot] = []
    for slot in slots:
        function = host_function(slot[0], facts)
        if function is None:
            left.append(slot)
        else:
            located.append((slot, host_position(function)))
    nodes = {position.node for _, position in located}
    cells = {n: None if n is None else find_cell(n, numa, facts.node_cpus) for n in nodes}
    lost = (*_unlocated(left, facts), *_unmapped(located, cells, settings, numa))
    if lost and settings.strict:
        raise PlanError("strict", "; ".join(lost), _HOW_TO_MAP)
    if settings.layout == "mirror":
        return Hierarchy(tuple(_host_complexes(located, cells)), tuple(left), lost)
    left += [slot for slot, position in located if cells[position.node] is None]
    return Hierarchy(tuple(_cell_complexes(located, cells)), tuple(left), lost)


_HOW_TO_MAP = (
    "give the VM dedicated CPUs and memory of its devices' NUMA nodes (dedicatedCpuPlacement with "
    "numa.guestMappingPassthrough) and let the node's /sys be read, or write strict: false"
)


_MOST_NAMED = 8

_HOW_TO_MOVE = (
    "take out its pin, or plan for the VM's next start, where it has no address yet (offline: "
    "--fresh), or write strict: false"
)


_Cells = Mapping[int | None, int | None]
"""The guest's cell of each node of the host."""


def find_misplaced(
    slots: Iterable[HostSlot],
    guest: Mapping[str, Position | None],
    settings: Settings,
    numa: GuestNuma,
    facts: HostFacts,
) -> tuple[str, ...]:
    """Name the devices that their address keeps from their NUMA node's cell.

    Args:
        slots: Those that were not placed here: an address that they have or a pin did.
        guest: Where each device is in the guest, by alias.
        settings: Their layout is numa.
        numa: The guest's cells.
        facts: Where the devices are on the node.

    Raises:
        PlanError: There is one, and the settings are strict.
    """
    found = []
    cells: dict[int | None, int | None] = {None: None}
    for slot in slots:
        function, here = host_function(slot[0], facts), guest[slot[0].alias]
        if function is None:
            found.append(f"{_name(slot)}: {_where(facts)} is not known")
            continue
        node = function.numa_node
        if node is not None and node not in cells:
            cells[node] = find_cell(node, numa, facts.node_cpus)
        cell = cells[node]
        if cell is None:
            found += _unmapped([(slot, host_position(function))], {node: cell}, settings, numa)
        elif here is None or here.node != cell:
            on = "no NUMA cell" if here is None or here.node is None else f"NUMA cell {here.node}"
            what = f"its guest address is on {on}, and its host NUMA node {node} is cell {cell}"
            found.append(f"{_name(slot)}: {what}")
    if found and settings.strict:
        raise PlanError("strict", "; ".join(found[:_MOST_NAMED]), _HOW_TO_MOVE)
    return tuple(found)


def _where(facts: HostFacts) -> str:
    return "where it is on the node" if facts.known else "the node's /sys"


def _unlocated(slots: Iterable[HostSlot], facts: HostFacts) -> Iterator[str]:
    for slot in slots:
        what = f"{_where(facts)} is not known, so it stays on the guest's own root bus"
        yield f"{_name(slot)}: {what}"


def _unmapped(
    located: Iterable[_Located], cells: _Cells, settings: Settings, numa: GuestNuma
) -> Iterator[str]:
    """Devices whose NUMA node the guest does not have.

    In a guest without cells no two devices are apart by theirs: the layout mirror says what
    distances that changes.
    """
    if not numa.cells and settings.layout == "mirror":
        return
    for slot, position in located:
        if position.node is None:
            if settings.layout == "numa":
                yield f"{_name(slot)}: its NUMA node is not known"
        elif cells[position.node] is None:
            what = "is no guest NUMA cell" if numa.cells else "has no cell: the guest has none"
            yield f"{_name(slot)}: host NUMA node {position.node} {what}"


def _name(slot: HostSlot) -> str:
    return f"{slot[0].source} ({slot[0].alias})"


def _cell_complexes(located: Sequence[_Located], cells: _Cells) -> Iterator[RootComplex]:
    by_cell = _group(located, lambda position: cells[position.node])
    for cell, within in sorted((cell, within) for cell, within in by_cell if cell is not None):
        yield RootComplex(cell, tuple(Port(slot) for slot, _ in within), f"NUMA cell {cell}")


def _host_complexes(located: Sequence[_Located], cells: _Cells) -> Iterator[RootComplex]:
    for (root, node), within in _group(located, lambda position: (position.root, position.node)):
        by_port = _group(within, lambda position: position.bridges[0])
        ports = tuple(_root_port(below) for _, below in by_port)
        yield RootComplex(cells[node], ports, f"host root complex {name_host_bridge(root)}")


def _root_port(below: Sequence[_Located]) -> Port:
    if len(below) == 1:
        return Port(below[0][0])
    return Port(switch=_switch(below))


def _switch(below: Sequence[_Located]) -> tuple[Port, ...]:
    """The downstream ports of the switch that all of these are behind.

    One bridge behind the last that they share is a downstream port of that switch, and more are
    another switch.
    """
    shared = _shared([position.bridges for _, position in below])
    ports: list[Port] = []
    for _, branch in _group(below, lambda position: position.bridges[shared : shared + 1]):
        near = [located for located in branch if len(located[1].bridges) <= shared + 1]
        far = [located for located in branch if len(located[1].bridges) > shared + 1]
        ports.extend(Port(slot) for slot, _ in near)
        if far:
            ports.append(Port(switch=_switch(far)))
    return tuple(ports)


def _shared(chains: Sequence[tuple[PciAddress, ...]]) -> int:
    """How many bridges, from the root bus down, all of the chains share."""
    levels = zip(*chains, strict=False)
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))


def _group(
    located: Iterable[_Located], key: Callable[[Position], _Key]
) -> list[tuple[_Key, list[_Located]]]:
    """Group by a key, in the order in which the keys come."""
    groups: dict[_Key, list[_Located]] = {}
    for one in located:
        groups.setdefault(key(one[1]), []).append(one)
    return list(groups.items())
