"""How much address space the guest needs for the 64-bit BARs of its devices. Pure.

Every BAR stands at a multiple of its size, and so does the window of a bridge at a multiple of the
largest thing in it; firmware gives windows whole multiples of that (SeaBIOS src/fw/pciinit.c,
edk2 MdeModulePkg/Bus/Pci/PciBusDxe/PciResourceSupport.c). Laid out largest first, from a base that
is a multiple of the largest, nothing is lost between them.

QEMU's hole ends at a multiple of 1 GiB; it is 32 GiB on q35 and 2 GiB on i440fx by itself
(hw/pci-host/q35.c, i440fx.c). OVMF has an aperture of its own, of 32 GiB, whose base is a multiple
of the largest power of two in its size (OvmfPkg/Library/PlatformInitLib/MemDetect.c).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher_hook.errors import HostError, InputError, PlanError
from launcher_hook.model import GuestPlan, GuestTopology, Hole, Machine
from launcher_hook.pci import PciAddress
from launcher_hook.settings import MAX_HOLE_BYTES, PciHole64
from launcher_hook.sizes import GIB, MIB, print_size, round_up

Bars = Mapping[PciAddress, tuple[int, ...] | None]
"""Sizes of the 64-bit BARs of host functions; None where they cannot be seen."""

_BY_ITSELF = {Machine.Q35: 32 * GIB, Machine.I440FX: 2 * GIB}
_OVMF_BY_ITSELF = 32 * GIB

_WINDOW_STEP = MIB  # of a bridge (PCI-to-PCI Bridge Architecture 1.2, 3.2.5.9)

_FOR_OTHERS = GIB
"""For the windows of the other devices' ports, a MiB or two each."""

_LOW_MEMORY = 2 * GIB
"""At least so much of the guest's memory is below 4 GiB, if it has it (QEMU hw/i386/pc_q35.c)."""

_BASE = 4 * GIB

_QEMUS_DEFAULT = "QEMU's default, unless its machine type takes the node's"


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
        bars: Of the assigned functions; asked only for ``auto``.

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
        return _told(setting, space, always=True)
    needed = hole_for(plan, topology, bars)
    warnings = tuple(
        f"pciHole64: the BARs of {p.assignment.alias} are not counted: /sys does not show those of "
        "a mediated device; give a size if the guest does not map them"
        for p in plan.placements
        if p.assignment.host_address is None
    )
    there = space.hole_bytes or 0
    if needed <= _BY_ITSELF[topology.machine] and (not there or there >= needed):
        return None, warnings
    if needed > MAX_HOLE_BYTES:
        raise PlanError(
            "pciHole64",
            f"the devices need {print_size(needed)}, and OVMF takes {print_size(MAX_HOLE_BYTES)}",
            "attach fewer devices",
        )
    hole, more = _told(max(needed, there), space, always=needed > _OVMF_BY_ITSELF)
    return hole, (*warnings, *more)


def hole_for(plan: GuestPlan, topology: GuestTopology, bars: Bars) -> int:
    """How large a hole the planned devices need, in bytes; whole GiB, 0 without a 64-bit BAR.

    Raises:
        InputError: Nothing is known of the node.
        HostError: The node does not show a function's BARs.
    """
    controllers = topology.controllers_with(plan.controllers)
    above = {index: controller.address for index, controller in controllers.items()}
    blocks: defaultdict[int, list[_Block]] = defaultdict(list)
    for placement in plan.placements:
        address = placement.assignment.host_address
        if address is None:
            continue
        bus = placement.guest_address.bus if placement.guest_address is not None else 0
        blocks[bus] += [_Block(size, size) for size in _known(bars, address)]
    needed = sum(block.size for block in _blocks_on(0, _below(above), blocks))
    return round_up(needed + _FOR_OTHERS, GIB) if needed else 0


@dataclass(frozen=True, slots=True)
class _Block:
    """A BAR or a window: bytes, and what its address is a multiple of."""

    size: int
    step: int


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


def _below(above: Mapping[int, PciAddress | None]) -> Mapping[int, Sequence[int]]:
    """The buses whose bridge is on a bus; one that libvirt has yet to place is on the root's."""
    below: defaultdict[int, list[int]] = defaultdict(list)
    for index, address in above.items():
        if index:
            below[address.bus if address is not None else 0].append(index)
    return below


def _blocks_on(
    bus: int, below: Mapping[int, Sequence[int]], bars: Mapping[int, Sequence[_Block]]
) -> Iterator[_Block]:
    """The BARs on a bus, and the window of each bridge there that has something below it."""
    yield from bars.get(bus, ())
    others = {above: buses for above, buses in below.items() if above != bus}
    for other in below.get(bus, ()):
        inside = list(_blocks_on(other, others, bars))
        if inside:
            step = max(_WINDOW_STEP, *(block.step for block in inside))
            yield _Block(round_up(sum(block.size for block in inside), step), step)


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
            "it, or the guest does not map every BAR: give the CPU more (<maxphysaddr "
            "mode='passthrough'/>), the VM less memory, or pciHole64 a smaller size"
        )
    return Hole(size_bytes, tell), tuple(warnings)


def end_of_hole(size_bytes: int, space: AddressSpace) -> int:
    """The address at which a hole ends at the latest."""
    memory_end = _BASE + max(0, space.memory_bytes - _LOW_MEMORY)
    if space.hotplug_bytes:
        memory_end = round_up(memory_end, GIB) + space.hotplug_bytes
    largest_power = 1 << (size_bytes.bit_length() - 1)
    return round_up(memory_end, max(GIB, largest_power)) + size_bytes
