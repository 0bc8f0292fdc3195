"""Any bytes as the node that `doctor` looks at: a snapshot, and what its kernel says of itself."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path

from fuzz.target import scratch
from hosttree import build_host_tree, gpu

from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import select_by_vendor
from launcher_hook.devnodes import NodeTree
from launcher_hook.doctor.nodefacts import NodeFacts, read_kernel, read_node
from launcher_hook.snapshot import parse_snapshot, print_snapshot
from launcher_hook.sysfs import HostTree

SELECTION = select_by_vendor({0x10DE: "nvidia.com"}, ("03",))
INTEL = b"vendor_id\t: GenuineIntel\nflags\t: fpu hypervisor\n\nvendor_id\t: x\n"
LIMITS = b"Max locked memory         8388608              8388608              bytes\n"

# What an input is made of, one after the other with a NUL between; the rest is the snapshot.
_FILES = ("cmdline", "cpuinfo", "7/comm", "7/limits")
_TABLES = len(_FILES)


class _Kernel:
    """A ``/proc`` and a ``/sys`` in memory; each input writes them anew."""

    def __init__(self) -> None:
        top = scratch()
        self.proc, self.sysfs = top / "proc", top / "sys"
        self.tables = self.sysfs / "firmware/acpi/tables"
        (self.proc / "7").mkdir(parents=True)
        self.tables.mkdir(parents=True)

    def write(self, parts: list[bytes]) -> None:
        for name, content in zip(_FILES, parts[:_TABLES], strict=True):
            (self.proc / name).write_bytes(content)
        for table in self.tables.iterdir():
            table.unlink()
        for name in parts[_TABLES].split(b"/")[:20]:
            if name not in (b"", b".", b".."):
                Path(os.fsdecode(os.path.join(os.fsencode(self.tables), name[:200]))).touch()  # noqa: PTH118


@cache
def _kernel() -> _Kernel:
    return _Kernel()


def read(content: bytes) -> NodeFacts:
    """Read an input.

    Raises:
        HookError: Its snapshot is none.
    """
    parts = content.split(b"\0", _TABLES + 1)
    parts += [b""] * (_TABLES + 2 - len(parts))
    host = parse_snapshot(parts.pop(), "snapshot")
    _kernel().write(parts)
    node = Node(host, host.nodes, SELECTION, lambda *_: None)
    return read_node(node, read_kernel(_kernel().sysfs, _kernel().proc, host))


def seeds() -> list[bytes]:
    """A node that is in order, one whose group a driver holds, one without IOMMU."""
    with tempfile.TemporaryDirectory() as scratch:
        functions = [*gpu("0000:86:00.0", group=42), *gpu("0000:af:00.0", group=43)]
        host = HostTree(build_host_tree(Path(scratch, "sys"), functions))
        snapshot = json.loads(print_snapshot(host, NodeTree(Path("/nonexistent"))))
    snapshot["deviceNodes"] = ["vfio/vfio", "vfio/42", "vfio/43"]
    good = json.dumps(snapshot).encode()
    kernel = [b"quiet intel_iommu=on", INTEL, b"containerd\n", LIMITS, b"DMAR/APIC"]
    return [
        b"\0".join([*kernel, good]),
        b"\0".join([*kernel, good.replace(b'"vfio-pci"', b'"nouveau"')]),
        b"\0".join([b"iommu=off", *kernel[1:4], b"", good.replace(b'"iommuGroup"', b'"x"')]),
    ]


WORDS = [
    word.encode()
    for word in (
        "\0",
        "intel_iommu=off",
        "amd_iommu=on",
        "iommu=pt",
        "AuthenticAMD",
        "IVRS",
        "crio",
        "unlimited",
        "Max locked memory ",
        '"driver": "nouveau"',
        '"driver": null',
        '"iommuGroup": 42',
        '"deviceNodes": ["vfio/noiommu-0"]',
        '"class": "0x060400"',
        '"vendor": "0x10de"',
    )
]
