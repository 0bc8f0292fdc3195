"""How far apart two functions are, by somebody who looks at a machine: a node or a guest.

Worked out here a second time and in another way than in ``launcher_hook.distance``: by the real
paths of ``/sys``. The guest of ``make e2e`` has one too; for a domain, the steps are made from it.
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

DISTANCES = ("PIX", "PXB", "PHB", "NODE", "SYS")


@dataclass(frozen=True)
class Seen:
    """Where a function is, by somebody who looks at the machine."""

    node: str
    root: str
    steps: tuple[str, ...]


def on_host(root: Path, bdf: str) -> Seen:
    """A function by its directory: ``devices/pci0000:15/0000:15:01.0/.../0000:18:00.0``."""
    directory = (root / "bus/pci/devices" / bdf).resolve()
    path = directory.relative_to((root / "devices").resolve())
    return at(str(path), (directory / "numa_node").read_text().strip())


def at(path: str, node: str) -> Seen:
    """A function by its path below ``/sys/devices``, and what its ``numa_node`` says."""
    complex_, *steps = path.split("/")
    return Seen(node, complex_, tuple(steps))


def apart(one: Seen, other: Seen) -> str:
    """What ``nvidia-smi topo -m`` would say of two functions."""
    if one.node != other.node:
        return "SYS"
    if one.root != other.root:
        return "NODE"
    if _slot(one) == _slot(other):
        return "PIX"  # one device
    left, right = list(one.steps[:-1]), list(other.steps[:-1])
    if not left or not right or left[0] != right[0]:
        return "PHB"
    while left and right and left[0] == right[0]:
        del left[0], right[0]
    return "PXB" if len(left) > 1 or len(right) > 1 else "PIX"


def _slot(seen: Seen) -> tuple[str, ...]:
    return (*seen.steps[:-1], seen.steps[-1].rpartition(".")[0])


def changed_distances(host: dict[str, Seen], guest: dict[str, Seen]) -> list[str]:
    """Pairs that are another distance apart in the guest. Empty is good."""
    return [
        f"{a} and {b}: {apart(host[a], host[b])} -> {apart(guest[a], guest[b])}"
        for a, b in combinations(sorted(guest), 2)
        if apart(host[a], host[b]) != apart(guest[a], guest[b])
    ]
