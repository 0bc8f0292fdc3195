"""Plans that go by the node, and how tests write nodes and guest trees."""

from collections.abc import Sequence
from dataclasses import replace

import slotplans
from slotplans import address

from launcher_hook.model import (
    Assignment,
    GuestNuma,
    GuestPlan,
    GuestTopology,
    HostFacts,
    HostFunction,
    PresentHostdev,
)
from launcher_hook.plan import plan_guest
from launcher_hook.settings import Layout, Settings

TWO_CELLS = GuestNuma(
    cells={0: frozenset(range(4)), 1: frozenset(range(4, 8))},
    memory_nodes={0: frozenset({0}), 1: frozenset({1})},
)
Q35 = replace(slotplans.Q35, numa=TWO_CELLS)
PORT, SWITCH = "0000:15:01.0", ("0000:15:01.0", "0000:16:00.0")


def function(bdf: str, *bridges: str, numa: int | None = 0) -> HostFunction:
    return HostFunction(address(bdf), numa_node=numa, bridges=tuple(map(address, bridges)))


def device(bdf: str, at: str | None = None, **others: object) -> Assignment:
    alias = f"ua-{bdf.replace(':', '-').replace('.', '-')}"
    present = PresentHostdev(address(bdf), alias, address(at)) if at else None
    return replace(Assignment(address(bdf), alias, "test", present=present), **others)  # type: ignore[arg-type]


def plan(
    functions: Sequence[HostFunction],
    layout: Layout,
    topology: GuestTopology = Q35,
    devices: Sequence[Assignment] | None = None,
    **settings: object,
) -> GuestPlan:
    facts = HostFacts(True, {f.address: f for f in functions})
    assigned = devices or [device(str(f.address)) for f in functions]
    return plan_guest(assigned, topology, Settings(layout=layout, **settings), facts)  # type: ignore[arg-type]


def tree(planned: GuestPlan) -> list[str]:
    """A line a controller: index, model, where it sits; of an expander bus, number and cell."""
    lines = []
    for c in planned.controllers:
        more = f" {c.bus_nr}@{c.node}" if c.model == "pcie-expander-bus" else ""
        plus = "+" if c.multifunction else ""
        place = str(c.address).removeprefix("0000:")
        lines.append(f"{c.index} {c.model.removeprefix('pcie-')} {place}{plus}{more}")
    return lines


def places(planned: GuestPlan) -> dict[str, str]:
    return {str(p.assignment.source): str(p.guest_address) for p in planned.placements}


GPUS = [
    function("0000:17:00.0", PORT),
    function("0000:18:00.0", "0000:15:03.0"),
    function("0000:98:00.0", "0000:97:01.0", numa=1),
]
