"""What the configuration says, after all its sources have been merged. Frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from launcher_hook.pci import PciAddress
from launcher_hook.sizes import TIB

Layout = Literal["auto", "root-port", "root-bus", "numa", "mirror"]
BY_NODE: tuple[Layout, ...] = ("numa", "mirror")
"""The layouts that ask where devices are on the node."""

Managed = Literal["yes", "no", "keep"]
Companions = Literal["attach", "always", "ignore"]
OnOff = Literal["on", "off"]
PciHole64 = Literal["off", "auto"] | int
"""``off`` writes nothing, ``auto`` is worked out from the devices' BARs, a number is bytes."""

MAX_HOLE_BYTES = 16 * TIB
"""OVMF takes no more (OvmfPkg/Library/PlatformInitLib/MemDetect.c)."""


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """What the configuration asks of one device; None is not asked for.

    Attributes:
        rom_bar: Whether the guest sees the option ROM's BAR.
        rom_file: Absolute path, in the compute container, of a file that stands for the ROM.
        p2p_clique: 0 to 15; NVIDIA's driver does peer-to-peer DMA between GPUs of one clique.
        driver_name: libvirt's ``<driver name>``.
        driver_model: The host driver to bind instead of vfio-pci, e.g. ``mlx5_vfio_pci``.
        driver_iommufd: Whether QEMU opens the device through /dev/iommu.
        display: Whether QEMU shows the screen of a vGPU.
        ramfb: Whether that screen has a boot framebuffer.
        boot_order: From 1.
        x_vga: QEMU's x-vga: the legacy VGA ranges go to the device.
        acpi_nodeset: Guest NUMA cells of the device's own memory, as libvirt writes sets.
    """

    rom_bar: OnOff | None = None
    rom_file: str | None = None
    p2p_clique: int | None = None
    driver_name: str | None = None
    driver_model: str | None = None
    driver_iommufd: Literal["yes", "no"] | None = None
    display: OnOff | None = None
    ramfb: OnOff | None = None
    boot_order: int | None = None
    x_vga: OnOff | None = None
    acpi_nodeset: str | None = None


NO_OPTIONS = DeviceOptions()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says, after all its sources have been merged.

    Attributes:
        layout: ``auto`` is root-port on PCIe machines and root-bus on i440fx.
        strict: Whether what a layout cannot keep (NUMA affinity, distances) is an error, and not a
            warning.
        managed: libvirt's ``managed`` attribute; ``keep`` leaves that of an adopted hostdev.
        companions: Whether other functions of an allocated function's slot come along; ``attach``
            leaves out those whose device node the pod may lack (see ``iommufd``).
        slots: Guest address by device name, alias, host BDF or mdev UUID.
        pci_hole64: How much address space 64-bit BARs get.
        devices: What is asked of single devices, by the same names as ``slots``.
    """

    layout: Layout = "auto"
    strict: bool = False
    managed: Managed = "yes"
    companions: Companions = "attach"
    slots: Mapping[str, PciAddress] = field(default_factory=dict)
    pci_hole64: PciHole64 = "off"
    devices: Mapping[str, DeviceOptions] = field(default_factory=dict)
