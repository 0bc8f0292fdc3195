"""``discover``: what would be offered under which name, and for all else why not."""

import json
from typing import Any

from launcher_hook.deviceplugin.devices import Device, Inventory, Unoffered
from launcher_hook.model import HostFunction
from launcher_hook.pciids import PciNames
from launcher_hook.vfio import is_bridge


def print_table(inventory: Inventory, names: PciNames, nodes_known: bool = True) -> str:
    """A block a resource, then one line for each function that is not offered.

    Bridges are left out: no VM is ever given one. A selector that matches one is told.

    Args:
        inventory: What there is.
        names: From pci.ids.
        nodes_known: Whether it is known which device nodes there are.
    """
    lines: list[str] = []
    for resource, devices in inventory.resources.items():
        healthy = sum(device.trouble is None for device in devices)
        lines.append(f"{resource}: {len(devices)} offered, {healthy} healthy")
        head = ("device", "numa", "group", "health", "comes along")
        lines += _columns([head, *map(_row, devices)])
        lines.append("")
    if not inventory.resources:
        lines += ["nothing is offered", ""]
    shown = [
        u
        for u in inventory.unoffered
        if u.selected or u.function is None or not is_bridge(u.function)
    ]
    if shown:
        lines.append("not offered:")
        lines += _columns([(str(u.source), _kind(u.function, names), u.why) for u in shown])
    for warning in inventory.warnings:
        lines.append(f"warning: {warning}")
    if not nodes_known:
        lines.append("not checked: device nodes, of which the snapshot has none; give --dev")
    return "\n".join(lines).rstrip() + "\n"


def print_json(inventory: Inventory, names: PciNames, nodes_known: bool = True) -> str:
    """The table's facts, for programs; null is "not known"."""
    document = {
        "resources": {
            resource: [_device(device) for device in devices]
            for resource, devices in inventory.resources.items()
        },
        "notOffered": [_unoffered(unoffered, names) for unoffered in inventory.unoffered],
        "warnings": list(inventory.warnings),
        "deviceNodesKnown": nodes_known,
    }
    return json.dumps(document, indent=2) + "\n"


def _row(device: Device) -> tuple[str, ...]:
    return (
        device.id,
        "-" if device.numa_node is None else str(device.numa_node),
        str(device.iommu_group),
        device.trouble or "healthy",
        " ".join(str(other) for other in device.members if other != device.source) or "-",
    )


def _device(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "numaNode": device.numa_node,
        "iommuGroup": device.iommu_group,
        "healthy": device.trouble is None,
        "trouble": device.trouble,
        "comesAlong": [str(other) for other in device.members if other != device.source],
    }


def _unoffered(unoffered: Unoffered, names: PciNames) -> dict[str, Any]:
    return {
        "id": str(unoffered.source),
        "device": _kind(unoffered.function, names),
        "selected": unoffered.selected,
        "why": unoffered.why,
    }


def _kind(function: HostFunction | None, names: PciNames) -> str:
    """As lspci says it, shortly: class, vendor and device id."""
    if function is None:
        return "-"
    kind = None if function.class_code is None else names.class_name(function.class_code)
    ids = (function.vendor_id, function.device_id)
    return f"{kind or '-'}: {':'.join('-' if n is None else f'{n:04x}' for n in ids)}"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]))
        for row in rows
    ]
