"""Facts about PCI functions below a given root: the node's ``/sys``, or a copy of a part of it.

What cannot be read, or is no value that Linux writes, is None: not known, never guessed. Nothing
is kept between two calls, and only what is asked for is read: the hook server asks for a handful
of functions in every call, on nodes that may have thousands.

Sources: Linux Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups and
sysfs-devices-vfio-dev; the formats of the attributes: drivers/pci/pci-sysfs.c.
"""

# Names relative to an open directory, which pathlib does not have, and 4,096 names without a Path
# each.
# ruff: noqa: PTH112, PTH115, PTH208

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from launcher_hook.errors import HostError
from launcher_hook.mdev import parse_mdev_uuid
from launcher_hook.model import HostFacts, HostFunction, HostSource
from launcher_hook.pci import MAX_FUNCTION, PciAddress

# An attribute is a number and a line feed; more than this of one is not a value.
_ATTRIBUTE_BYTES = 64

_GROUP = re.compile(r"[0-9]{1,9}")
_NUMA_NODE = re.compile(r"[0-9]{1,5}")
_DRIVER = re.compile(r"[!-~]+")
_VFIO_DEVICE = re.compile(r"vfio[0-9]+")

# Linux drivers/vfio/pci: vfio-pci itself and the variants mlx5_vfio_pci, hisi_acc_vfio_pci,
# nvgrace_gpu_vfio_pci, virtio_vfio_pci, pds_vfio_pci, qat_vfio_pci, ism_vfio_pci and, with hyphens,
# xe-vfio-pci: pci_driver.name is KBUILD_MODNAME (underscores) or what the vendor wrote.
_VFIO_DRIVER = re.compile(r"(.+[-_])?vfio[-_]pci")

# Subclasses of base class 0x06 whose configuration header is not type 0 (Linux
# include/linux/pci_ids.h): PCI, CardBus and semi-transparent PCI bridges. Host and ISA bridges
# have the header of an ordinary device, and vfio treats them as one.
_BRIDGES = (0x0604, 0x0607, 0x0609)

# Bound to these, nothing on the host does DMA through the function: Linux drivers/pci/pci-stub.c,
# drivers/pci/pcie/portdrv.c (driver_managed_dma).
_HARMLESS_DRIVERS = ("", "pci-stub", "pcieport")


@dataclass(frozen=True, slots=True)
class HostTree:
    """The PCI functions, IOMMU groups and mediated devices of one ``/sys``.

    Attributes:
        root: What is ``/sys`` on the node; None where there is none to read.
    """

    root: Path | None

    @property
    def known(self) -> bool:
        """Whether the tree shows PCI functions at all; if not, absence means nothing."""
        return self.root is not None and os.path.isdir(self._path("bus/pci/devices"))

    def addresses(self) -> tuple[PciAddress, ...]:
        """Every function's address, in order; names that are no addresses are left out.

        Raises:
            HostError: The tree is there but cannot be listed.
        """
        if not self.known:
            return ()
        path = self._path("bus/pci/devices")
        try:
            names = os.listdir(path)
        except OSError as error:
            raise HostError(
                path,
                f"cannot be listed: {error.strerror}",
                "let this user read the node's /sys",
            ) from error
        return tuple(sorted(_parse_addresses(names)))

    def function(self, address: PciAddress) -> HostFunction | None:
        """Read one function.

        Returns:
            None if the (known) tree has no such function, or it goes while it is read. Without
            a known tree: the function with no fact about it.
        """
        if not self.known:
            return HostFunction(address)
        path = self._path(f"bus/pci/devices/{address}")
        # .../pci0000:80/0000:80:01.0/0000:81:00.0: the parent directory is the bridge above.
        parent = _read_above(path, str(address))
        try:
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return HostFunction(address, parent=parent) if _exists(path) is not False else None
        try:
            function = HostFunction(
                address,
                vendor_id=_read_hex(directory, "vendor", digits=4),
                device_id=_read_hex(directory, "device", digits=4),
                class_code=_read_hex(directory, "class", digits=6),
                iommu_group=_read_number(_read_link(directory, "iommu_group"), _GROUP),
                numa_node=_read_number(_read_attribute(directory, "numa_node"), _NUMA_NODE),
                driver=_read_driver(directory),
                vfio_device=_read_vfio_device(directory),
                physical_function=_parse_address(_read_link(directory, "physfn")),
                parent=parent,
            )
        finally:
            os.close(directory)
        # A function that is being removed loses its attributes first: "no driver" would be false.
        if not (function.vendor_id and function.driver) and _exists(path) is False:
            return None
        return function

    def slot_functions(self, address: PciAddress) -> tuple[HostFunction, ...]:
        """The other functions of the same host slot, in order.

        An SR-IOV function's first VFs may stand in its own slot: see ``physical_function``.
        """
        if not self.known:
            return ()
        others = (self.function(other) for other in _slot(address) if other != address)
        return tuple(other for other in others if other is not None)

    def group_members(self, iommu_group: int) -> tuple[HostFunction, ...]:
        """Every PCI function of an IOMMU group, in order; ``()`` for a group that is not there.

        Members that are no PCI functions (platform and mediated devices) are left out. One that
        the group lists but about which nothing else is known is in.

        Raises:
            HostError: The tree is there but cannot be listed.
        """
        if not self.known:
            return ()
        members = self._read_groups({iommu_group}, {})
        return tuple(members[address] for address in sorted(members))

    def facts(self, sources: Iterable[HostSource]) -> HostFacts:
        """Read what a decision about these devices needs; every function once.

        Raises:
            HostError: The tree is there but cannot be listed.
        """
        if not self.known:
            return HostFacts()
        sources = set(sources)
        addresses = {source for source in sources if isinstance(source, PciAddress)}
        functions: dict[PciAddress, HostFunction] = {}
        for address in {function for other in addresses for function in _slot(other)}:
            function = self.function(address)
            if function is not None:
                functions[address] = function
        assigned = (functions[address] for address in addresses if address in functions)
        groups = {f.iommu_group for f in assigned if f.iommu_group is not None}
        functions |= self._read_groups(groups, functions)
        mediated = {uuid: self.mdev_exists(uuid) for uuid in sources if isinstance(uuid, str)}
        return HostFacts(
            known=True,
            functions={address: functions[address] for address in sorted(functions)},
            mediated_devices={u: exists for u, exists in mediated.items() if exists is not None},
        )

    def mdev_exists(self, uuid: str) -> bool | None:
        """Whether a mediated device exists; None where the tree shows no such devices at all."""
        devices = self._path("bus/mdev/devices")
        if self.root is None or not os.path.isdir(devices):
            return None
        try:
            return _exists(f"{devices}/{parse_mdev_uuid(uuid)}")
        except ValueError:
            return False

    def mdev_parent(self, uuid: str) -> HostFunction | None:
        """The function that a mediated device is a part of; None where that is not known."""
        if not self.mdev_exists(uuid):
            return None
        # .../0000:3b:00.0/<UUID>: the parent directory is the function.
        above = _read_above(self._path(f"bus/mdev/devices/{uuid.lower()}"), uuid.lower())
        return None if above is None else self.function(above)

    def _path(self, below: str) -> str:
        return f"{self.root}/{below}"

    def _read_groups(
        self, groups: set[int], functions: dict[PciAddress, HostFunction]
    ) -> dict[PciAddress, HostFunction]:
        """Read the members of some groups; ``functions`` has what has been read already."""
        group_of: dict[PciAddress, int] = {}
        unlisted = set()
        for group in groups:
            try:
                names = os.listdir(self._path(f"kernel/iommu_groups/{group}/devices"))
            except OSError:
                unlisted.add(group)
            else:
                group_of |= dict.fromkeys(_parse_addresses(names), group)
        if unlisted:
            for address in self.addresses():
                number = self._read_group_of(address)
                if number in unlisted:
                    group_of[address] = number
        members = {}
        for address, group in group_of.items():
            function = functions.get(address) or self.function(address)
            if function is None:
                # Gone, or a copy that has the groups and not every function.
                link = self._path(f"kernel/iommu_groups/{group}/devices/{address}")
                if _exists(link) is False:
                    continue
                function = HostFunction(address)
            if function.iommu_group is None:
                function = replace(function, iommu_group=group)
            members[address] = function
        return members

    def _read_group_of(self, address: PciAddress) -> int | None:
        try:
            link = os.readlink(self._path(f"bus/pci/devices/{address}/iommu_group"))
        except OSError:
            return None
        return _read_number(_last(link), _GROUP)


def is_vfio_driver(name: str | None) -> bool:
    """Whether a driver of this name is vfio-pci or one of its vendor variants."""
    return name is not None and _VFIO_DRIVER.fullmatch(name) is not None


def is_bound_to_vfio(function: HostFunction) -> bool:
    """Whether a VM can open the function as it is bound now.

    More than the driver's name: an NVIDIA vGPU's VF (since vGPU 17, Linux 6.8) stays with the
    ``nvidia`` driver, which registers the vfio device itself (kubevirt/kubevirt#17642).
    """
    return function.vfio_device is not None or is_vfio_driver(function.driver)


def has_own_vfio_device(function: HostFunction) -> bool:
    """Whether its native driver provides the vfio device, so that it must not be unbound."""
    return function.vfio_device is not None and not is_vfio_driver(function.driver)


def is_bridge(function: HostFunction) -> bool:
    """Whether it is a bridge that no VM can be given; False where the class is not known."""
    return function.class_code is not None and function.class_code >> 8 in _BRIDGES


def keeps_group_viable(function: HostFunction) -> bool | None:
    """Whether vfio gives out a group with this member as it is bound now; None: not known.

    Linux before 5.18: drivers/vfio/vfio.c, vfio_dev_viable() (no driver, a vfio driver, pci-stub,
    a bridge); since: drivers with driver_managed_dma, which pcieport has as well.
    """
    if is_bridge(function) or is_bound_to_vfio(function):
        return True
    if function.driver is None:
        return None
    return function.driver in _HARMLESS_DRIVERS


def _slot(address: PciAddress) -> tuple[PciAddress, ...]:
    return tuple(address.with_function(function) for function in range(MAX_FUNCTION + 1))


def _parse_address(bdf: str) -> PciAddress | None:
    try:
        return PciAddress.parse(bdf)
    except ValueError:
        return None


def _parse_addresses(names: Iterable[str]) -> Iterable[PciAddress]:
    return (address for address in map(_parse_address, names) if address is not None)


def _exists(path: str) -> bool | None:
    """Whether the name is there, dangling or not; None where that cannot be seen."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def _read_attribute(directory: int, name: str) -> str:
    """The text of an attribute; "" (which no attribute of ours is) where there is none to read."""
    try:
        # Not blocking: a copy of a tree may have anything at this name.
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return ""
    try:
        return os.read(file, _ATTRIBUTE_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(file)


def _read_hex(directory: int, name: str, digits: int) -> int | None:
    """Linux writes all digits ("0x%04x", "0x%06x"): fewer are half a number."""
    text = _read_attribute(directory, name)
    return int(text, 16) if re.fullmatch(rf"0x[0-9a-f]{{{digits}}}", text) else None


def _read_number(text: str, pattern: re.Pattern[str]) -> int | None:
    return int(text) if pattern.fullmatch(text) else None


def _last(link: str) -> str:
    return link.rstrip("/").rpartition("/")[2]


def _read_link(directory: int, name: str) -> str:
    """The last name in a link's target, which need not exist; "" where there is no link."""
    try:
        return _last(os.readlink(name, dir_fd=directory))
    except OSError:
        return ""


def _read_driver(directory: int) -> str | None:
    try:
        name = _last(os.readlink("driver", dir_fd=directory))
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    return name if _DRIVER.fullmatch(name) else None


def _read_vfio_device(directory: int) -> str | None:
    try:
        file = os.open("vfio-dev", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
    except OSError:
        return None
    try:
        names = os.listdir(file)
    except OSError:
        return None
    finally:
        os.close(file)
    return min(filter(_VFIO_DEVICE.fullmatch, names), default=None)


def _read_above(path: str, name: str) -> PciAddress | None:
    """The function in whose directory a link's target stands, if it is called ``name``."""
    try:
        above, _, last = os.readlink(path).rstrip("/").rpartition("/")
    except OSError:
        return None
    return _parse_address(_last(above)) if last == name else None
