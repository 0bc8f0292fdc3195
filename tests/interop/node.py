"""The nodes of the Go harnesses: write a ``/sys`` and change it, for programs in Go.

node.py build DIR launcher|kubelet
node.py rebind DIR BDF DRIVER
node.py remove DIR BDF
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hosttree import (
    HostDevice,
    add_mdev,
    add_node_cpus,
    bridge,
    build_host_tree,
    gpu,
    rebind,
    remove,
)


def _one(
    bdf: str,
    group: int,
    numa: int,
    vendor: int = 0x10DE,
    cls: int = 0x030200,
    parent: str | None = None,
) -> HostDevice:
    """A card of one function, bound to vfio-pci: a Tesla T4 where nothing else is said."""
    return HostDevice(bdf, vendor, 0x1EB8, cls, group, numa, "vfio-pci", parent)


def _launcher(root: Path) -> None:
    """A node with all that the VMIs of fixtures/vmis and ../shared/kubevirt-domains ask for.

    A T4 behind a root port, one behind a switch with a QAT's virtual function beside it.
    """
    build_host_tree(
        root,
        [
            bridge("0000:3a:00.0", group=29, numa=0),
            _one("0000:3b:00.0", 30, 0, parent="0000:3a:00.0"),
            bridge("0000:ac:00.0", group=31, numa=1),
            bridge("0000:ad:00.0", group=36, numa=1, parent="0000:ac:00.0"),
            bridge("0000:ae:00.0", group=37, numa=1, parent="0000:ad:00.0"),
            bridge("0000:ae:01.0", group=38, numa=1, parent="0000:ad:00.0"),
            _one("0000:af:00.0", 32, 1, parent="0000:ae:00.0"),
            _one("0000:86:00.0", 33, 1),
            *gpu("0000:d8:00.0", group=35, numa=1),
            HostDevice("0000:65:00.0", 0x8086, 0x1592, 0x020000, group=40, numa=0, driver="ice"),
            *(
                HostDevice(f"0000:65:00.{n}", 0x8086, 0x1889, 0x020000, group=39 + n, numa=0,
                           driver="vfio-pci", physfn="0000:65:00.0")
                for n in (2, 3)
            ),
            _one("0000:b7:01.2", 44, 1, 0x8086, 0x0B4000, "0000:ae:01.0"),
            HostDevice("0000:5e:00.0", 0x10DE, 0x1EB8, 0x030200, group=45, numa=0, driver="nvidia"),
            HostDevice("0000:00:02.0", 0x8086, 0x9BC5, 0x030000, group=46, numa=0, driver="i915"),
        ],
    )  # fmt: skip
    (root / "bus/node/devices").mkdir(parents=True)
    for node, cpus in enumerate(("0-15", "16-31")):
        add_node_cpus(root, node, cpus)  # where we look them up, and where KubeVirt does
        there = root / f"bus/node/devices/node{node}"
        there.symlink_to(Path("../../../devices/system/node") / there.name)
    add_mdev(root, "4b20d080-1b54-4048-85b3-a6a62d165c01", "0000:00:02.0", group=50)
    add_mdev(root, "aa618089-8b16-4d01-a136-25a0f3c73123", "0000:5e:00.0", group=51)


def _kubelet(root: Path) -> None:
    """Two NUMA nodes with two cards each, with audio and USB in the group of the VGA function.

    And a Tesla T4 that is on no NUMA node that its firmware would tell of.
    """
    for number, bus in enumerate(("3b", "5e", "af", "d8")):
        cards = gpu(f"0000:{bus}:00.0", group=30 + number, numa=number // 2)
        build_host_tree(root, cards)
    build_host_tree(root, [_one("0000:86:00.0", 34, -1)])


if __name__ == "__main__":
    command, directory, *rest = sys.argv[1:]
    if command == "build":
        {"launcher": _launcher, "kubelet": _kubelet}[rest[0]](Path(directory))
    elif command == "rebind":
        rebind(Path(directory), rest[0], rest[1])
    elif command == "remove":
        remove(Path(directory), rest[0])
    else:
        sys.exit(__doc__)
