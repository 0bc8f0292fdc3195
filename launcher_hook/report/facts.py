"""What is said of each device of a plan, whatever the form."""

from collections.abc import Iterator
from typing import Any

from launcher_hook.model import HostFunction, Placement
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision


def device_facts(decision: Decision, names: PciNames) -> Iterator[dict[str, Any]]:
    """Every device, in the plan's order; None is "not known"."""
    for placement in decision.plan.placements:
        assignment = placement.assignment
        function = own_function(placement, decision)
        yield {
            "device": assignment.name,
            "alias": assignment.alias,
            "host": str(assignment.source),
            "class": class_name(function, names),
            "name": device_name(function, names),
            "iommu_group": function.iommu_group if function else None,
            "numa_node": function.numa_node if function else None,
            "guest": str(placement.guest_address) if placement.guest_address else None,
            "multifunction": placement.multifunction,
            "assigned": assignment.why,
            "placed": placement.why,
        }


def own_function(placement: Placement, decision: Decision) -> HostFunction | None:
    """The function that is passed; None for a mediated device, and where it is not known."""
    address = placement.assignment.host_address
    return None if address is None else decision.facts.functions.get(address)


def class_name(function: HostFunction | None, names: PciNames) -> str | None:
    """Such as ``3D controller``."""
    if function is None or function.class_code is None:
        return None
    return names.class_name(function.class_code)


def device_name(function: HostFunction | None, names: PciNames) -> str | None:
    """What pci.ids calls it, or else its two ids."""
    return None if function is None else names.function_name(function) or function.ids


def describe_function(function: HostFunction | None, names: PciNames) -> str:
    """Class and name; "" where neither is known."""
    known = filter(None, (class_name(function, names), device_name(function, names)))
    return ": ".join(known)


def describe_placement(placement: Placement, decision: Decision, names: PciNames) -> str:
    """Alias, host source, class and name."""
    assignment = placement.assignment
    details = describe_function(own_function(placement, decision), names)
    text = f"{assignment.alias} = {assignment.source}"
    return f"{text}  {details}" if details else text


def short_name(placement: Placement) -> str:
    """The VMI's name of a device, or else its alias without ``ua-``."""
    return placement.assignment.name or placement.assignment.alias.removeprefix("ua-")
