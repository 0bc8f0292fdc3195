"""How firmware lays 64-bit BARs out: what the guest's bridges and ports take of a hole. Pure.

Every BAR stands at a multiple of its size, and a bridge's window at a multiple of the largest thing
in it; both firmwares lay out the largest first, from a base that is a multiple of the largest.

SeaBIOS makes a window a whole multiple of that too (src/fw/pciinit.c). edk2 rounds its length up to
1 MiB only (MdeModulePkg/Bus/Pci/PciBusDxe/PciResourceSupport.c, CalculateResourceAperture: the
bridge's own alignment, before it takes over that of what is in it). Since edk2-stable202211 OVMF
also keeps room for what may be plugged in later, in every port that has less in it: the 256th part
of a hole of more than 32 GiB, as a power of two (OvmfPkg/PciHotPlugInitDxe/PciHotPlugInit.c).

SeaBIOS has the bus behind an expander bus among the windows of bus 0. edk2 gives the root buses
what they need one after the other, bus 0 first (MdeModulePkg/Bus/Pci/PciHostBridgeDxe).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher_hook.model import GuestPlan, GuestTopology, Machine
from launcher_hook.pci import PciAddress
from launcher_hook.sizes import GIB, MIB, round_up

OVMFS_LEAST = 32 * GIB
"""The smallest hole of OVMF, unless it is told one; in a larger one it keeps room in each port."""

_PART_OF_A_PORT = 256

_WINDOW_STEP = MIB  # of a bridge (PCI-to-PCI Bridge Architecture 1.2, 3.2.5.9)

_PLUGGABLE = ("pcie-root-port", "pcie-switch-downstream-port", "pcie-to-pci-bridge", "pci-bridge")
"""Into which edk2 sees that something can be plugged (PciHotPlugSupport.c, IsPciHotPlugBus): a slot
that says so, or an SHPC. With hotplug='off' a port does not say so: that it counts is too much."""

_ROOTS = ("pcie-expander-bus", "pci-expander-bus")


@dataclass(frozen=True, slots=True)
class Windows:
    """The guest's bridges, and the 64-bit BARs behind them.

    Attributes:
        bars: Sizes in bytes, by the guest bus that they are on.
        below: The buses whose bridge is on a bus.
        roots: Those of them that are root buses too (expander buses), in the guest's order.
        ports: The buses into which something can be plugged.
    """

    bars: Mapping[int, Sequence[int]]
    below: Mapping[int, Sequence[int]]
    roots: tuple[int, ...]
    ports: frozenset[int]

    def bytes_taken(self, hole_bytes: int, *, is_uefi: bool) -> int:
        """How much of a hole of this size firmware takes; more than that if it is too small."""
        kept = 0
        if is_uefi and hole_bytes > OVMFS_LEAST:
            kept = 1 << (hole_bytes // _PART_OF_A_PORT - 1).bit_length()
        if not is_uefi:
            return _end(self._blocks_on(0, self.below, kept, is_uefi=False))
        below = {
            bus: [other for other in buses if other not in self.roots]
            for bus, buses in self.below.items()
        }
        end = 0
        for root in (0, *self.roots):
            blocks = list(self._blocks_on(root, below, kept, is_uefi=True))
            end = round_up(end, max((block.step for block in blocks), default=1)) + _end(blocks)
        return end

    def _blocks_on(
        self, bus: int, below: Mapping[int, Sequence[int]], kept: int, *, is_uefi: bool
    ) -> "Iterator[_Block]":
        """The BARs on a bus, and the window of each bridge there."""
        yield from (_Block(size, size) for size in self.bars.get(bus, ()))
        others = {above: buses for above, buses in below.items() if above != bus}
        for other in below.get(bus, ()):
            inside = list(self._blocks_on(other, others, kept, is_uefi=is_uefi))
            least = kept if other in self.ports else 0
            if inside or least:
                step = max(_WINDOW_STEP, least, *(block.step for block in inside))
                size = round_up(_end(inside), _WINDOW_STEP if is_uefi else step)
                yield _Block(max(size, least), step)


@dataclass(frozen=True, slots=True)
class _Block:
    """A BAR or a window: bytes, and what its address is a multiple of."""

    size: int
    step: int


def _end(blocks: "Iterator[_Block] | Sequence[_Block]") -> int:
    """Where the last ends; of those with the same step the fullest come last, which is the most."""
    end = 0
    for block in sorted(blocks, key=lambda b: (b.step, -b.size % b.step), reverse=True):
        end = round_up(end, block.step) + block.size
    return end


def windows_of(
    plan: GuestPlan, topology: GuestTopology, sizes: Mapping[PciAddress, Sequence[int]]
) -> Windows:
    """The bridges that the guest will have, with those that libvirt adds.

    Args:
        plan: Where the devices are.
        topology: The guest.
        sizes: Of the 64-bit BARs of host functions; of one that is not in it nothing is known.
    """
    controllers = topology.controllers_with(plan.controllers)
    above = {index: controller.address for index, controller in controllers.items() if index}
    ports = {index for index in above if controllers[index].model in _PLUGGABLE}
    if topology.machine is Machine.Q35:
        ports |= _added_by_libvirt(plan, topology, above, ports)
    below: defaultdict[int, list[int]] = defaultdict(list)
    for index in sorted({*above, *ports}):
        address = above.get(index)  # one that libvirt has yet to place is on the root's bus
        below[address.bus if address is not None else 0].append(index)
    bars: defaultdict[int, list[int]] = defaultdict(list)
    for placement in plan.placements:
        host, guest = placement.assignment.host_address, placement.guest_address
        if host is not None and not placement.assignment.is_unassigned:
            bars[guest.bus if guest is not None else 0] += sizes.get(host, ())
    numbers = {index: c.bus_nr or 0 for index, c in controllers.items() if c.model in _ROOTS}
    roots = sorted(numbers, key=lambda index: numbers[index])
    return Windows(bars, below, tuple(roots), frozenset(ports))


def _added_by_libvirt(
    plan: GuestPlan, topology: GuestTopology, above: Mapping[int, object], ports: set[int]
) -> set[int]:
    """A root port for every index that is left out, and for every device that finds none."""
    highest = max(above, default=0)
    added = set(range(1, highest)) - above.keys()
    used = {p.guest_address.bus for p in plan.placements if p.guest_address is not None}
    free = (ports | added) - used - {address.bus for address in topology.taken}
    without = max(0, topology.waiting - len(free))
    return added | set(range(highest + 1, highest + 1 + without))
