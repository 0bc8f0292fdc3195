"""Which guest NUMA cell a host NUMA node is. Pure.

The rules are KubeVirt 1.9's (pkg/util/hardware, LookupDevicesNumaNodesWithWarnings), so that a
device is placed where the launcher would place it: the memory binding decides, and where that does
not say, the first CPU of the node that a vCPU is pinned to.
"""

from collections.abc import Mapping, Sequence, Set

from launcher_hook.cpuset import MAX_MEMBER, CpuSet, mask_members
from launcher_hook.model import GuestNuma

_NOTHING = CpuSet()


def find_cell(host_node: int, numa: GuestNuma, node_cpus: Mapping[int, Set[int]]) -> int | None:
    """Find the guest cell of a host node; None where the guest has no part of it."""
    bound = {cell for cell, nodes in numa.memory_nodes.items() if host_node in nodes}
    bound &= set(numa.cells)
    if len(bound) == 1:
        return bound.pop()
    vcpu_of = _find_last(
        sorted(numa.pins.items()), mask_members(node_cpus.get(host_node, _NOTHING))
    )
    vcpus = (vcpu for vcpu in set(vcpu_of.values()) if 0 <= vcpu <= MAX_MEMBER)
    cell_of = _find_last(list(numa.cells.items()), sum(1 << vcpu for vcpu in vcpus))
    return next((cell_of[v] for _, v in sorted(vcpu_of.items()) if v in cell_of), None)


def _find_last(sets: Sequence[tuple[int, Set[int]]], wanted: int) -> Mapping[int, int]:
    """Find the key of the last set that each wanted member is in.

    Args:
        sets: Key and members. Hostile domains have thousands of them, of all that a set can hold.
        wanted: A number whose bit n is set for a wanted member n.
    """
    found = {}
    for key, members in reversed(sets):
        here = mask_members(members) & wanted if wanted else 0
        wanted ^= here
        while here:
            lowest = here & -here
            found[lowest.bit_length() - 1] = key
            here ^= lowest
    return found
