"""Makes the picture of a plan: what is drawn where, in which order. Pure."""

from collections.abc import Mapping, Sequence

from launcher_hook.distance import guest_positions, host_function, host_positions, matrix
from launcher_hook.model import Placement
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.facts import describe_function, own_function, short_name
from launcher_hook.report.guestside import guest_zones
from launcher_hook.report.hostside import host_zones
from launcher_hook.report.picture import Device, Picture, Side, Unit, leaves, side_leaves


def make_picture(decision: Decision, names: PciNames) -> Picture:
    """Decide what a picture of a plan shows."""
    plan = decision.plan
    host = Side("Node", host_zones(decision, names))
    hues = _hues(host)
    guest = Side(f"Guest, {decision.topology.machine_type}", guest_zones(decision, hues))
    rows = [leaf.device for leaf in side_leaves(host) if leaf.device is not None]
    units = _units(plan.placements, rows)
    unit_of = {device: n for n, unit in enumerate(units) for device in unit.devices}
    devices = tuple(
        Device(
            _title(placement, decision, names),
            unit_of[number],
        )
        for number, placement in enumerate(plan.placements)
    )
    there = host_positions([p.assignment for p in plan.placements], decision.facts)
    here = guest_positions(plan.placements, plan.controllers, decision.topology)
    aliases = [plan.placements[unit.devices[0]].assignment.alias for unit in units]
    return Picture(
        host=host,
        guest=guest,
        devices=devices,
        units=units,
        host_distances=matrix([there[alias] for alias in aliases]),
        guest_distances=matrix([here[alias] for alias in aliases]),
        warnings=plan.warnings,
    )


def _title(placement: Placement, decision: Decision, names: PciNames) -> str:
    assignment = placement.assignment
    function = host_function(assignment, decision.facts)
    own = own_function(placement, decision)
    facts = []
    if function is not None and function.numa_node is not None:
        facts.append(f"NUMA node {function.numa_node}")
    if own is not None and own.iommu_group is not None:
        facts.append(f"IOMMU group {own.iommu_group}")
    lines = [
        f"{assignment.name} ({assignment.alias})" if assignment.name else assignment.alias,
        f"{assignment.source} {describe_function(own, names)}".strip(),
        f"a part of {function.address}" if own is None and function is not None else "",
        ", ".join(facts),
        _guest_place(placement),
        f"{assignment.why}; {placement.why}",
    ]
    return "\n".join(filter(None, lines))


def _guest_place(placement: Placement) -> str:
    if placement.assignment.is_unassigned:
        return placement.guest_place
    return f"in the guest at {placement.guest_address or 'an address that libvirt chooses'}"


def _units(placements: Sequence[Placement], rows: Sequence[int]) -> tuple[Unit, ...]:
    """Group the devices, which are given in the order of the host's rows."""
    groups: dict[object, list[int]] = {}
    for number in rows:
        placement = placements[number]
        host, guest = placement.assignment.host_address, placement.guest_address
        key = (host.slot_key, guest.slot_key) if host and guest else number
        groups.setdefault(key, []).append(number)
    return tuple(
        Unit(short_name(placements[first]) + (f" +{len(more)}" if more else ""), (first, *more))
        for first, *more in groups.values()
    )


def _hues(host: Side) -> Mapping[int, int | None]:
    """The hue of each device's zone on the node."""
    return {
        leaf.device: zone.hue
        for zone in host.zones
        for root in zone.roots
        for leaf in leaves(root.below)
        if leaf.device is not None
    }
