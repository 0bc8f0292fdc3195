"""How far two functions are from each other on PCI, on the host and in the guest. Pure.

NCCL and nvidia-smi decide by these how GPUs and NICs talk; the words are theirs (`nvidia-smi topo
-m`; nvml.h, nvmlGpuTopologyLevel_t):

- ``X``: the function itself
- ``PIX``: the same slot, or at most one switch between them
- ``PXB``: several switches, and no host bridge
- ``PHB``: the same host bridge, different root ports
- ``NODE``: different host bridges of one NUMA node
- ``SYS``: different NUMA nodes
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from launcher_hook.model import (
    Assignment,
    GuestController,
    GuestTopology,
    HostFacts,
    HostFunction,
    Placement,
    PlannedController,
)
from launcher_hook.pci import PciAddress

Distance = Literal["X", "PIX", "PXB", "PHB", "NODE", "SYS"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a function is in a PCI hierarchy.

    Attributes:
        root: Its host bridge: PCI domain and root bus; in the guest 0 and the controller index of
            the root or expander bus.
        node: NUMA node of the host, or cell of the guest; None where it has none.
        bridges: Those above it, from the root bus down. For a function on a root bus its own slot,
            function 0, stands in: as with a root port, what is not below it is over the bridge.
    """

    root: tuple[int, int]
    node: int | None
    bridges: tuple[PciAddress, ...]


def distance(one: Position, other: Position) -> Distance:
    """How far apart two different functions are; the same in both directions."""
    if one.node != other.node:
        return "SYS"
    if one.root != other.root:
        return "NODE"
    common = 0
    for left, right in zip(one.bridges, other.bridges, strict=False):
        if left != right:
            break
        common += 1
    if common == 0:
        return "PHB"
    # Up and down through one switch: each is behind one of its downstream ports, or on its bus.
    return "PIX" if max(len(one.bridges), len(other.bridges)) - common <= 1 else "PXB"


def host_position(function: HostFunction) -> Position:
    """Where a function is on the node."""
    bridges = function.bridges or (function.address.with_function(0),)
    return Position(function.host_bridge, function.numa_node, bridges)


def name_host_bridge(root: tuple[int, int]) -> str:
    """A host bridge as ``/sys/devices`` calls it: ``pci0000:15``."""
    domain, bus = root
    return f"pci{domain:04x}:{bus:02x}"


def host_function(assignment: Assignment, facts: HostFacts) -> HostFunction | None:
    """The function of the node that a device is, or (a mediated device) is a part of."""
    address = assignment.host_address or facts.mediated_parents.get(str(assignment.source))
    return facts.function_at(address)


def host_positions(
    assignments: Sequence[Assignment], facts: HostFacts
) -> Mapping[str, Position | None]:
    """Where each device is on the node, by alias; None where that is not known."""
    functions = {a.alias: host_function(a, facts) for a in assignments}
    return {
        alias: None if function is None else host_position(function)
        for alias, function in functions.items()
    }


def guest_positions(
    placements: Sequence[Placement],
    controllers: Sequence[PlannedController],
    topology: GuestTopology,
) -> Mapping[str, Position | None]:
    """Where each device is in the guest, by alias; None where libvirt decides."""
    by_index = topology.controllers_with(controllers)
    return {
        p.assignment.alias: None
        if p.guest_address is None
        else _guest_position(p.guest_address, by_index)
        for p in placements
    }


def _guest_position(
    address: PciAddress, by_index: Mapping[int, GuestController | PlannedController]
) -> Position | None:
    bridges: list[PciAddress] = []
    bus = address.bus
    while bus != 0:
        controller = by_index.get(bus)
        if controller is None or len(bridges) > len(by_index):  # or a circle in a hostile domain
            return None
        if controller.model == "pcie-expander-bus":
            return _position(address, bridges, bus, controller.node)
        if controller.address is None:
            return None
        bridges.insert(0, controller.address)
        bus = controller.address.bus
    return _position(address, bridges, 0, None)


def _position(
    address: PciAddress, bridges: Sequence[PciAddress], root: int, node: int | None
) -> Position:
    return Position((0, root), node, tuple(bridges) or (address.with_function(0),))


def matrix(positions: Sequence[Position | None]) -> list[list[Distance | None]]:
    """The distance of each pair; None where one of the two is not known."""
    return [
        [
            "X" if row == column else None if one is None or other is None else distance(one, other)
            for column, other in enumerate(positions)
        ]
        for row, one in enumerate(positions)
    ]


def find_changed(
    host: Mapping[str, Position | None], guest: Mapping[str, Position | None]
) -> Iterator[str]:
    """Name each pair of devices that are another distance apart in the guest than on the node.

    Pairs of which one distance is not known are left out.
    """
    # One of each pair of positions: the functions of a slot have the same two.
    first: dict[tuple[Position, Position], str] = {}
    for alias, on_host in host.items():
        in_guest = guest[alias]
        if on_host is not None and in_guest is not None:
            first.setdefault((on_host, in_guest), alias)
    groups: dict[tuple[_Port, _Port], list[_Located]] = {}
    for (on_host, in_guest), alias in first.items():
        ports = (_port(on_host), _port(in_guest))
        groups.setdefault(ports, []).append((alias, on_host, in_guest))
    seen: list[list[_Located]] = []
    for group in groups.values():
        for others in seen:
            # One pair speaks for all of two groups: what is behind different root ports is PHB or
            # more apart, every pair the same, and what is behind one root port is less.
            if next(_changed(others[:1], group[:1]), None) is not None:
                yield from _changed(others, group)
        for number, one in enumerate(group):
            yield from _changed(group[:number], [one])
        seen.append(group)


_Port = tuple[tuple[int, int], int | None, PciAddress]
"""A root port: host bridge, NUMA node, address."""

_Located = tuple[str, Position, Position]
"""Alias, position on the host, position in the guest."""


def _port(position: Position) -> _Port:
    return (position.root, position.node, position.bridges[0])


def _changed(ones: Sequence[_Located], others: Sequence[_Located]) -> Iterator[str]:
    for one, host_one, guest_one in ones:
        for other, host_other, guest_other in others:
            there, here = distance(host_one, host_other), distance(guest_one, guest_other)
            if there != here:
                yield f"{one} and {other} are {there} on the node and {here} in the guest"
