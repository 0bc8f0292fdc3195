"""Slots and functions of the root bus that a machine's own devices have. Pure."""

from launcher_hook.model import GuestTopology, Machine
from launcher_hook.pci import PciAddress

# Where libvirt or QEMU put the machine's own devices, or look first for a certain device.
RESERVED_SLOTS = {
    Machine.Q35: {0x00: "host bridge", 0x01: "primary video", 0x1B: "ICH9 sound", 0x1F: "ICH9 LPC"},
    Machine.I440FX: {0x00: "host bridge", 0x01: "PIIX3", 0x02: "primary video"},
    Machine.VIRT: {0x00: "host bridge"},
}
# ICH9 USB (0x1d, then 0x1a) and the DMI bridge (0x1e) go elsewhere when their slot is taken: we
# take it only when a pin says so.
AVOIDED_SLOTS = {Machine.Q35: (0x1A, 0x1D, 0x1E), Machine.I440FX: (), Machine.VIRT: ()}

# Functions that QEMU's chipset has and no domain names (libvirt qemu_domain_address.c:
# qemuDomainValidateDevicePCISlotsPIIX3 and ...Q35; QEMU hw/i386/pc_piix.c).
CHIPSET_FUNCTIONS = {
    Machine.Q35: ((0x00, 0), (0x1F, 0), (0x1F, 2), (0x1F, 3)),
    Machine.I440FX: ((0x00, 0), (0x01, 0), (0x01, 1), (0x01, 2), (0x01, 3)),
    Machine.VIRT: ((0x00, 0),),
}


def owners_by_address(topology: GuestTopology) -> dict[PciAddress, str]:
    """Name the owner of each guest address that no passed-through device may have."""
    chipset = {
        PciAddress(0, 0, slot, function): "the chipset"
        for slot, function in CHIPSET_FUNCTIONS.get(topology.machine, ())
    }
    return {**chipset, **topology.taken}
