"""Layouts on nodes as people buy them, in a real libvirt; make conformance prints the table."""

from pathlib import Path

import pytest
from libvirt_driver import LibvirtDriver
from nodes import Node, nodes
from topology_trials import LAYOUTS, try_topology

from launcher_hook.settings import Layout


@pytest.mark.parametrize("node", nodes(), ids=lambda node: node.name)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_keeps_what_it_promises(
    layout: Layout, node: Node, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    assert try_topology(node, layout, libvirt, tmp_path / "sys").faults(layout) == []
