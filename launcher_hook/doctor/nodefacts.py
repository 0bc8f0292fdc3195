"""Reads what a node says of itself beside its PCI functions: kernel, firmware, limits."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher_hook.deviceplugin.devices import Inventory
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.host import Host
from launcher_hook.model import HostFunction, HostSource
from launcher_hook.pci import PciAddress

# Containers have the limits of who starts them, unless it sets others.
_RUNTIMES = ("containerd", "crio", "dockerd")

_MOST_BYTES = 64 * 1024  # /proc/cpuinfo of one processor is 2 KB; of hundreds the first is enough
_LOCKED = re.compile(r"^Max locked memory +(\S+)", re.MULTILINE)
_UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class LockedMemory:
    """How much memory a process may lock: a passed-through function's VM locks all of its own.

    Attributes:
        whose: The process.
        most_bytes: None for no limit.
    """

    whose: str
    most_bytes: int | None


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the node says beside its PCI functions; None is "not known".

    Attributes:
        sysfs: Where its ``/sys`` is, for messages.
        is_snapshot: That is a file, in which there are no paths.
        words: The kernel's command line.
        cpu_vendor: ``GenuineIntel``, ``AuthenticAMD``...; "" where there is no such word (arm64).
        is_guest: Whether the node is a virtual machine itself.
        tables: Names of the firmware's ACPI tables.
        has_vfio_pci: Whether the kernel has the vfio-pci driver now.
        locked: The memory that a container may lock.
    """

    sysfs: str = "/sys"
    words: tuple[str, ...] | None = None
    cpu_vendor: str | None = None
    is_guest: bool | None = None
    tables: frozenset[str] | None = None
    has_vfio_pci: bool | None = None
    locked: LockedMemory | None = None
    is_snapshot: bool = False

    def place(self, path: str, called: str) -> str:
        """Name where something of its ``/sys`` was looked for."""
        return f"{self.sysfs}: {called}" if self.is_snapshot else f"{self.sysfs}/{path}"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node, read once.

    Attributes:
        functions: All of them, in order.
        inventory: What is selected, and why the rest is not offered.
        answers: By source of an offered device, whether its configuration space can be read.
        nodes: What is below ``/dev``; None where that is not known.
    """

    kernel: Kernel
    functions: tuple[HostFunction, ...]
    inventory: Inventory
    answers: Mapping[HostSource, bool | None] = field(default_factory=dict)
    nodes: frozenset[str] | None = None


def read_node(node: Node, kernel: Kernel) -> NodeFacts:
    """Read a node's functions and what would be offered of them.

    Raises:
        HostError: The functions cannot be listed.
    """
    inventory = node.take_inventory(every=True)
    return NodeFacts(
        kernel,
        node.host.functions(),
        inventory,
        {
            device.source: node.host.answers(device.source)
            for device in inventory.devices()
            if isinstance(device.source, PciAddress)
        },
        node.nodes.all(),
    )


def read_kernel(sysfs: Path, proc: Path | None, host: Host) -> Kernel:
    """Read the rest of a ``/sys``, and a ``/proc``; nothing of either for a snapshot."""
    words = vendor = guest = locked = None
    if proc is not None:
        cmdline = _read(proc / "cmdline")
        words = None if cmdline is None else tuple(cmdline.split())
        cpuinfo = _read(proc / "cpuinfo")
        if cpuinfo is not None:
            vendor, guest = parse_cpuinfo(cpuinfo)
        locked = _read_locked(proc)
    if sysfs.is_file() or not host.known:
        is_snapshot = sysfs.is_file()
        return Kernel(str(sysfs), words, vendor, guest, locked=locked, is_snapshot=is_snapshot)
    return Kernel(
        str(sysfs),
        words,
        vendor,
        guest,
        _names(sysfs / "firmware/acpi/tables"),
        (sysfs / "bus/pci/drivers/vfio-pci").is_dir(),
        locked,
    )


def parse_cpuinfo(text: str) -> tuple[str, bool | None]:
    """The first processor's vendor, and whether a hypervisor says that it is there (x86)."""
    fields = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = fields.get("flags")
    return fields.get("vendor_id", ""), None if flags is None else "hypervisor" in flags.split()


def parse_locked(text: str) -> int | None:
    """The soft limit of a ``/proc/PID/limits`` in bytes; None for none.

    Raises:
        ValueError: It says nothing of locked memory.
    """
    match = _LOCKED.search(text)
    if match is None:
        raise ValueError("no locked memory")
    return None if match[1] == _UNLIMITED else int(match[1])


def _read_locked(proc: Path) -> LockedMemory | None:
    for directory, whose in _limited(proc):
        text = _read(directory / "limits")
        try:
            return LockedMemory(whose, parse_locked(text or ""))
        except ValueError:
            continue
    return None


def _limited(proc: Path) -> Iterator[tuple[Path, str]]:
    """Whose limits to look at: the container runtime's, or our own, as a container has them."""
    for name in sorted(_names(proc) or ()):
        if name.isdigit():
            command = (_read(proc / name / "comm") or "").strip()
            if command in _RUNTIMES:
                yield proc / name, f"{command} (process {name})"
    yield proc / "self", f"{proc}/self"


def _names(directory: Path) -> frozenset[str] | None:
    try:
        return frozenset(path.name for path in directory.iterdir())
    except OSError:
        return None


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
