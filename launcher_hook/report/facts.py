"""What is said of each device of a plan, whatever the form."""

from collections.abc import Iterator, Mapping
from typing import Any

from launcher_hook.model import HostFunction, Placement
from launcher_hook.options import spell_options
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.settings import NO_OPTIONS
from launcher_hook.sizes import print_size


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
            "options": spell_options(decision.plan.options.get(assignment.alias, NO_OPTIONS)),
            "assigned": assignment.why,
            "placed": placement.why,
        }


def own_function(placement: Placement, decision: Decision) -> HostFunction | None:
    """The function that is passed; None for a mediated device, and where it is not known."""
    address = placement.assignment.host_address
    return decision.facts.function_at(address)


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


def describe_placement(placement: Placement, decision: Decision, names: PciNames | None) -> str:
    """Alias, host source, class and name (where there are names), options."""
    assignment = placement.assignment
    parts = [f"{assignment.alias} = {assignment.source}"]
    if names is not None:
        parts.append(describe_function(own_function(placement, decision), names))
    options = decision.plan.options.get(assignment.alias, NO_OPTIONS)
    parts.append(print_options(spell_options(options)))
    return "  ".join(filter(None, parts))


def print_options(options: Mapping[str, str | int]) -> str:
    """``rom.bar=off bootOrder=1``; "" for none."""
    return " ".join(f"{key}={value}" for key, value in options.items())


def describe_hole(decision: Decision) -> str:
    """What is written of the space for 64-bit BARs, in a line; "" where nothing is."""
    hole = decision.plan.hole
    if hole is None:
        return ""
    told = ", and the firmware is told" if hole.tell_firmware else ""
    return f"pciHole64: {print_size(hole.size_bytes)} for 64-bit BARs{told}\n"


def short_name(placement: Placement) -> str:
    """The VMI's name of a device, or else its alias without ``ua-``."""
    return placement.assignment.name or placement.assignment.alias.removeprefix("ua-")
