"""A plan as text: the node's PCI tree and the guest's, as ``lspci -tv`` draws them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from launcher_hook.model import GuestController, Placement, PlannedController
from launcher_hook.pci import PciAddress
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.facts import describe_hole, describe_placement
from launcher_hook.report.hostside import host_zones
from launcher_hook.report.picture import Bridge, Leaf, Root

_BETWEEN = "   "


def print_tree(decision: Decision, names: PciNames, columns: int) -> str:
    """The node's tree beside the guest's, or above it where that is too wide.

    Of the node: what is around our devices. Of the guest: our devices, and others with an address;
    bus numbers are libvirt's controller indexes: the guest's firmware numbers its buses itself.

    Args:
        decision: The plan.
        names: Of devices.
        columns: How wide a line may be.
    """
    if not decision.plan.placements:
        return "no devices\n" + describe_hole(decision)
    return _print_trees(decision, names, columns) + describe_hole(decision)


def _print_trees(decision: Decision, names: PciNames, columns: int) -> str:
    if not decision.facts.known:
        alone = _guest_lines(decision, names, with_details=True)
        return "\n".join((*alone, "Nothing is known of the node: give its /sys with --sysfs.", ""))
    node = ["node:", *_host_lines(decision, names)]
    # What they are stands on the node's side then.
    guest = ["guest:", *_guest_lines(decision, names, with_details=False)]
    width = max(map(len, node))
    if width + len(_BETWEEN) + max(map(len, guest)) <= columns:
        height = max(len(node), len(guest))
        left = node + [""] * (height - len(node))
        right = guest + [""] * (height - len(guest))
        lines = (
            f"{one.ljust(width)}{_BETWEEN}{other}" for one, other in zip(left, right, strict=True)
        )
        return "".join(f"{line.rstrip()}\n" for line in lines)
    guest = ["guest:", *_guest_lines(decision, names, with_details=True)]
    return "\n".join((*node, "", *guest, ""))


def _host_lines(decision: Decision, names: PciNames) -> Iterator[str]:
    for zone in host_zones(decision, names):
        yield f"{zone.label}:"
        for root in zone.roots:
            if root.label:
                yield from _draw(f"-[{root.label.removeprefix('pci')}]-", _host_branches(root))
            else:
                yield from (one.label for one in root.below)


def _host_branches(above: Root | Bridge) -> list[list[str]]:
    branches = []
    for one in above.below:
        head = "" if one.address is None else f"{one.address.slot:02x}.{one.address.function}"
        if isinstance(one, Bridge):
            inner = next((below.address for below in one.below if below.address), None)
            # The bus behind a bridge is what stands there; behind a function there is none.
            bus = f"-[{inner.bus:02x}]-" if inner and inner != one.address else "-"
            branches.append(list(_draw(head + bus, _host_branches(one))))
        else:
            branches.append([_host_text(head, one)])
    return branches


def _host_text(head: str, leaf: Leaf) -> str:
    if leaf.detail == "mediated device":
        return f"{leaf.label}  {leaf.detail}"
    parts = [head, leaf.detail]
    if leaf.iommu_group is not None:
        parts.append(f"group {leaf.iommu_group}")
    if leaf.device is None:
        parts.append("(not for this VM)")
    return "  ".join(filter(None, parts))


def _guest_lines(decision: Decision, names: PciNames, *, with_details: bool) -> Iterator[str]:
    topology = decision.topology
    texts = dict(topology.taken)
    controllers = topology.controllers_with(decision.plan.controllers).values()
    buses = {c.address: (c.index, _bus_name(c)) for c in controllers if c.address is not None}
    texts |= dict.fromkeys(buses, "")
    for placement in decision.plan.placements:
        if placement.guest_address is not None:
            texts[placement.guest_address] = _text(placement, decision, names, with_details)
    below: dict[int, list[PciAddress]] = defaultdict(list)
    for address in sorted(texts):
        below[address.bus].append(address)
    branches = list(_branches(0, below, texts, buses))
    # Behind a port that libvirt has yet to add or to place.
    for bus in sorted(set(below)):
        branches.extend(_behind(f"??.?-[{bus:02x}]-", bus, below, texts, buses))
    yield from _draw(f"-[0000:00 {topology.machine_type}]-", branches)
    for placement in decision.plan.placements:
        if placement.guest_address is None:
            yield f"  {placement.guest_place}: {_text(placement, decision, names, with_details)}"


def _text(placement: Placement, decision: Decision, names: PciNames, with_details: bool) -> str:
    return describe_placement(placement, decision, names if with_details else None)


def _bus_name(controller: GuestController | PlannedController) -> str:
    cell = "" if controller.node is None else f" cell {controller.node}"
    return f"{controller.index:02x}{cell}"


def _branches(
    bus: int,
    below: dict[int, list[PciAddress]],
    texts: Mapping[PciAddress, str],
    buses: Mapping[PciAddress, tuple[int, str]],
) -> Iterator[list[str]]:
    """What sits on a bus, a list of lines each; a bus is drawn once."""
    for address in below.pop(bus, ()):
        head = f"{address.slot:02x}.{address.function}"
        index, name = buses.get(address, (None, ""))
        if index is None:
            yield [f"{head}  {texts[address]}"]
        elif index not in below:
            yield [f"{head}-[{name}]--"]
        else:
            yield from _behind(f"{head}-[{name}]-", index, below, texts, buses)


def _behind(
    head: str,
    bus: int,
    below: dict[int, list[PciAddress]],
    texts: Mapping[PciAddress, str],
    buses: Mapping[PciAddress, tuple[int, str]],
) -> Iterator[list[str]]:
    inner = list(_branches(bus, below, texts, buses))
    if inner:
        yield list(_draw(head, inner))


def _draw(head: str, branches: Sequence[Sequence[str]]) -> Iterator[str]:
    """Draw branches to the right of a head, as lspci does: ``-+-``, `` +-``, `` \\-``."""
    pad = " " * len(head)
    for position, branch in enumerate(branches):
        last = position == len(branches) - 1
        if len(branches) == 1:
            joint, below = "--", "  "
        elif position == 0:
            joint, below = "+-", "| "
        else:
            joint, below = ("\\-", "  ") if last else ("+-", "| ")
        yield (head if position == 0 else pad) + joint + branch[0]
        for line in branch[1:]:
            yield pad + below + line
