"""From where each function is, one by one, to a side of the picture: boxes in boxes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from launcher_hook.pci import PciAddress
from launcher_hook.report.picture import Bridge, Leaf, Root, Zone


class Step(NamedTuple):
    """A box on the way down: where it stands among its neighbours, its two lines, what it is."""

    order: tuple[int, ...]
    label: str
    detail: str = ""
    address: PciAddress | None = None


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a leaf is: its zone, its root complex, the bridges above it from the root down."""

    zone: Step
    root: Step
    bridges: tuple[Step, ...]
    order: tuple[int, ...]
    leaf: Leaf


def nest_zones(spots: Iterable[Spot]) -> tuple[Zone, ...]:
    """Put what is in one zone, root complex and bridge into one box each, everything in order."""
    by_zone: dict[Step, dict[Step, list[Spot]]] = {}
    for spot in spots:
        by_zone.setdefault(spot.zone, {}).setdefault(spot.root, []).append(spot)
    return tuple(
        Zone(
            zone.label,
            None,
            tuple(
                Root(root.label, root.detail, _nest(within, 0))
                for root, within in sorted(roots.items())
            ),
        )
        for zone, roots in sorted(by_zone.items())
    )


def _nest(spots: Sequence[Spot], depth: int) -> tuple[Bridge | Leaf, ...]:
    branches: list[tuple[tuple[int, ...], Bridge | Leaf]] = []
    behind: dict[Step, list[Spot]] = {}
    for spot in spots:
        if depth < len(spot.bridges):
            behind.setdefault(spot.bridges[depth], []).append(spot)
        else:
            branches.append((spot.order, spot.leaf))
    for step, within in behind.items():
        bridge = Bridge(step.label, step.detail, step.address, _nest(within, depth + 1))
        branches.append((step.order, bridge))
    # Stable: leaves of one order (mediated devices of a function) stay as they came.
    branches.sort(key=lambda branch: branch[0])
    return tuple(branch for _, branch in branches)


def print_address(source: PciAddress | str, short: bool) -> str:
    """An address, as short as lspci's where every PCI domain is 0."""
    text = str(source)
    return text.removeprefix("0000:") if short and isinstance(source, PciAddress) else text


def order_of(address: PciAddress) -> tuple[int, ...]:
    """Where an address stands among others."""
    return (address.domain, address.bus, address.slot, address.function)
