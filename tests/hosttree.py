"""Builds a node's ``/sys`` on disk: PCI functions, bridges, groups, drivers, mediated devices.

The layout is the kernel's: real directories below ``devices/``, relative links everywhere else::

    root = build_host_tree(tmp_path / "sys", [
        bridge("0000:80:01.0", group=40),
        *gpu("0000:81:00.0", group=42, numa=1, parent="0000:80:01.0"),
    ])
    rebind(root, "0000:81:00.1", "snd_hda_intel")

No caching and no state beside the disk: every function takes the root and may be called again at
any time, so that a test can change the tree between two reads.
"""

# Speed: a Path costs as much as the call that it is made for.
# ruff: noqa: PTH102, PTH103, PTH112, PTH115, PTH119, PTH120, PTH211

import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

_WRITE_ONLY = 0o200
_NO_MARKS = str.maketrans("", "", ":.")


@dataclass(frozen=True)
class HostDevice:
    """A PCI function as it is to appear.

    Attributes:
        bdf: Lower case, as the kernel prints it.
        cls: 24 bits: class, subclass, programming interface.
        group: IOMMU group; None on a node without an IOMMU.
        numa: What ``numa_node`` says; None for a kernel without NUMA (no such file).
        driver: Name of the bound driver; "" for none.
        parent: The bridge above, which must be in the tree or in the same list; None on a root bus.
        physfn: The PF of an SR-IOV VF, which must be in the tree or in the same list.
        vfio_dev: Name of the vfio device, e.g. ``vfio0``; "" for none (Linux before 6.1); None for
            what newer kernels do: one while the function is bound to vfio-pci or a variant.
        bars: Size of each BAR in bytes, 0 for one that is not there; 64 bit, prefetchable.
    """

    bdf: str
    vendor: int = 0x8086
    device: int = 0x1521
    cls: int = 0x020000
    group: int | None = None
    numa: int | None = -1
    driver: str = ""
    parent: str | None = None
    physfn: str | None = None
    vfio_dev: str | None = None
    bars: tuple[int, ...] = ()


def bridge(bdf: str, group: int | None = None, **others: object) -> HostDevice:
    """A root port (Intel 8086:347a) bound to pcieport."""
    port = HostDevice(
        bdf, vendor=0x8086, device=0x347A, cls=0x060400, group=group, driver="pcieport"
    )
    return replace(port, **others)  # type: ignore[arg-type]


def gpu(bdf: str, driver: str = "vfio-pci", **others: object) -> tuple[HostDevice, ...]:
    """The four functions of a TU106 card: VGA, audio, USB, UCSI; ``others`` is for all four."""
    slot = bdf.rpartition(".")[0]
    return tuple(
        replace(
            HostDevice(f"{slot}.{function}", vendor=0x10DE, device=device, cls=cls, driver=driver),
            **others,  # type: ignore[arg-type]
        )
        for function, device, cls in (
            (0, 0x1F08, 0x030000),
            (1, 0x10F9, 0x040300),
            (2, 0x1ADA, 0x0C0330),
            (3, 0x1ADB, 0x0C8000),
        )
    )


def many_devices(count: int, driver: str = "vfio-pci") -> tuple[HostDevice, ...]:
    """As many one-function 3D controllers, each behind no bridge and in a group of its own.

    32 to a bus and 256 buses to a domain; the NUMA node is that of the half of the machine.
    """
    return tuple(
        HostDevice(
            f"{n >> 13:04x}:{n >> 5 & 0xFF:02x}:{n & 0x1F:02x}.0",
            vendor=0x10DE,
            device=0x2330,
            cls=0x030200,
            group=n,
            numa=2 * n // count,
            driver=driver,
        )
        for n in range(count)
    )


def build_host_tree(root: Path, devices: Iterable[HostDevice] = ()) -> Path:
    """Write a tree with these devices, or add them to one that is there; returns ``root``.

    Raises:
        ValueError: A parent or PF is neither in the tree nor in the list.
        FileExistsError: A device is there already.
    """
    for directory in ("bus/pci/devices", "bus/pci/drivers", "kernel/iommu_groups", "devices"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    if not (root / "bus/pci/drivers_probe").exists():
        _write(f"{root}/bus/pci/drivers_probe", "", _WRITE_ONLY)
    waiting = {device.bdf: device for device in devices}
    while waiting:
        _add(root, next(iter(waiting.values())), waiting)
    return root


def gpu_behind_port(root: Path) -> Path:
    """A root port with a four-function GPU below it, in group 42 on NUMA node 1."""
    return build_host_tree(
        root,
        [
            *gpu("0000:81:00.0", group=42, numa=1, parent="0000:80:01.0"),
            bridge("0000:80:01.0", group=40, numa=1),
        ],
    )


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A directory for a large tree, gone afterwards: in memory where the machine has a tmpfs.

    4,096 devices are 50,000 files and links: 2 s there, up to a minute on a busy ext4.
    """
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as directory:
        yield Path(directory)


def device_directory(root: Path, bdf: str) -> Path:
    """The real directory of a function."""
    return _target(root / "bus/pci/devices" / bdf)


def vfio_device(bdf: str) -> str:
    """The name of a function's vfio device, where a HostDevice does not say another.

    The kernel counts; a number that follows from the address needs no look at the others.
    """
    return f"vfio{int(bdf.translate(_NO_MARKS), 16)}"


def write_attribute(root: Path, bdf: str, name: str, content: str | bytes) -> None:
    """Overwrite or add an attribute file; nothing is appended, not even a line feed."""
    data = content if isinstance(content, bytes) else content.encode()
    (device_directory(root, bdf) / name).write_bytes(data)


def rebind(root: Path, bdf: str, driver: str) -> None:
    """Unbind a function from its driver and bind it to another one; "" for none."""
    directory = device_directory(root, bdf)
    link = directory / "driver"
    if link.is_symlink():
        (_target(link) / bdf).unlink(missing_ok=True)
        link.unlink()
    if (directory / "vfio-dev").is_dir():
        shutil.rmtree(directory / "vfio-dev")
    if driver:
        _bind(root, str(directory), driver)


def remove(root: Path, bdf: str) -> None:
    """Unplug a function, and with a bridge all that is below it; an empty group goes as well."""
    directory = device_directory(root, bdf)
    for below in sorted(directory.iterdir()):
        if (root / "bus/pci/devices" / below.name).is_symlink() and not below.is_symlink():
            remove(root, below.name)
        elif (root / "bus/mdev/devices" / below.name).is_symlink():
            remove_mdev(root, below.name)
    rebind(root, bdf, "")
    _leave_group(directory)
    (root / "bus/pci/devices" / bdf).unlink()
    shutil.rmtree(directory)


def add_mdev(
    root: Path, uuid: str, parent: str, group: int | None = None, type_name: str = ""
) -> None:
    """Create a mediated device below a function; its type is there if it has a name."""
    directory = device_directory(root, parent) / uuid
    directory.mkdir()
    if type_name:
        kind = device_directory(root, parent) / "mdev_supported_types" / "nvidia-222"
        kind.mkdir(parents=True, exist_ok=True)
        (kind / "name").write_text(f"{type_name}\n")
        _link(f"{directory}/mdev_type", str(kind))
    devices = root / "bus/mdev/devices"
    devices.mkdir(parents=True, exist_ok=True)
    _link(f"{devices}/{uuid}", str(directory))
    if group is not None:
        _enter_group(root, str(directory), group)


def add_node_cpus(root: Path, node: int, cpus: str) -> None:
    """Write which CPUs a NUMA node has, e.g. ``0-15``."""
    directory = root / f"devices/system/node/node{node}"
    directory.mkdir(parents=True)
    (directory / "cpulist").write_text(f"{cpus}\n")


def remove_mdev(root: Path, uuid: str) -> None:
    """Remove a mediated device; ``bus/mdev/devices`` stays, as the kernel's does."""
    link = root / "bus/mdev/devices" / uuid
    directory = _target(link)
    _leave_group(directory)
    link.unlink()
    shutil.rmtree(directory)


def _add(root: Path, device: HostDevice, waiting: dict[str, HostDevice]) -> None:
    """Add a device, and first those of the list that it stands on."""
    del waiting[device.bdf]
    for other in (device.parent, device.physfn):
        if other in waiting:
            _add(root, waiting[other], waiting)
        elif other is not None and not (root / "bus/pci/devices" / other).is_symlink():
            raise ValueError(f"{device.bdf}: {other} is neither in the tree nor in the list")
    if device.parent is not None:
        above = str(device_directory(root, device.parent))
    else:
        above = f"{root}/devices/pci{device.bdf.rpartition(':')[0]}"
        os.makedirs(above, exist_ok=True)
    directory = f"{above}/{device.bdf}"
    os.mkdir(directory)
    _write(f"{directory}/vendor", f"0x{device.vendor:04x}\n")
    _write(f"{directory}/device", f"0x{device.device:04x}\n")
    _write(f"{directory}/class", f"0x{device.cls:06x}\n")
    if device.numa is not None:
        _write(f"{directory}/numa_node", f"{device.numa}\n")
    _write_what_libvirt_reads(directory, device)
    _link(f"{root}/bus/pci/devices/{device.bdf}", directory)
    if device.group is not None:
        _enter_group(root, directory, device.group)
    if device.driver:
        _bind(root, directory, device.driver, device.vfio_dev)
    elif device.vfio_dev:
        os.makedirs(f"{directory}/vfio-dev/{device.vfio_dev}")
    if device.physfn is not None:
        function = device_directory(root, device.physfn)
        _link(f"{directory}/physfn", str(function))
        _link(f"{function}/virtfn{len(list(function.glob('virtfn*')))}", directory)


def _write_what_libvirt_reads(directory: str, device: HostDevice) -> None:
    """Write the files of every function (Linux drivers/pci/pci-sysfs.c) that libvirt looks at.

    Without one of them libvirt leaves out the step that reads it, and a VM starts that a real node
    would not start.
    """
    base, sub, interface = device.cls >> 16, device.cls >> 8 & 0xFF, device.cls & 0xFF
    _write(
        f"{directory}/modalias",
        f"pci:v{device.vendor:08X}d{device.device:08X}sv{device.vendor:08X}sd{device.device:08X}"
        f"bc{base:02X}sc{sub:02X}i{interface:02X}\n",
    )
    _write(f"{directory}/subsystem_vendor", f"0x{device.vendor:04x}\n")
    _write(f"{directory}/subsystem_device", f"0x{device.device:04x}\n")
    _write(f"{directory}/revision", "0x00\n")
    _write(f"{directory}/driver_override", "(null)\n")
    _write(f"{directory}/resource", _resource(device.bars))
    for name in ("remove", "rescan", "reset"):
        _write(f"{directory}/{name}", "", _WRITE_ONLY)
    if base != 0x06:
        _write(f"{directory}/rom", "", 0o600)
    _write(f"{directory}/config", _config_space(device))


def _config_space(device: HostDevice) -> bytes:
    """A header (PCI 3.0, 6.1) with one capability, PCI Express, that has a function level reset."""
    is_bridge = device.cls >> 8 == 0x0604
    # A VF's own ids read as all ones: PCIe 6.0, 9.3.4.1.1.
    ids = (device.vendor, device.device) if device.physfn is None else (0xFFFF, 0xFFFF)
    space = bytearray(256)
    struct.pack_into("<HHHH", space, 0x00, *ids, 0x0006, 0x0010)  # memory, DMA; has capabilities
    space[0x09:0x0C] = device.cls.to_bytes(3, "little")
    space[0x0E] = 1 if is_bridge else 0
    space[0x34] = 0x40
    kind = 4 if is_bridge else 0  # root port, endpoint
    struct.pack_into("<BBHI", space, 0x40, 0x10, 0, 2 | kind << 4, 0 if is_bridge else 1 << 28)
    return bytes(space)


def _resource(bars: tuple[int, ...]) -> str:
    """Start, end and flags of 6 BARs, the ROM and 6 bridge windows (Linux resource_show)."""
    lines = []
    start = 0x380000000000
    for bar in range(13):
        size = bars[bar] if bar < len(bars) else 0
        if size:
            start = -(-start // size) * size
            # IORESOURCE_MEM | PREFETCH | SIZEALIGN | MEM_64, and the BAR's own low bits.
            lines.append(f"0x{start:016x} 0x{start + size - 1:016x} 0x{0x14220C:016x}\n")
            start += size
        else:
            lines.append(f"0x{0:016x} 0x{0:016x} 0x{0:016x}\n")
    return "".join(lines)


def _bind(root: Path, directory: str, driver: str, vfio_dev: str | None = None) -> None:
    bound = f"{root}/bus/pci/drivers/{driver}"
    if not os.path.isdir(bound):
        os.makedirs(bound)
        for name in ("bind", "unbind", "new_id", "remove_id"):
            _write(f"{bound}/{name}", "", _WRITE_ONLY)
        module = f"{root}/module/{driver.replace('-', '_')}"  # a module's name has no hyphens
        os.makedirs(f"{module}/drivers", exist_ok=True)
        _link(f"{bound}/module", module)
        _link(f"{module}/drivers/pci:{driver}", bound)
    bdf = os.path.basename(directory)
    _link(f"{directory}/driver", bound)
    _link(f"{bound}/{bdf}", directory)
    if vfio_dev is None and driver.replace("-", "_").endswith("vfio_pci"):
        vfio_dev = vfio_device(bdf)
    if vfio_dev:
        os.makedirs(f"{directory}/vfio-dev/{vfio_dev}")


def _enter_group(root: Path, directory: str, group: int) -> None:
    there = f"{root}/kernel/iommu_groups/{group}"
    if not os.path.isdir(there):
        os.makedirs(f"{there}/devices")
    _link(f"{there}/devices/{os.path.basename(directory)}", directory)
    _link(f"{directory}/iommu_group", there)


def _leave_group(directory: Path) -> None:
    link = directory / "iommu_group"
    if not link.is_symlink():
        return
    group = _target(link)
    (group / "devices" / directory.name).unlink()
    if not any((group / "devices").iterdir()):
        shutil.rmtree(group)


def _write(path: str, content: str | bytes, mode: int = 0o644) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(file, content if isinstance(content, bytes) else content.encode())
    os.close(file)


def _link(link: str, target: str) -> None:
    """A relative link, as sysfs has them: the tree may be moved or copied."""
    os.symlink(os.path.relpath(target, os.path.dirname(link)), link)


def _target(link: Path) -> Path:
    return Path(os.path.normpath(link.parent / os.readlink(link)))
