"""How large the hole for the 64-bit BARs of the guest's devices is to be. Pure.

QEMU's hole ends at a multiple of 1 GiB; it is 32 GiB on q35 and 2 GiB on i440fx by itself
(hw/pci-host/q35.c, i440fx.c). OVMF makes its own, which since edk2-stable202211 is an eighth or
more of the CPU's address space where it believes the CPU's word for that, and otherwise 32 GiB
(OvmfPkg/Library/PlatformInitLib/MemDetect.c). What it is told (opt/ovmf/X-PciMmio64Mb) was the
least that it made until it became what it makes, with edk2-stable202505: too little is then worse
than nothing. Its base is a multiple of the largest power of two in its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from launcher_hook.errors import HostError, InputError, PlanError
from launcher_hook.model import GuestPlan, GuestTopology, Hole, Machine
from launcher_hook.pci import PciAddress
from launcher_hook.settings import MAX_HOLE_BYTES, PciHole64
from launcher_hook.sizes import GIB, MIB, print_size, round_up
from launcher_hook.windows import OVMFS_LEAST, Windows, windows_of

Bars = Mapping[PciAddress, tuple[int, ...] | None]
"""Sizes of the 64-bit BARs of host functions; None where they cannot be seen."""

_BY_ITSELF = {Machine.Q35: 32 * GIB, Machine.I440FX: 2 * GIB}

_FOR_OTHERS = GIB
"""For the windows of the other devices' ports, a MiB or two each."""

_LOW_MEMORY = 2 * GIB
"""At least so much of the guest's memory is below 4 GiB, if it has it (QEMU hw/i386/pc_q35.c)."""

_BASE = 4 * GIB

_QEMUS_DEFAULT = "QEMU's default"


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """What a domain says of its guest's address space.

    Attributes:
        is_uefi: Whether its firmware is OVMF.
        memory_bytes: At the start.
        hotplug_bytes: That memory may grow by, with what QEMU keeps for alignment.
        phys_bits: Physical address bits of its CPU; None where the node's decide.
        phys_bits_said: Whether the domain says so; otherwise it is what QEMU does by itself.
        hole_bytes: The hole that is written in it; 0 is none at all.
        told_mib: What its command line tells OVMF already, each time.
    """

    is_uefi: bool = False
    memory_bytes: int = 0
    hotplug_bytes: int = 0
    phys_bits: int | None = None
    phys_bits_said: bool = False
    hole_bytes: int | None = None
    told_mib: tuple[str, ...] = ()


def plan_hole(
    setting: PciHole64,
    plan: GuestPlan,
    topology: GuestTopology,
    space: AddressSpace,
    bars: Bars,
) -> tuple[Hole | None, tuple[str, ...]]:
    """Decide the size of the hole.

    Args:
        setting: What the configuration asks for.
        plan: Where the devices are.
        topology: The guest.
        space: The guest's address space as it is.
        bars: Of the assigned functions; for a given size, those that are known.

    Returns:
        The hole, None where nothing is to be written; and warnings.

    Raises:
        InputError: The size is to be worked out and nothing is known of the node.
        HostError: The node does not show a function's BARs.
        PlanError: The VM has its hole switched off, or needs more than firmware takes.
    """
    if setting == "off" or not plan.placements:
        return None, ()
    if topology.machine not in _BY_ITSELF:
        machine = repr(topology.machine_type)
        return None, (f"pciHole64: nothing is written; machine {machine} has no size to be set",)
    if space.hole_bytes == 0:
        raise PlanError(
            "pciHole64",
            "the VM has its 64-bit hole switched off (pcihole64 0)",
            "take the annotation kubevirt.io/disablePCIHole64 out of it, or write pciHole64: off",
        )
    if setting != "auto":
        known = windows_of(plan, topology, {a: sizes for a, sizes in bars.items() if sizes})
        hole, more = _told(setting, space, always=True)
        return hole, (*_too_small(setting, known, space), *more)
    windows = windows_of(plan, topology, _sizes(plan, bars))
    warnings = tuple(
        f"pciHole64: the BARs of {p.assignment.alias} are not counted: /sys does not show those of "
        "a mediated device; give a size if the guest does not map them"
        for p in plan.placements
        if p.assignment.host_address is None
    )
    there = space.hole_bytes or 0
    needed = smallest_hole(windows, is_uefi=space.is_uefi)
    if needed <= _BY_ITSELF[topology.machine] and (not there or there >= needed):
        return None, warnings
    wanted = max(needed, smallest_hole(windows, is_uefi=space.is_uefi, at_least=there))
    if wanted > MAX_HOLE_BYTES:
        raise PlanError(
            "pciHole64",
            f"the devices need {print_size(wanted)}, and OVMF takes {print_size(MAX_HOLE_BYTES)}",
            "attach fewer devices",
        )
    hole, more = _told(wanted, space, always=needed > OVMFS_LEAST)
    return hole, (*warnings, *more)


def smallest_hole(windows: Windows, *, is_uefi: bool, at_least: int = 0) -> int:
    """How large a hole firmware finds room in for every BAR, in bytes; 0 without a 64-bit BAR.

    It is whole GiB; a power of two where OVMF keeps a part of it in each port, since just above one
    the part is twice as large. More than 16 TiB means that no hole is large enough.

    Args:
        windows: The guest's bridges and BARs.
        is_uefi: Whether the firmware is OVMF.
        at_least: This size, if it is enough, or a larger one.
    """
    if not any(windows.bars.values()):
        return 0
    if at_least and _fits(windows, at_least, is_uefi=is_uefi):
        return at_least
    bars = windows.bytes_taken(0, is_uefi=is_uefi)
    size_bytes = max(at_least, round_up(bars + _FOR_OTHERS, GIB))
    if _fits(windows, size_bytes, is_uefi=is_uefi):
        return size_bytes
    size_bytes = 1 << (size_bytes - 1).bit_length()
    while size_bytes <= MAX_HOLE_BYTES and not _fits(windows, size_bytes, is_uefi=is_uefi):
        size_bytes *= 2
    return size_bytes


def _fits(windows: Windows, size_bytes: int, *, is_uefi: bool) -> bool:
    return windows.bytes_taken(size_bytes, is_uefi=is_uefi) + _FOR_OTHERS <= size_bytes


def _too_small(size_bytes: int, windows: Windows, space: AddressSpace) -> tuple[str, ...]:
    """What is to be said of a size that was given and leaves a BAR without an address."""
    taken = windows.bytes_taken(size_bytes, is_uefi=space.is_uefi)
    if not any(windows.bars.values()) or taken <= size_bytes:
        return ()
    enough = smallest_hole(windows, is_uefi=space.is_uefi, at_least=size_bytes)
    what = "the devices' BARs"
    if space.is_uefi and size_bytes > OVMFS_LEAST:
        what += f", and what OVMF keeps free in the guest's {len(windows.ports)} ports,"
    fix = "attach fewer devices"
    if enough <= MAX_HOLE_BYTES:
        fix = f"write auto, or {print_size(enough)}"
    return (
        f"pciHole64: {what} need more than {print_size(size_bytes)}: the guest does not map every "
        f"BAR; {fix}",
    )


def _sizes(plan: GuestPlan, bars: Bars) -> dict[PciAddress, tuple[int, ...]]:
    inside = (p.assignment for p in plan.placements if not p.assignment.is_unassigned)
    addresses = (assignment.host_address for assignment in inside)
    return {address: _known(bars, address) for address in addresses if address is not None}


def _known(bars: Bars, address: PciAddress) -> tuple[int, ...]:
    sizes = bars.get(address)
    if sizes is not None:
        return sizes
    if not bars or all(found is None for found in bars.values()):
        raise InputError(
            "pciHole64",
            f"auto: the BARs of {address} are not known",
            "give the node's /sys (--sysfs) or a new snapshot of it, or write a size",
        )
    raise HostError(
        f"{address}: resource",
        "its BARs cannot be read",
        "let this user read the node's /sys, or give pciHole64 a size",
    )


def _told(size_bytes: int, space: AddressSpace, *, always: bool) -> tuple[Hole, tuple[str, ...]]:
    """Whether OVMF must be told, and what is to be said of the size."""
    warnings = []
    tell = space.is_uefi and always
    ours = str(size_bytes // MIB)
    if tell and space.told_mib and space.told_mib != (ours,):
        tell = False
        warnings.append(
            f"pciHole64: OVMF is told {' and '.join(space.told_mib)} MiB (opt/ovmf/X-PciMmio64Mb) "
            f"by somebody else's command line, not {ours}: it is left; see who writes it"
        )
    end = end_of_hole(size_bytes, space)
    if space.phys_bits is not None and end > 1 << space.phys_bits:
        warnings.append(
            f"pciHole64: {print_size(size_bytes)} above the guest's memory end at "
            f"{print_size(end)}, beyond the {space.phys_bits} physical address bits of its CPU "
            f"({'as configured' if space.phys_bits_said else _QEMUS_DEFAULT}); QEMU does not start "
            "it, or the guest does not map every BAR: give it the node's CPU (KubeVirt: cpu.model: "
            "host-passthrough; libvirt: <maxphysaddr mode='passthrough'/>), the VM less memory, or "
            "pciHole64 a smaller size"
        )
    return Hole(size_bytes, tell), tuple(warnings)


def end_of_hole(size_bytes: int, space: AddressSpace) -> int:
    """The address at which a hole ends at the latest."""
    memory_end = _BASE + max(0, space.memory_bytes - _LOW_MEMORY)
    if space.hotplug_bytes:
        memory_end = round_up(memory_end, GIB) + space.hotplug_bytes
    largest_power = 1 << (size_bytes.bit_length() - 1)
    return round_up(memory_end, max(GIB, largest_power)) + size_bytes
