"""The node's side of a picture: NUMA nodes, root complexes, bridges, functions. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from launcher_hook.distance import host_function, name_host_bridge
from launcher_hook.model import HostFacts, HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.facts import class_name, device_name
from launcher_hook.report.nesting import Spot, Step, nest_zones, order_of, print_address
from launcher_hook.report.picture import Bridge, Leaf, Zone

_LAST = 1 << 40  # after every NUMA node

_BRIDGE = 0x06  # base class


def host_zones(decision: Decision, names: PciNames) -> tuple[Zone, ...]:
    """What of the node is around the devices of a plan, by NUMA node."""
    spots = [*_device_spots(decision, names), *_neighbour_spots(decision, names)]
    zones = [
        replace(zone, roots=tuple(replace(r, below=_name_bridges(r.below, "")) for r in zone.roots))
        for zone in nest_zones(spots)
    ]
    # A node's number is no hue: two sockets of a VM may be nodes 2 and 3 of eight.
    numbered = sorted({spot.zone for spot in spots if spot.zone.order[0] < _LAST})
    hues = {step.label: hue for hue, step in enumerate(numbered)}
    return tuple(replace(zone, hue=hues.get(zone.label)) for zone in zones)


def _device_spots(decision: Decision, names: PciNames) -> Iterator[Spot]:
    short = _is_short(decision.facts)
    for number, placement in enumerate(decision.plan.placements):
        assignment = placement.assignment
        source = print_address(assignment.source, short)
        function = host_function(assignment, decision.facts)
        if function is None:
            zone, root = _unknown_zone(decision.facts), Step((0,), "")
            yield Spot(zone, root, (), (number,), Leaf(number, source, "", assignment.host_address))
        elif assignment.host_address is not None:
            yield _host_spot(function, _function_leaf(number, function, names, short), short)
        else:
            leaf = Leaf(number, source, "mediated device", function.address)
            yield _host_spot(function, leaf, short, _step(function.address, short, "function"))


def _neighbour_spots(decision: Decision, names: PciNames) -> Iterator[Spot]:
    """What shares an IOMMU group with a device of the VM and is not given to it, except bridges."""
    facts = decision.facts
    assigned = {placement.assignment.host_address for placement in decision.plan.placements}
    groups = {f.iommu_group for address, f in facts.functions.items() if address in assigned}
    for function in facts.functions.values():
        in_group = function.iommu_group is not None and function.iommu_group in groups
        if in_group and function.base_class != _BRIDGE and function.address not in assigned:
            short = _is_short(facts)
            yield _host_spot(function, _function_leaf(None, function, names, short), short)


def _is_short(facts: HostFacts) -> bool:
    """Whether addresses are written without their PCI domain, as lspci does."""
    return all(address.domain == 0 for address in facts.functions)


def _unknown_zone(facts: HostFacts) -> Step:
    if facts.known:
        return Step((_LAST + 1,), "place on the node not known")
    return Step((_LAST + 1,), "nothing known: no --sysfs")


def _host_spot(function: HostFunction, leaf: Leaf, short: bool, *more: Step) -> Spot:
    bridges = tuple(_step(bridge, short) for bridge in function.bridges)
    root = Step(function.host_bridge, name_host_bridge(function.host_bridge), "root complex")
    node = function.numa_node
    zone = Step((_LAST,), "no NUMA node") if node is None else Step((node,), f"NUMA node {node}")
    return Spot(zone, root, (*bridges, *more), order_of(function.address), leaf)


def _step(address: PciAddress, short: bool, detail: str = "") -> Step:
    return Step(order_of(address), print_address(address, short), detail, address)


def _function_leaf(
    number: int | None, function: HostFunction, names: PciNames, short: bool
) -> Leaf:
    name = device_name(function, names) or ""
    kind = class_name(function, names) or ""
    # A name says more than the class; ids say less.
    known = name and ":" not in name[4:5]
    detail = name if known else ": ".join(filter(None, (kind, name)))
    label = print_address(function.address, short)
    return Leaf(number, label, detail, function.address, function.iommu_group)


def _name_bridges(below: Sequence[Bridge | Leaf], above: str) -> tuple[Bridge | Leaf, ...]:
    """Say what each bridge is, as PCIe builds hierarchies: port, and switch or device behind it."""
    named: list[Bridge | Leaf] = []
    for one in below:
        if isinstance(one, Bridge) and not one.detail:
            ports_only = all(isinstance(inner, Bridge) for inner in one.below)
            if not above:
                kind = "root port"
            elif above in ("root port", "port") and ports_only:
                kind = "switch"
            else:
                kind = "port" if above == "switch" else "bridge"
            named.append(replace(one, detail=kind, below=_name_bridges(one.below, kind)))
        else:
            named.append(one)
    return tuple(named)
