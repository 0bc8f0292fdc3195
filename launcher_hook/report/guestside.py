"""The guest's side of a picture: NUMA cells, root and expander buses, ports, devices. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from launcher_hook.distance import Position, guest_positions
from launcher_hook.model import GuestController, Machine, PlannedController
from launcher_hook.pci import PciAddress
from launcher_hook.render import Decision
from launcher_hook.report.facts import short_name
from launcher_hook.report.nesting import Spot, Step, nest_zones, order_of, print_address
from launcher_hook.report.picture import Leaf, Zone, leaves

_LAST = 1 << 40  # after every cell

_GUEST_BRIDGES = {
    "pcie-root-port": "root port",
    "pcie-switch-upstream-port": "switch",
    "pcie-switch-downstream-port": "port",
    "pcie-to-pci-bridge": "PCI bridge",
    "dmi-to-pci-bridge": "PCI bridge",
    "pci-bridge": "PCI bridge",
}


def guest_zones(decision: Decision, hues: Mapping[int, int | None]) -> tuple[Zone, ...]:
    """Where the devices of a plan are in the guest, by NUMA cell.

    Args:
        decision: The plan and its guest.
        hues: Of the NUMA node that each device is on.
    """
    zones = []
    for zone in nest_zones(_guest_spots(decision)):
        inside = {
            hues[leaf.device]
            for root in zone.roots
            for leaf in leaves(root.below)
            if leaf.device is not None
        }
        # The colour of the node that all of it comes from, if this zone is a cell at all.
        hue = inside.pop() if len(inside) == 1 and zone.label.startswith("NUMA cell") else None
        zones.append(replace(zone, hue=hue))
    return tuple(zones)


def _guest_spots(decision: Decision) -> Iterator[Spot]:
    plan, topology = decision.plan, decision.topology
    controllers = topology.controllers_with(plan.controllers)
    at = {c.address: c for c in controllers.values() if c.address is not None}
    positions = guest_positions(plan.placements, plan.controllers, topology)
    for number, placement in enumerate(plan.placements):
        address = placement.guest_address
        if address is None:
            outside = placement.assignment.is_unassigned
            label = "not in the guest" if outside else "left to libvirt"
            zone, root = Step((_LAST + 1 + outside,), label), Step((0,), "")
            yield Spot(zone, root, (), (number,), Leaf(number, short_name(placement), ""))
            continue
        leaf = Leaf(number, short_name(placement), print_address(address, True), address)
        position = positions[placement.assignment.alias]
        zone, root = _guest_root(position, controllers, topology.machine)
        if position is None:  # behind a port that libvirt has yet to add or to place
            steps: tuple[Step, ...] = (
                Step((0, address.bus, 0, 0), f"bus {address.bus:02x}", "libvirt's"),
            )
        else:
            # On a root bus the function's own slot stands in for a bridge.
            bridges = () if position.bridges == (address.with_function(0),) else position.bridges
            steps = tuple(_guest_bridge(bridge, at[bridge]) for bridge in bridges)
        yield Spot(zone, root, steps, order_of(address), leaf)


def _guest_root(
    position: Position | None,
    controllers: Mapping[int, GuestController | PlannedController],
    machine: Machine,
) -> tuple[Step, Step]:
    index = 0 if position is None else position.root[1]
    zone = Step((_LAST,), "no NUMA cell")
    if index == 0:
        return zone, Step((0,), "pci.0" if machine is Machine.I440FX else "pcie.0", "root bus")
    controller = controllers[index]
    if controller.node is not None:
        zone = Step((controller.node,), f"NUMA cell {controller.node}")
    number = "" if controller.bus_nr is None else f"busNr {controller.bus_nr}"
    return zone, Step((index,), f"expander bus {index}", number)


def _guest_bridge(address: PciAddress, controller: GuestController | PlannedController) -> Step:
    kind = _GUEST_BRIDGES.get(controller.model, controller.model or "bridge")
    label = f"{kind} {controller.index}"
    return Step(order_of(address), label, print_address(address, True), address)
