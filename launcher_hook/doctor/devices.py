"""Whether the functions that are for VMs can be given to one, and who is in the way. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher_hook.deviceplugin.devices import Device, Unoffered
from launcher_hook.deviceplugin.health import find_trouble
from launcher_hook.deviceplugin.selection import Selection
from launcher_hook.devnodes import find_among
from launcher_hook.doctor.finding import Finding, counted, fail, fine, listed, warn
from launcher_hook.doctor.nodefacts import NodeFacts
from launcher_hook.model import HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.vfio import is_bound_to_vfio, is_bridge, keeps_group_viable

_DISPLAY = 0x03
_NODES_LIVELIHOOD = (0x01, 0x02)  # storage, network: base classes


def has_selected(facts: NodeFacts) -> bool:
    """Whether anything on the node is for VMs."""
    return bool(facts.inventory.resources) or any(u.selected for u in facts.inventory.unoffered)


def check_devices(facts: NodeFacts, selection: Selection, choose: str) -> Iterator[Finding]:
    """Each function that is for VMs: its driver, its node, that it answers; then its group.

    Args:
        facts: The node.
        selection: What is for VMs.
        choose: How the user says which functions are for VMs.
    """
    if not has_selected(facts):
        left = [*_left_to_kubevirt(facts, selection)]
        yield from left or [_nothing_selected(facts, choose)]
        return
    yield from _check_unbound(facts)
    groups = _Groups.of(facts)
    for resource, devices in facts.inventory.resources.items():
        good = []
        for device in devices:
            trouble = _trouble(device, facts)
            if trouble is None and device.iommu_group not in groups.held:
                good.append(device)
            elif trouble is not None:
                what, _, fix = trouble.partition("; ")
                yield fail("devices", f"{device.id} ({resource})", what, fix or "mend the device")
        if good:
            kind = "mediated device" if good[0].is_mediated else "function"
            yield fine(
                "devices", resource, f"{counted(len(good), kind)} to give: {listed(good_ids(good))}"
            )
    yield from _check_groups(groups, facts)
    for warning in facts.inventory.warnings:
        what, _, fix = warning.partition("; ")
        yield warn("devices", "what is selected", what, fix)


def good_ids(devices: Sequence[Device]) -> list[str]:
    """Their ids, in order."""
    return [device.id for device in devices]


def _left_to_kubevirt(facts: NodeFacts, selection: Selection) -> Iterator[Finding]:
    """Why a configuration that matches functions has the plugin offer none."""
    for selector in selection.pci:
        matched = [_named(f) for f in facts.functions if selector.matches(f)]
        if matched and not selector.external:
            yield warn(
                "devices",
                selector.where,
                "it has no 'externalResourceProvider: true', so KubeVirt's own virt-handler offers "
                f"{listed(matched)}",
                "write that, unless it is meant",
            )


def _nothing_selected(facts: NodeFacts, choose: str) -> Finding:
    others = [f for f in facts.functions if f.base_class == _DISPLAY]
    what = "nothing on the node is selected for VMs"
    if others:
        what += f"; its display functions are {listed(map(_named, others))}"
    return warn("devices", facts.kernel.sysfs, what, choose)


def _trouble(device: Device, facts: NodeFacts) -> str | None:
    """Its own trouble: that of its group has a check of its own."""
    return find_trouble(
        device,
        device.function,
        (),
        find_among(facts.nodes),
        facts.answers.get(device.source),
    )


def _check_unbound(facts: NodeFacts) -> Iterator[Finding]:
    offered = {device.iommu_group for device in facts.inventory.devices()}
    alike = defaultdict(list)
    for unoffered in facts.inventory.unoffered:
        if unoffered.selected and not _comes_along(unoffered, offered):
            function = unoffered.function
            ids = (None, None) if function is None else (function.vendor_id, function.device_id)
            alike[(unoffered.why, ids)].append(unoffered)
    for (why, _), several in alike.items():
        what, _, fix = why.partition("; ")
        functions = [u.function for u in several if u.function is not None]
        if functions and _is_unbound(several[0]):
            fix = f"bind to vfio-pci: {bind_commands(functions, facts)}"
        sources = [str(u.source) if u.function is None else _named(u.function) for u in several]
        yield fail("devices", listed(sources), what, fix or "mend what it says")


def _is_unbound(unoffered: Unoffered) -> bool:
    """Whether a driver has it, or none, that is none of vfio's."""
    function = unoffered.function
    return (
        isinstance(unoffered.source, PciAddress)
        and function is not None
        and function.driver is not None
        and not is_bridge(function)
        and not is_bound_to_vfio(function)
    )


def _comes_along(unoffered: Unoffered, offered: set[int]) -> bool:
    """Whether it is selected and goes with another function of its group, as is right."""
    function = unoffered.function
    return (
        isinstance(unoffered.source, PciAddress)
        and function is not None
        and is_bound_to_vfio(function)
        and function.iommu_group in offered
    )


@dataclass(frozen=True, slots=True)
class _Groups:
    """The IOMMU groups of functions that are for VMs.

    Attributes:
        members: By group: its functions but bridges, in order.
        held: By group: the functions for which vfio does not give it out, and that are not for VMs
            themselves; groups without one are left out.
        unbound: Groups with a function that is for VMs and not bound to vfio.
    """

    members: Mapping[int, Sequence[HostFunction]]
    held: Mapping[int, Sequence[HostFunction]]
    unbound: Collection[int]

    @classmethod
    def of(cls, facts: NodeFacts) -> "_Groups":
        unbound = {u.source for u in facts.inventory.unoffered if u.selected and _is_unbound(u)}
        given = {d.source for d in facts.inventory.devices() if not d.is_mediated}
        members: dict[int, list[HostFunction]] = defaultdict(list)
        for function in facts.functions:
            if function.iommu_group is not None and not is_bridge(function):
                members[function.iommu_group].append(function)
        wanted = {
            group: functions
            for group, functions in sorted(members.items())
            if any(f.address in given or f.address in unbound for f in functions)
        }
        held = {
            group: [
                f for f in functions if keeps_group_viable(f) is False and f.address not in unbound
            ]
            for group, functions in wanted.items()
        }
        return cls(
            wanted,
            {group: holders for group, holders in held.items() if holders},
            {group for group, fs in wanted.items() if any(f.address in unbound for f in fs)},
        )


def _check_groups(groups: _Groups, facts: NodeFacts) -> Iterator[Finding]:
    for group, functions in groups.members.items():
        where = f"IOMMU group {group}"
        holders = groups.held.get(group, ())
        if holders:
            held = listed(f"{_named(f)} is bound to {f.driver!r}" for f in holders)
            fix = _part_ways(group, holders, facts)
            yield fail("groups", where, f"no VM can have it: {held}", fix)
        slots = {f.address.slot_key for f in functions}
        if len(slots) > 1:
            yield warn(
                "groups",
                where,
                f"it holds {len(slots)} slots ({listed(f.address for f in functions)}), which only "
                "one VM can have together",
                "where that is too many, put the cards below root ports with ACS of their own",
            )
    viable = [g for g in groups.members if g not in groups.held and g not in groups.unbound]
    if viable:
        yield fine("groups", f"IOMMU {listed(viable)}", "vfio gives each of them out")


def bind_commands(functions: Sequence[HostFunction], facts: NodeFacts) -> str:
    """What to type on the node, now and for every boot."""
    addresses = " ".join(str(function.address) for function in functions)
    device = "/sys/bus/pci/devices/$f"
    unbind = f" echo $f > {device}/driver/unbind;" if any(f.driver for f in functions) else ""
    now = (
        f"for f in {addresses}; do echo vfio-pci > {device}/driver_override;{unbind} "
        "echo $f > /sys/bus/pci/drivers_probe; done"
    )
    ids = sorted({f.ids for f in functions if f.ids is not None})
    if not ids:
        return now
    nodes_own = {f.ids for f in _nodes_own(facts)}
    if nodes_own.isdisjoint(ids):
        return (
            f"{now}; for every boot add {','.join(ids)} to vfio-pci.ids= on the kernel command line"
        )
    return (
        f"{now}; for every boot (not by ids: functions that the node uses have the same) "
        f"for f in {addresses}; do driverctl set-override $f vfio-pci; done"
    )


def _nodes_own(facts: NodeFacts) -> Iterator[HostFunction]:
    """What is not for VMs, nor in the group of what is."""
    given = {device.source for device in facts.inventory.devices()}
    given |= {unoffered.source for unoffered in facts.inventory.unoffered if unoffered.selected}
    groups = {f.iommu_group for f in facts.functions if f.address in given} - {None}
    for function in facts.functions:
        if not (
            function.address in given
            or function.iommu_group in groups
            or is_bound_to_vfio(function)
        ):
            yield function


def _part_ways(group: int, holders: Sequence[HostFunction], facts: NodeFacts) -> str:
    """What to do where others are in the group: what the node lives on is not to be taken first."""
    commands = f"bind to vfio-pci, or to no driver: {bind_commands(holders, facts)}"
    used = [f for f in holders if f.base_class in _NODES_LIVELIHOOD]
    if not used:
        return commands
    return (
        f"the node may live on {listed(map(_named, used))}: put the card into another slot, below "
        f"a root port with ACS, so that it leaves group {group}; if they are spare, {commands}"
    )


def _named(function: HostFunction) -> str:
    address = str(function.address)
    return address if function.ids is None else f"{address} ({function.ids})"
