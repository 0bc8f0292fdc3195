"""A plan as JSON: the table's facts, the controllers, and how far apart every two devices are."""

import json
from collections.abc import Sequence

from launcher_hook.distance import Distance, guest_positions, host_positions, matrix
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.facts import device_facts


def print_json(decision: Decision, names: PciNames) -> str:
    """The plan for programs; null is "not known"."""
    plan = decision.plan
    document = {
        "machine": decision.topology.machine_type,
        "devices": list(device_facts(decision, names)),
        "controllers": [
            {
                "index": controller.index,
                "model": controller.model,
                "guest": str(controller.address) if controller.address else None,
                "busNr": controller.bus_nr,
                "node": controller.node,
            }
            for controller in plan.controllers
        ],
        "pciHole64": None
        if plan.hole is None
        else {"bytes": plan.hole.size_bytes, "firmwareIsTold": plan.hole.tell_firmware},
        "warnings": plan.warnings,
    }
    text = json.dumps(document, indent=2)
    return text[: -len("\n}")] + f',\n  "distances": {_print_distances(decision)}\n}}\n'


def _print_distances(decision: Decision) -> str:
    """Both matrices, with a line for each row: 64 functions have 8,192 distances."""
    plan = decision.plan
    assignments = [placement.assignment for placement in plan.placements]
    aliases = [assignment.alias for assignment in assignments]
    host = host_positions(assignments, decision.facts)
    guest = guest_positions(plan.placements, plan.controllers, decision.topology)
    sides = {"host": [host[a] for a in aliases], "guest": [guest[a] for a in aliases]}
    parts = [f'    "devices": {json.dumps(aliases)}']
    parts += [f'    "{side}": {_print_rows(matrix(at))}' for side, at in sides.items()]
    return "{\n" + ",\n".join(parts) + "\n  }"


def _print_rows(rows: Sequence[Sequence[Distance | None]]) -> str:
    if not rows:
        return "[]"
    return "[\n" + ",\n".join(f"      {json.dumps(row)}" for row in rows) + "\n    ]"
