"""A plan for people and programs: table, tree, JSON."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher_hook.model import HostFacts, HostFunction, Placement
from launcher_hook.pci import PciAddress
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision

_COLUMNS = ("device", "alias", "host", "class", "name", "group", "numa", "guest", "why")


def print_table(decision: Decision, names: PciNames) -> str:
    """One line a device; ``-`` is "not known"."""
    rows = [_COLUMNS]
    for row in _rows(decision, names):
        rows.append(
            (
                row["device"] or "-",
                row["alias"],
                row["host"],
                row["class"] or "-",
                row["name"] or "-",
                _text(row["iommu_group"]),
                _text(row["numa_node"]),
                row["guest"] or "libvirt's",
                f"{row['assigned']}; {row['placed']}",
            )
        )
    if len(rows) == 1:
        return "no devices\n"
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    lines = (
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]))
        for row in rows
    )
    return "\n".join(lines) + "\n"


def print_json(decision: Decision, names: PciNames) -> str:
    """The table's facts, for programs; null is "not known"."""
    topology = decision.topology
    document = {
        "machine": topology.machine_type,
        "devices": list(_rows(decision, names)),
        "controllers": [
            {
                "index": controller.index,
                "model": controller.model,
                "guest": str(controller.address) if controller.address else None,
                "busNr": controller.bus_nr,
                "node": controller.node,
            }
            for controller in decision.plan.controllers
        ],
        "warnings": decision.plan.warnings,
    }
    return json.dumps(document, indent=2) + "\n"


def _rows(decision: Decision, names: PciNames) -> Iterator[dict[str, Any]]:
    for placement in decision.plan.placements:
        assignment = placement.assignment
        function = _function(placement, decision.facts)
        yield {
            "device": assignment.name,
            "alias": assignment.alias,
            "host": str(assignment.source),
            "class": _class_name(function, names),
            "name": _device_name(function, names),
            "iommu_group": function.iommu_group if function else None,
            "numa_node": function.numa_node if function else None,
            "guest": str(placement.guest_address) if placement.guest_address else None,
            "multifunction": placement.multifunction,
            "assigned": assignment.why,
            "placed": placement.why,
        }


def _function(placement: Placement, facts: HostFacts) -> HostFunction | None:
    address = placement.assignment.host_address
    return facts.functions.get(address) if address is not None else None


def _class_name(function: HostFunction | None, names: PciNames) -> str | None:
    if function is None or function.class_code is None:
        return None
    return names.class_name(function.class_code)


def _device_name(function: HostFunction | None, names: PciNames) -> str | None:
    if function is None or function.vendor_id is None or function.device_id is None:
        return None
    ids = f"{function.vendor_id:04x}:{function.device_id:04x}"
    return names.device_name(function.vendor_id, function.device_id) or ids


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)


def print_tree(decision: Decision, names: PciNames) -> str:
    """The guest's PCI tree as ``lspci -tv`` draws it: our devices, and others with an address.

    Bus numbers are libvirt's controller indexes; the guest's firmware numbers its buses itself.
    """
    placements = decision.plan.placements
    if not placements:
        return "no devices\n"
    topology = decision.topology
    texts = dict(topology.taken)
    buses = {c.address: c.index for c in topology.controllers.values() if c.address is not None}
    for port in decision.plan.controllers:
        if port.address is not None:
            texts[port.address], buses[port.address] = "", port.index
    for placement in placements:
        if placement.guest_address is not None:
            texts[placement.guest_address] = _describe(placement, decision, names)
    below: dict[int, list[PciAddress]] = defaultdict(list)
    for address in sorted(texts):
        below[address.bus].append(address)
    branches = list(_branches(0, below, texts, buses))
    # Behind a port that libvirt has yet to add or to place.
    for bus in sorted(set(below)):
        branches.extend(_behind(f"??.?-[{bus:02x}]-", bus, below, texts, buses))
    lines = list(_draw(f"-[0000:00 {topology.machine_type}]-", branches))
    left = [placement for placement in placements if placement.guest_address is None]
    lines.extend(f"  libvirt's choice: {_describe(p, decision, names)}" for p in left)
    return "\n".join(lines) + "\n"


def _branches(
    bus: int,
    below: dict[int, list[PciAddress]],
    texts: Mapping[PciAddress, str],
    buses: Mapping[PciAddress, int],
) -> Iterator[list[str]]:
    """What sits on a bus, a list of lines each; a bus is drawn once."""
    for address in below.pop(bus, ()):
        head = f"{address.slot:02x}.{address.function}"
        index = buses.get(address)
        if index is None:
            yield [f"{head}  {texts[address]}"]
        elif index not in below:
            yield [f"{head}-[{index:02x}]--"]
        else:
            yield from _behind(f"{head}-[{index:02x}]-", index, below, texts, buses)


def _behind(
    head: str,
    bus: int,
    below: dict[int, list[PciAddress]],
    texts: Mapping[PciAddress, str],
    buses: Mapping[PciAddress, int],
) -> Iterator[list[str]]:
    inner = list(_branches(bus, below, texts, buses))
    if inner:
        yield list(_draw(head, inner))


def _draw(head: str, branches: Sequence[Sequence[str]]) -> Iterator[str]:
    """Draw branches to the right of a head, as lspci does: ``-+-``, `` +-``, `` \\-``."""
    pad = " " * len(head)
    for position, branch in enumerate(branches):
        last = position == len(branches) - 1
        if len(branches) == 1:
            joint, below = "--", "  "
        elif position == 0:
            joint, below = "+-", "| "
        else:
            joint, below = ("\\-", "  ") if last else ("+-", "| ")
        yield (head if position == 0 else pad) + joint + branch[0]
        for line in branch[1:]:
            yield pad + below + line


def _describe(placement: Placement, decision: Decision, names: PciNames) -> str:
    assignment = placement.assignment
    function = _function(placement, decision.facts)
    known = filter(None, (_class_name(function, names), _device_name(function, names)))
    details = ": ".join(known)
    text = f"{assignment.alias} = {assignment.source}"
    return f"{text}  {details}" if details else text
