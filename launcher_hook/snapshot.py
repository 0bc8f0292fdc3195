"""A node's PCI facts in one JSON file, which stands for its ``/sys`` and ``/dev/vfio``.

Plan on a laptop for a node, attach it to a bug report, keep it as a fixture. What is in it is what
``Host`` can be asked; null is "not known", as it is there.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher_hook.bars import is_bar_size
from launcher_hook.cpuset import CpuSet, parse_cpuset, print_cpuset
from launcher_hook.devnodes import DeviceNodes, NodeList, NodeTree
from launcher_hook.errors import HostError, InputError, shorten
from launcher_hook.files import read_file
from launcher_hook.host import Host
from launcher_hook.mdev import is_mdev_uuid
from launcher_hook.model import HostFunction, MediatedDevice
from launcher_hook.pci import PciAddress
from launcher_hook.sysfs import HostTree

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = "launcher-hook node 1"

# 4,096 functions are 2 MB.
MAX_SNAPSHOT_BYTES = 64 << 20

_DEV = Path("/dev")


@dataclass(frozen=True)
class HostSnapshot(Host):
    """A node as it was.

    Attributes:
        functions_by_address: In order.
        mediated: By UUID, in order; None where the node showed no mediated devices at all.
        answering: Whether a function answered; one that is not in here is not known about.
        nodes: What was below ``/dev``.
        cpus: Of each NUMA node that is known.
        bars: Sizes of the 64-bit BARs of each function of which they are known.
    """

    functions_by_address: Mapping[PciAddress, HostFunction]
    mediated: Mapping[str, MediatedDevice] | None = None
    answering: Mapping[PciAddress, bool] = field(default_factory=dict)
    nodes: NodeList = field(default_factory=NodeList)
    cpus: Mapping[int, CpuSet] = field(default_factory=dict)
    bars: Mapping[PciAddress, tuple[int, ...]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """A snapshot is of a node that was known."""
        return True

    def addresses(self) -> tuple[PciAddress, ...]:
        """Every function's address, in order."""
        return tuple(self.functions_by_address)

    def function(self, address: PciAddress) -> HostFunction | None:
        """Look a function up."""
        return self.functions_by_address.get(address)

    def group_addresses(self, groups: Collection[int]) -> Mapping[PciAddress, int]:
        """The functions in some IOMMU groups, with their group."""
        return {a: group for group in groups for a in self._groups.get(group, ())}

    def is_in_group(self, address: PciAddress, iommu_group: int) -> bool:
        """Whether a group has a function."""
        return address in self._groups.get(iommu_group, ())

    def answers(self, address: PciAddress) -> bool | None:
        """Whether a function answered."""
        return self.answering.get(address)

    def bars64(self, address: PciAddress) -> tuple[int, ...] | None:
        """The sizes of a function's 64-bit BARs."""
        return self.bars.get(address)

    def mdev_exists(self, uuid: str) -> bool | None:
        """Whether there was a mediated device; None where the node showed none at all."""
        return None if self.mediated is None else uuid.lower() in self.mediated

    def mediated_device(self, uuid: str) -> MediatedDevice | None:
        """Look a mediated device up."""
        return None if self.mediated is None else self.mediated.get(uuid.lower())

    def node_cpus(self, node: int) -> CpuSet | None:
        """The CPUs of a NUMA node; None where that is not known."""
        return self.cpus.get(node)

    def mdev_uuids(self) -> tuple[str, ...] | None:
        """The UUID of every mediated device, in order; None where the node showed none at all."""
        return None if self.mediated is None else tuple(self.mediated)

    @cached_property
    def _groups(self) -> Mapping[int, list[PciAddress]]:
        groups: dict[int, list[PciAddress]] = {}
        for function in self.functions_by_address.values():
            if function.iommu_group is not None:
                groups.setdefault(function.iommu_group, []).append(function.address)
        return groups


def open_host(sysfs: Path | None) -> Host:
    """Open a node: the root of a ``/sys``, a snapshot's file, or None for none.

    Raises:
        InputError: It is a file and no snapshot.
    """
    if sysfs is None or not sysfs.is_file():
        return HostTree(sysfs)
    name = str(sysfs)
    return parse_snapshot(read_file(name, MAX_SNAPSHOT_BYTES), name)


def check_known(host: Host, sysfs: Path) -> None:
    """Refuse a ``--sysfs`` that shows no functions at all.

    Raises:
        InputError: It is the root of something else, or of nothing.
    """
    if not host.known:
        raise InputError(
            f"--sysfs {sysfs}",
            "there is no bus/pci/devices below it",
            "give a node's /sys, a copy or a snapshot of it",
        )


def open_nodes(host: Host, dev: Path | None) -> DeviceNodes:
    """Open the device nodes of a node: those below ``dev``, or the snapshot's own."""
    if dev is None and isinstance(host, HostSnapshot):
        return host.nodes
    return NodeTree(dev or _DEV)


def print_snapshot(host: Host, nodes: DeviceNodes) -> bytes:
    """Write a node down."""
    uuids = host.mdev_uuids()
    mediated = None
    if uuids is not None:
        found = (host.mediated_device(uuid) for uuid in uuids)
        mediated = [_describe_mdev(device) for device in found if device is not None]
    functions = host.functions()
    numbers = sorted({f.numa_node for f in functions if f.numa_node is not None})
    cpus = {number: host.node_cpus(number) for number in numbers}
    document = {
        "format": FORMAT,
        "functions": [_describe(function, host) for function in functions],
        "mediatedDevices": mediated,
        "deviceNodes": sorted(nodes.all() or ()),
        "nodeCpus": {str(n): print_cpuset(c) for n, c in cpus.items() if c is not None},
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _describe(function: HostFunction, host: Host) -> dict[str, Any]:
    return {
        "address": str(function.address),
        "vendor": _hex(function.vendor_id, 4),
        "device": _hex(function.device_id, 4),
        "class": _hex(function.class_code, 6),
        "iommuGroup": function.iommu_group,
        "numaNode": function.numa_node,
        "driver": function.driver,
        "vfioDevice": function.vfio_device,
        "physicalFunction": _text(function.physical_function),
        "bridges": [str(bridge) for bridge in function.bridges],
        "answers": host.answers(function.address),
        "bars64": _bars64(function.address, host),
    }


def _bars64(address: PciAddress, host: Host) -> list[int] | None:
    try:
        sizes = host.bars64(address)
    except HostError:  # one function with trouble does not keep the others from being written down
        return None
    return None if sizes is None else list(sizes)


def _describe_mdev(device: MediatedDevice) -> dict[str, Any]:
    return {
        "uuid": device.uuid,
        "typeName": device.type_name,
        "iommuGroup": device.iommu_group,
        "parent": _text(device.parent),
    }


def parse_snapshot(data: bytes, where: str) -> HostSnapshot:
    """Read what ``print_snapshot`` wrote.

    Raises:
        InputError: It is something else, or damaged.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(
            where,
            "it is no snapshot of a node",
            "give the root of a /sys, or a file that `launcher-hook discover --snapshot` wrote",
        )
    functions, answering, bars = {}, {}, {}
    for index, entry in enumerate(_list(document, "functions", where)):
        fields = _Fields(entry, f"{where}: functions[{index}]")
        function = fields.function()
        functions[function.address] = function
        answers = fields.take("answers", bool)
        if answers is not None:
            answering[function.address] = answers
        sizes = fields.bars64()  # which a snapshot of an earlier version has not
        if sizes is not None:
            bars[function.address] = sizes
    mediated = None
    if document.get("mediatedDevices") is not None:
        mediated = {}
        for index, entry in enumerate(_list(document, "mediatedDevices", where)):
            device = _Fields(entry, f"{where}: mediatedDevices[{index}]").mediated_device()
            mediated[device.uuid] = device
    nodes = NodeList(frozenset(map(str, _list(document, "deviceNodes", where))))
    return HostSnapshot(
        {address: functions[address] for address in sorted(functions)},
        mediated,
        answering,
        nodes,
        _node_cpus(document.get("nodeCpus", {}), f"{where}: nodeCpus"),
        bars,
    )


def _node_cpus(entry: Any, where: str) -> dict[int, CpuSet]:
    """Read ``{"0": "0-15,32-47"}``, which a snapshot of an earlier version has not."""
    try:
        return {int(node): parse_cpuset(cpus) for node, cpus in entry.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            where, f"{shorten(entry)} cannot be read", "take the snapshot again"
        ) from None


class _Fields:
    """One entry's values, each checked when it is taken."""

    def __init__(self, entry: Any, where: str) -> None:
        self._where = where
        if not isinstance(entry, dict):
            raise self._fault(f"{shorten(entry)} is no object")
        self._entry = entry

    def function(self) -> HostFunction:
        return HostFunction(
            self._address("address"),
            vendor_id=self._hex("vendor"),
            device_id=self._hex("device"),
            class_code=self._hex("class"),
            iommu_group=self.take("iommuGroup", int),
            numa_node=self.take("numaNode", int),
            driver=self.take("driver", str),
            vfio_device=self.take("vfioDevice", str),
            physical_function=self._optional_address("physicalFunction"),
            bridges=tuple(
                self._parse("bridges", bridge, PciAddress.parse)
                for bridge in self.take("bridges", list) or ()
            ),
        )

    def bars64(self) -> tuple[int, ...] | None:
        sizes = self.take("bars64", list)
        if sizes is None:
            return None
        for size in sizes:
            if type(size) is not int or not is_bar_size(size):
                raise self._fault(f"bars64: {shorten(size)} is no size of a BAR")
        return tuple(sizes)

    def mediated_device(self) -> MediatedDevice:
        uuid = self.take("uuid", str)
        if uuid is None or not is_mdev_uuid(uuid):
            raise self._fault(f"uuid: {shorten(uuid)} is no lower-case UUID")
        return MediatedDevice(
            uuid,
            type_name=self.take("typeName", str),
            iommu_group=self.take("iommuGroup", int),
            parent=self._optional_address("parent"),
        )

    def take(self, key: str, kind: type[Any]) -> Any:
        value = self._entry.get(key)
        if value is not None and type(value) is not kind:
            raise self._fault(f"{key}: {shorten(value)} is not {_KINDS[kind]} and not null")
        return value

    def _hex(self, key: str) -> int | None:
        text = self.take(key, str)
        return None if text is None else self._parse(key, text, lambda t: int(t, 16))

    def _address(self, key: str) -> PciAddress:
        address = self._optional_address(key)
        if address is None:
            raise self._fault(f"{key}: there is none")
        return address

    def _optional_address(self, key: str) -> PciAddress | None:
        text = self.take(key, str)
        return None if text is None else self._parse(key, text, PciAddress.parse)

    def _parse(self, key: str, value: Any, parse: "Callable[[str], Any]") -> Any:
        try:
            return parse(value)
        except (TypeError, ValueError):
            raise self._fault(f"{key}: {shorten(value)} cannot be read") from None

    def _fault(self, what: str) -> InputError:
        return InputError(self._where, what, "take the snapshot again")


_KINDS = {str: "a text", int: "a number", bool: "true or false", list: "a list"}


def _list(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise InputError(
            f"{where}: {key}", f"{shorten(value)} is no list", "take the snapshot again"
        )
    return value


def _hex(number: int | None, digits: int) -> str | None:
    return None if number is None else f"{number:0{digits}x}"


def _text(address: PciAddress | None) -> str | None:
    return None if address is None else str(address)
