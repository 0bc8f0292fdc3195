"""Which guest NUMA cell a host NUMA node is. Pure.

The rules are KubeVirt 1.9's (pkg/util/hardware, LookupDevicesNumaNodesWithWarnings), so that a
device is placed where the launcher would place it: the memory binding decides, and where that does
not say, the first CPU of the node that a vCPU is pinned to.
"""

from collections.abc import Mapping

from launcher_hook.model import GuestNuma


def find_cell(
    host_node: int, numa: GuestNuma, node_cpus: Mapping[int, frozenset[int]]
) -> int | None:
    """Find the guest cell of a host node; None where the guest has no part of it."""
    bound = {cell for cell, nodes in numa.memory_nodes.items() if host_node in nodes}
    bound &= set(numa.cells)
    if len(bound) == 1:
        return bound.pop()
    pinned = {cpu: vcpu for vcpu, cpus in sorted(numa.pins.items()) for cpu in cpus}
    cell_of_vcpu = {vcpu: cell for cell, vcpus in numa.cells.items() for vcpu in vcpus}
    vcpus = (pinned[cpu] for cpu in sorted(node_cpus.get(host_node, ())) if cpu in pinned)
    return next((cell_of_vcpu[vcpu] for vcpu in vcpus if vcpu in cell_of_vcpu), None)
