"""Facts about PCI functions below a given root: the node's ``/sys``, or a copy of a part of it.

What is not there, or is no value that Linux writes, is None: not known, never guessed. A read that
fails for want of a descriptor or of memory, or by the device, is an error: taken for "not there" it
would be a false fact. Nothing
is kept between two calls, and only what is asked for is read: the hook server asks for a handful
of functions in every call, on nodes that may have thousands.

Sources: Linux Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups and
sysfs-devices-vfio-dev; the formats of the attributes: drivers/pci/pci-sysfs.c.
"""

# Names relative to an open directory, which pathlib does not have, and 4,096 names without a Path
# each.
# ruff: noqa: PTH112, PTH115, PTH208

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from launcher_hook.bars import parse_bars
from launcher_hook.cpuset import CpuSet, parse_cpuset
from launcher_hook.errors import HostError, UnreadableError
from launcher_hook.files import check_absence
from launcher_hook.host import Host
from launcher_hook.mdev import is_mdev_uuid, parse_mdev_uuid
from launcher_hook.model import HostFunction, MediatedDevice
from launcher_hook.pci import PciAddress

log = logging.getLogger("launcher-hook")

_DEVICES = "bus/pci/devices"
_MDEVS = "bus/mdev/devices"

# An attribute is a number and a line feed; more than this of one is not a value.
_ATTRIBUTE_BYTES = 64

# A mediated device's type has a name for people (Linux include/linux/mdev.h: pretty_name).
_TYPE_NAME_BYTES = 256

# "0-15,64-79": a run for each die at the worst.
_CPULIST_BYTES = 4096

# What anybody may read of the configuration space (drivers/pci/pci-sysfs.c, pci_read_config).
_CONFIG_HEADER_BYTES = 64

# Six BARs, a ROM and up to ten windows of 57 characters a line.
_RESOURCE_BYTES = 4096

_GROUP = re.compile(r"[0-9]{1,9}")
_NUMA_NODE = re.compile(r"[0-9]{1,5}")
_HEX = re.compile(rb"0x[0-9a-f]+")
_DRIVER = re.compile(r"[!-~]+")
_VFIO_DEVICE = re.compile(r"vfio[0-9]+")


@dataclass(frozen=True, slots=True)
class HostTree(Host):
    """One ``/sys``.

    Attributes:
        root: What is ``/sys`` on the node; None where there is none to read.
    """

    root: Path | None

    @property
    def known(self) -> bool:
        """Whether the tree shows PCI functions at all; if not, absence means nothing."""
        return self.root is not None and os.path.isdir(self._path(_DEVICES))

    def addresses(self) -> tuple[PciAddress, ...]:
        """Every function's address, in order; names that are no addresses are left out.

        Raises:
            HostError: The tree is there but cannot be listed.
        """
        if not self.known:
            return ()
        return tuple(sorted(_parse_addresses(self._list_devices()), key=_order))

    def function(self, address: PciAddress) -> HostFunction | None:
        """Read one function.

        Returns:
            None if the (known) tree has no such function, or it goes while it is read. Without
            a known tree: the function with no fact about it.
        """
        if not self.known:
            return HostFunction(address)
        return _read_function(self._path(_DEVICES), address)

    def functions(self, vendors: Collection[int] | None = None) -> tuple[HostFunction, ...]:
        """Every function, in order; of others than ``vendors`` little more than the vendor is read.

        A function that fails to answer is there, with no fact about it.

        Raises:
            HostError: The tree is there but cannot be listed.
        """
        if not self.known:
            return ()
        devices = self._path(_DEVICES)
        read: list[HostFunction | None] = []
        others = set()  # names: a value each for functions that nobody wants costs as much again
        for name in self._list_devices():
            address = _parse_name(name)
            if address is None:
                continue
            try:
                vendor = _read_vendor(f"{devices}/{name}/vendor")
                if vendors is not None and vendor is not None and vendor not in vendors:
                    others.add(name)
                else:
                    read.append(_read_function(devices, address, vendor))
            except UnreadableError as error:
                log.warning("%s", error)
                read.append(HostFunction(address))
        groups = {function.iommu_group for function in read if function is not None}
        for address in self._members(others, {group for group in groups if group is not None}):
            read.append(_read_function(devices, address))
        present = [function for function in read if function is not None]
        return tuple(sorted(present, key=lambda function: _order(function.address)))

    def _members(self, others: set[str], groups: set[int]) -> list[PciAddress]:
        """Which of some functions are in some groups: ask whoever are fewer."""
        if len(others) > 2 * len(groups):
            return [a for a in self.group_addresses(groups) if str(a) in others]
        return [a for a in _parse_addresses(others) if self._read_group_of(a) in groups]

    def group_addresses(self, groups: Collection[int]) -> Mapping[PciAddress, int]:
        """The PCI functions in some IOMMU groups, with their group.

        Raises:
            HostError: The tree is there but cannot be listed.
        """
        group_of: dict[PciAddress, int] = {}
        unlisted = set()
        for group in groups:
            path = self._path(f"kernel/iommu_groups/{group}/devices")
            try:
                names = os.listdir(path)
            except OSError as error:
                check_absence(error, path)
                unlisted.add(group)
            else:
                group_of |= dict.fromkeys(_parse_addresses(names), group)
        if unlisted:
            for address in self.addresses():
                number = self._read_group_of(address)
                if number in unlisted:
                    group_of[address] = number
        return group_of

    def is_in_group(self, address: PciAddress, iommu_group: int) -> bool | None:
        """Whether a group still lists a function; None where that cannot be seen."""
        return _exists(self._path(f"kernel/iommu_groups/{iommu_group}/devices/{address}"))

    def answers(self, address: PciAddress) -> bool | None:
        """Whether a function's configuration header reads other than all ones.

        The vendor's two bytes are not enough: of an SR-IOV VF they always read 0xffff (PCIe 6.0,
        9.3.4.1.1).
        """
        header = _read_file(self._path(f"{_DEVICES}/{address}/config"), _CONFIG_HEADER_BYTES)
        return None if len(header) < _CONFIG_HEADER_BYTES else header.strip(b"\xff") != b""

    def bars64(self, address: PciAddress) -> tuple[int, ...] | None:
        """The size in bytes of each 64-bit memory BAR of a function, in order.

        Raises:
            HostError: They are no sizes that a BAR can have, or the node has no room for one.
        """
        data = _read_file(self._path(f"{_DEVICES}/{address}/resource"), _RESOURCE_BYTES)
        return parse_bars(data.decode("ascii", "replace"), f"{address}: resource") if data else None

    def mdev_exists(self, uuid: str) -> bool | None:
        """Whether a mediated device exists; None where the tree shows no such devices at all."""
        devices = self._path(_MDEVS)
        if self.root is None or not os.path.isdir(devices):
            return None
        try:
            return _exists(f"{devices}/{parse_mdev_uuid(uuid)}")
        except ValueError:
            return False

    def mediated_device(self, uuid: str) -> MediatedDevice | None:
        """Read a mediated device; None for one that is not there."""
        if not self.mdev_exists(uuid):
            return None
        path = self._path(f"{_MDEVS}/{uuid.lower()}")
        # .../0000:3b:00.0/<UUID>: the parent directory is the function.
        above = _read_above(path, uuid.lower())
        name = _read_file(f"{path}/mdev_type/name", _TYPE_NAME_BYTES)
        return MediatedDevice(
            uuid.lower(),
            type_name=name.decode("utf-8", "replace").strip() or _read_last(f"{path}/mdev_type"),
            iommu_group=_read_number(_read_last(f"{path}/iommu_group"), _GROUP),
            parent=above[-1] if above else None,
        )

    def node_cpus(self, node: int) -> CpuSet | None:
        """The CPUs of a NUMA node; None where that is not known."""
        data = _read_file(self._path(f"devices/system/node/node{node}/cpulist"), _CPULIST_BYTES)
        if not data:
            return None
        try:
            return parse_cpuset(data.decode("ascii", "replace").strip())
        except ValueError:
            return None

    def mdev_uuids(self) -> tuple[str, ...] | None:
        """The UUID (lower case) of every mediated device, in order.

        Returns:
            None where the tree shows no such devices at all.
        """
        if self.root is None:
            return None
        try:
            names = os.listdir(self._path(_MDEVS))
        except OSError as error:
            check_absence(error, self._path(_MDEVS))
            return None
        return tuple(sorted(name for name in names if is_mdev_uuid(name)))

    def _path(self, below: str) -> str:
        return f"{self.root}/{below}"

    def _list_devices(self) -> list[str]:
        path = self._path(_DEVICES)
        try:
            return os.listdir(path)
        except OSError as error:
            raise HostError(
                path,
                f"cannot be listed: {error.strerror}",
                "let this user read the node's /sys",
            ) from error

    def _read_group_of(self, address: PciAddress) -> int | None:
        return _read_number(_read_last(self._path(f"{_DEVICES}/{address}/iommu_group")), _GROUP)


def _order(address: PciAddress) -> tuple[int, int, int, int]:
    """Sort key: a dataclass's own comparison costs ten times as much."""
    return (address.domain, address.bus, address.slot, address.function)


def _read_function(
    devices: str, address: PciAddress, vendor_id: int | None = None
) -> HostFunction | None:
    """Read one function; its vendor too, if that has not been read."""
    name = str(address)
    path = f"{devices}/{name}"
    # .../pci0000:80/0000:80:01.0/0000:81:00.0: the directories above are the bridges above.
    bridges = _read_above(path, name)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        check_absence(error, path)
        return HostFunction(address, bridges=bridges) if _exists(path) is not False else None
    try:
        function = HostFunction(
            address,
            vendor_id=vendor_id or _read_hex(directory, "vendor", digits=4),
            device_id=_read_hex(directory, "device", digits=4),
            class_code=_read_hex(directory, "class", digits=6),
            iommu_group=_read_number(_read_link(directory, "iommu_group"), _GROUP),
            numa_node=_read_number(_read_attribute(directory, "numa_node"), _NUMA_NODE),
            driver=_read_driver(directory),
            vfio_device=_read_vfio_device(directory),
            physical_function=_parse_address(_read_link(directory, "physfn")),
            bridges=bridges,
        )
    except HostError as error:
        raise type(error)(f"{path}: {error.where}", error.what, error.fix) from error
    finally:
        os.close(directory)
    # A function that is being removed loses its attributes first: "no driver" would be false.
    if not (function.vendor_id and function.driver) and _exists(path) is False:
        return None
    return function


def _parse_address(bdf: str) -> PciAddress | None:
    if not bdf:  # the usual case of a link that is not there
        return None
    try:
        return PciAddress.parse(bdf)
    except ValueError:
        return None


def _parse_name(name: str) -> PciAddress | None:
    """The function of this name in a directory; there is one only as the kernel writes it."""
    address = _parse_address(name)
    return address if str(address) == name else None


def _parse_addresses(names: Iterable[str]) -> Iterable[PciAddress]:
    return (address for address in map(_parse_name, names) if address is not None)


def _exists(path: str) -> bool | None:
    """Whether the name is there, dangling or not; None where that cannot be seen."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        check_absence(error, path)
        return None
    return True


def _read_file(name: str, most_bytes: int, directory: int | None = None) -> bytes:
    """The first bytes of a file; none where there is nothing to read."""
    try:
        # Not blocking: a copy of a tree may have anything at this name.
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        check_absence(error, name)
        return b""
    try:
        return os.read(file, most_bytes)
    except OSError as error:
        check_absence(error, name)
        return b""
    finally:
        os.close(file)


def _read_attribute(directory: int, name: str) -> str:
    """The text of an attribute; "" (which no attribute of ours is) where there is none to read."""
    return _read_file(name, _ATTRIBUTE_BYTES, directory).decode("ascii", "replace").strip()


def _read_hex(directory: int, name: str, digits: int) -> int | None:
    return _parse_hex(_read_file(name, _ATTRIBUTE_BYTES, directory), digits)


def _parse_hex(data: bytes, digits: int) -> int | None:
    """Linux writes all digits ("0x%04x", "0x%06x"): fewer are half a number."""
    text = data.strip()
    if len(text) != digits + 2 or _HEX.fullmatch(text) is None:
        return None
    return int(text, 16)


def _read_vendor(path: str) -> int | None:
    return _parse_hex(_read_file(path, _ATTRIBUTE_BYTES), digits=4)


def _read_number(text: str, pattern: re.Pattern[str]) -> int | None:
    return int(text) if pattern.fullmatch(text) else None


def _last(link: str) -> str:
    return link.rstrip("/").rpartition("/")[2]


def _read_link(directory: int, name: str) -> str:
    """The last name in a link's target, which need not exist; "" where there is no link."""
    try:
        return _last(os.readlink(name, dir_fd=directory))
    except OSError as error:
        check_absence(error, name)
        return ""


def _read_last(path: str) -> str:
    try:
        return _last(os.readlink(path))
    except OSError as error:
        check_absence(error, path)
        return ""


def _read_driver(directory: int) -> str | None:
    try:
        name = _last(os.readlink("driver", dir_fd=directory))
    except FileNotFoundError:
        return ""
    except OSError as error:
        check_absence(error, "driver")
        return None
    return name if _DRIVER.fullmatch(name) else None


def _read_vfio_device(directory: int) -> str | None:
    try:
        file = os.open("vfio-dev", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
    except OSError as error:
        check_absence(error, "vfio-dev")
        return None
    try:
        names = os.listdir(file)
    except OSError as error:
        check_absence(error, "vfio-dev")
        return None
    finally:
        os.close(file)
    return min(filter(_VFIO_DEVICE.fullmatch, names), default=None)


def _read_above(path: str, name: str) -> tuple[PciAddress, ...]:
    """The functions in whose directories a link's target stands, if it is called ``name``."""
    try:
        above, _, last = os.readlink(path).rstrip("/").rpartition("/")
    except OSError as error:
        check_absence(error, path)
        return ()
    return _parse_bridges(above) if last == name else ()


@lru_cache(maxsize=256)
def _parse_bridges(above: str) -> tuple[PciAddress, ...]:
    """Functions under one bridge are read one after the other; each need not parse it anew."""
    bridges: list[PciAddress] = []
    for part in reversed(above.split("/")):
        bridge = _parse_address(part)
        if bridge is None:
            break
        bridges.insert(0, bridge)
    return tuple(bridges)
