"""Any bytes as a node: contents, names and link targets below a ``/sys``, and a snapshot."""

import json
import os
from dataclasses import replace
from pathlib import Path

from fuzz.domain import SCHEMAS, check_refusal, check_rendered
from fuzz.target import CASES, Target, scratch
from hosttree import add_mdev, build_host_tree, device_directory, gpu

from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import select_by_vendor
from launcher_hook.devnodes import NodeTree
from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError, SchemaError
from launcher_hook.host import Host
from launcher_hook.render import Inputs, render_domain
from launcher_hook.snapshot import HostSnapshot, parse_snapshot, print_snapshot
from launcher_hook.sysfs import HostTree

BDF = "0000:86:00.0"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
INPUTS = Inputs(
    (CASES / "no-devices" / "domain.xml").read_bytes(),
    allocations=parse_allocations({"PCI_RESOURCE_A": BDF, "MDEV_PCI_RESOURCE_A": UUID}),
)
SELECTION = select_by_vendor({0x10DE: "nvidia.com"}, ("03",))

# What an input says in one line each: a file's content, or a link's target.
FILES = ("vendor", "device", "class", "numa_node", "config", "mdev_type/name")
LINKS = ("driver", "iommu_group", "physfn", "bus link", "mdev link", "mdev_type", "mdev group")


class Tree:
    """A node in memory; each input writes a few of its files and links anew."""

    def __init__(self) -> None:
        self.root = build_host_tree(scratch() / "sys", gpu(BDF, group=42, vfio_dev="")[:2])
        add_mdev(self.root, UUID, BDF, group=43, type_name="GRID T4-1Q")
        self.device = device_directory(self.root, BDF)
        self.mdev = self.root / "bus/mdev/devices" / UUID
        direct = (*FILES, "driver", "iommu_group", "physfn")
        self.paths = {name: str(self.device / name) for name in direct}
        self.paths |= {
            "mdev_type/name": str(self.device / "mdev_supported_types/nvidia-222/name"),
            "bus link": str(self.root / "bus/pci/devices" / BDF),
            "mdev link": str(self.mdev),
            "mdev_type": str(self.device / UUID / "mdev_type"),
            "mdev group": str(self.device / UUID / "iommu_group"),
        }
        links = {name: Path(self.paths[name]) for name in LINKS if name != "physfn"}
        self.links = {name: str(link.readlink()) for name, link in links.items()}
        (self.device / "vfio-dev").mkdir()
        self.names: list[str] = []

    def write(self, parts: list[bytes]) -> None:
        """Write what an input says; a part that is empty leaves the thing as it should be."""
        right = {
            "vendor": b"0x10de\n",
            "device": b"0x1f08\n",
            "class": b"0x030000\n",
            "numa_node": b"1\n",
            "config": b"\x00" * 64,
            "mdev_type/name": b"GRID T4-1Q\n",
        }
        for name, part in zip(FILES, parts, strict=False):
            with open(self.paths[name], "wb") as file:  # noqa: PTH123
                file.write(part or right[name])
        for name, part in zip(LINKS, parts[len(FILES) :], strict=False):
            target: bytes | str = part.replace(b"\0", b"") or self.links.get(name, "")
            if os.path.lexists(self.paths[name]):
                os.unlink(self.paths[name])  # noqa: PTH108
            if target:
                os.symlink(target[:4000], self.paths[name])  # noqa: PTH211
        for old in self.names:
            os.rmdir(old)  # noqa: PTH106
        self.names = []
        for directory, part in zip(
            (
                self.device / "vfio-dev",
                self.root / "bus/pci/devices",
                self.root / "bus/mdev/devices",
            ),
            parts[len(FILES) + len(LINKS) :],
            strict=False,
        ):
            name = part.replace(b"\0", b"").replace(b"/", b"")[:200]
            path = os.path.join(os.fsencode(directory), name)  # noqa: PTH118
            if name and not os.path.lexists(path):
                os.mkdir(path)  # noqa: PTH102
                self.names.append(os.fsdecode(path))


_tree: Tree | None = None


def check(data: bytes) -> None:
    """Read without a fault; a snapshot of what was read says the same again."""
    global _tree
    if data[:1] == b"{":
        try:
            host: Host = parse_snapshot(data, "snapshot")
        except HookError as error:
            check_refusal(error)
            return
    else:
        _tree = _tree or Tree()
        _tree.write(data.split(b"\n"))
        host = HostTree(_tree.root)
    nodes = NodeTree(Path("/nonexistent"))
    try:
        functions = host.functions({0x10DE})
        again = parse_snapshot(print_snapshot(host, nodes), "snapshot")
        assert [f for f in again.functions() if f in functions] == list(functions)
        own = host.nodes if isinstance(host, HostSnapshot) else nodes
        node = Node(host, own, SELECTION, lambda *_: None)
        for device in node.take_inventory(every=True).devices():
            node.present(device)
        inputs = replace(INPUTS, host=host)
        check_rendered(inputs, render_domain(inputs, SCHEMAS).xml)
    except SchemaError:
        raise
    except HookError as error:
        check_refusal(error)


def seeds() -> list[bytes]:
    """The node as it should be, its snapshot, and a node whose everything is a little off."""
    tree = Tree()
    nodes = NodeTree(Path("/nonexistent"))
    snapshot = json.loads(print_snapshot(HostTree(tree.root), nodes))
    snapshot["deviceNodes"] = ["vfio/vfio", "vfio/42", "iommu", "vfio/devices/vfio0"]
    lines = [
        b"0x10de",
        b"0x1f08",
        b"0x030000",
        b"0",
        b"\xff" * 64,
        b"GRID T4-1Q",
        b"../../drivers/nvidia",
        b"/x/kernel/iommu_groups/42",
        b"../0000:86:00.1",
        b"",
        b"",
        b"../mdev_supported_types/nvidia-222",
        b"/x/43",
        b"vfio0",
        b"0000:87:00.0",
        UUID.replace("1", "2").encode(),
    ]
    return [
        b"",
        b"\n".join(lines),
        json.dumps(snapshot).encode(),
        json.dumps(snapshot, indent=1).encode(),
    ]


WORDS = [
    word.encode()
    for word in (
        "\n",
        "0x",
        "0x10de",
        "0x030000",
        "-1",
        "999999999",
        "9999999999",
        "vfio-pci",
        "/",
        "..",
        "../../../bus/pci/drivers/",
        "/kernel/iommu_groups/",
        "0000:86:00.0",
        "0000:86:00.9",
        UUID,
        "vfio12",
        "null",
        "true",
        '"vendor":',
        '"iommuGroup":',
        '"bridges":',
        '"answers":',
        '"uuid":',
        '"mediatedDevices":[',
        '"functions":[',
        '"address":"0000:01:00.0"',
        "-0x1",
        "1_0",
        "\U0001f600",
        "1e9",
        "[]",
        "{}",
    )
]

TARGET = Target(
    "sysfs",
    check,
    seeds,
    WORDS,
    (
        "sysfs",
        "host",
        "snapshot",
        "vfio",
        "companions",
        "deviceplugin.scan",
        "deviceplugin.devices",
        "deviceplugin.health",
    ),
)
