"""The table of issue 7: layout x node x libvirt."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from libvirt_driver import LibvirtDriver
from nodes import Node, nodes
from tables import write_table
from topology_trials import LAYOUTS, try_topology

from launcher_hook.settings import BY_NODE, Layout


@pytest.fixture(scope="session")
def rows() -> Iterator[list[list[object]]]:
    found: list[list[object]] = []
    yield found
    write_table(
        "topology",
        "Layouts on nodes as people buy them, in real libvirts",
        ["libvirt", "node", "layout", "functions", "controllers", "defined", "distances equal",
         "NUMA affinity equal", "others unmoved", "passes stable"],
        sorted(found, key=lambda row: [str(cell) for cell in row[:2]]),
    )  # fmt: skip


@pytest.mark.parametrize("node", nodes(), ids=lambda node: node.name)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_keeps_what_it_promises(
    driver: LibvirtDriver,
    layout: Layout,
    node: Node,
    tmp_path: Path,
    rows: list[list[object]],
) -> None:
    outcome = try_topology(node, layout, driver, tmp_path / "sys")
    rows.append(
        [
            ".".join(map(str, driver.version)),
            node.name,
            layout,
            outcome.functions,
            outcome.controllers,
            "no" if outcome.refused else "yes",
            _say(outcome.distances, promised=layout == "mirror"),
            _say(outcome.nodes, promised=layout in BY_NODE),
            _say(outcome.other, promised=True),
            _say(outcome.passes, promised=True),
        ]
    )
    assert outcome.faults(layout) == []


def _say(faults: object, *, promised: bool) -> str:
    if promised:
        return "NO" if faults else "yes"
    return "(not kept)" if faults else "(kept)"
