"""What a picture of a plan shows: the node's PCI tree, the guest's, and how far devices are apart.

Pure, and the same for every drawing: boxes in boxes, and which of the two sides' leaves are one
device. A side has zones (NUMA nodes, or cells), a zone has root complexes, and below those are
bridges and functions. Only what carries a device of the VM is in it, and on the node what shares
an IOMMU group with one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher_hook.distance import Distance
from launcher_hook.pci import PciAddress


@dataclass(frozen=True, slots=True)
class Leaf:
    """A function at the end of a tree.

    Attributes:
        device: Which of the picture's devices it is; None for one that the VM does not get.
        label: Its address on the node; in the guest its name.
        detail: What it is; in the guest its address.
        address: Of the function; of a mediated device that of the function it is a part of.
        iommu_group: On the node, where that is known.
    """

    device: int | None
    label: str
    detail: str
    address: PciAddress | None = None
    iommu_group: int | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge, and what is behind it."""

    label: str
    detail: str
    address: PciAddress | None
    below: "tuple[Bridge | Leaf, ...]"


@dataclass(frozen=True, slots=True)
class Root:
    """A root complex: a host bridge, an expander bus. No label: nothing is known of where it is."""

    label: str
    detail: str
    below: tuple[Bridge | Leaf, ...]


@dataclass(frozen=True, slots=True)
class Zone:
    """A NUMA node of the host, or a cell of the guest.

    Attributes:
        hue: Zones of the same hue are the same memory; None where that cannot be said.
    """

    label: str
    hue: int | None
    roots: tuple[Root, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """The node, or the guest."""

    title: str
    zones: tuple[Zone, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the VM.

    Attributes:
        title: Everything that is to be said of it, a line each.
        unit: Which row of the matrices it is in.
    """

    title: str
    unit: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Devices that share a slot on the node and in the guest, and so every distance to others."""

    name: str
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan, as it is drawn.

    Attributes:
        host_distances: Of each pair of units; None is "not known".
        guest_distances: As those of the host.
    """

    host: Side
    guest: Side
    devices: tuple[Device, ...]
    units: tuple[Unit, ...]
    host_distances: Sequence[Sequence[Distance | None]]
    guest_distances: Sequence[Sequence[Distance | None]]
    warnings: tuple[str, ...]

    def changed(self, one: int, other: int) -> bool:
        """Whether two units are another distance apart in the guest than on the node."""
        there, here = self.host_distances[one][other], self.guest_distances[one][other]
        return there is not None and here is not None and there != here

    def changes(self, unit: int) -> int:
        """To how many other units a unit has another distance than on the node."""
        return sum(self.changed(unit, other) for other in range(len(self.units)))


def leaves(below: Sequence[Bridge | Leaf]) -> Iterator[Leaf]:
    """Every leaf, from the first to the last."""
    for one in below:
        if isinstance(one, Leaf):
            yield one
        else:
            yield from leaves(one.below)


def side_leaves(side: Side) -> Iterator[Leaf]:
    """Every leaf of a side, from the top to the bottom."""
    for zone in side.zones:
        for root in zone.roots:
            yield from leaves(root.below)
