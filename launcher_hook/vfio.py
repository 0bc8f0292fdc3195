"""What vfio says of a function: bound to it, in a group that it gives out, or a bridge. Pure."""

import re

from launcher_hook.model import HostFunction

# Linux drivers/vfio/pci: vfio-pci itself and the variants mlx5_vfio_pci, hisi_acc_vfio_pci,
# nvgrace_gpu_vfio_pci, virtio_vfio_pci, pds_vfio_pci, qat_vfio_pci, ism_vfio_pci and, with hyphens,
# xe-vfio-pci: pci_driver.name is KBUILD_MODNAME (underscores) or what the vendor wrote.
_VFIO_DRIVER = re.compile(r"(.+[-_])?vfio[-_]pci")

VFIO_PCI = "vfio-pci"
"""The driver that is for every function; its variants know more of some."""

# Subclasses of base class 0x06 whose configuration header is not type 0 (Linux
# include/linux/pci_ids.h): PCI, CardBus and semi-transparent PCI bridges. Host and ISA bridges
# have the header of an ordinary device, and vfio treats them as one.
_BRIDGES = (0x0604, 0x0607, 0x0609)

# Bound to these, nothing on the host does DMA through the function: Linux drivers/pci/pci-stub.c,
# drivers/pci/pcie/portdrv.c (driver_managed_dma).
_HARMLESS_DRIVERS = ("", "pci-stub", "pcieport")


def is_vfio_driver(name: str | None) -> bool:
    """Whether a driver of this name is vfio-pci or one of its vendor variants."""
    return name is not None and _VFIO_DRIVER.fullmatch(name) is not None


def is_same_driver(name: str | None, other: str | None) -> bool:
    """Whether two names are of one driver: modprobe and libvirt take ``-`` for ``_``."""
    return name is not None and other is not None and _plain(name) == _plain(other)


def _plain(name: str) -> str:
    return name.replace("-", "_")


def is_bound_to_variant(function: HostFunction) -> bool:
    """Whether it is bound to a vendor's variant of vfio-pci, e.g. ``mlx5_vfio_pci``."""
    return is_vfio_driver(function.driver) and not is_same_driver(function.driver, VFIO_PCI)


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
