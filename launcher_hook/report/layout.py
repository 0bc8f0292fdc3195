"""Where on the page the boxes of a picture go. Pure.

Each side is drawn from its outer edge to the middle: zone, root complex, bridges by depth, then
the functions, all in one column, so that a device's two ends face each other. A box is as high as
all that is behind it: functions with a box in common share that bridge.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher_hook.report.canvas import text_width
from launcher_hook.report.picture import (
    Bridge,
    Leaf,
    Picture,
    Root,
    Side,
    Zone,
    leaves,
    side_leaves,
)

ROW = 32.0
"""Height of a function."""

LABEL = 11.0
DETAIL = 9.5
"""Sizes of the two lines in a box."""

PAD = 6.0
GAP = 6.0
"""Between a box and the next one, to the side."""

_SIBLING = 4.0
_ROOT_GAP = 10.0
_ZONE_GAP = 16.0
ZONE_HEAD = 22.0
ZONE_FOOT = 8.0

_WIDEST = {"root": 130.0, "bridge": 118.0, "leaf": 224.0}
_NARROWEST_LEAF = 120.0


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a side's columns begin, measured from its outer edge, and how wide they are.

    Attributes:
        bridges: By depth.
        group: Of the IOMMU groups; None where no function of this side has one.
        width: Of the whole side.
    """

    root: tuple[float, float]
    bridges: tuple[tuple[float, float], ...]
    leaf: tuple[float, float]
    group: tuple[float, float] | None
    width: float


def place_columns(side: Side, mark: float) -> Columns:
    """Make each column as wide as what is in it, within limits.

    Args:
        side: What is drawn.
        mark: Room for a mark at the end of each function.
    """
    roots = [root for zone in side.zones for root in zone.roots if root.label]
    by_depth: list[list[Bridge]] = []
    for root in (root for zone in side.zones for root in zone.roots):
        _collect(root.below, 0, by_depth)
    x = PAD
    root_column = (x, _width(roots, "root") if roots else 0)
    x += root_column[1] + (GAP if roots else 0)
    bridges = []
    for boxes in by_depth:
        bridges.append((x, _width(boxes, "bridge")))
        x += bridges[-1][1] + GAP
    found = list(side_leaves(side))
    leaf = (x, max(_NARROWEST_LEAF, _width(found, "leaf", mark) if found else 0))
    x += leaf[1]
    group = None
    if any(one.iommu_group is not None for one in found):
        digits = max(len(str(one.iommu_group)) for one in found if one.iommu_group is not None)
        group = (x + 3, text_width("0" * max(digits, len("group")), LABEL) + 2 * PAD)
        x += 3 + group[1]
    zone_label = max((text_width(zone.label, LABEL) for zone in side.zones), default=0)
    return Columns(root_column, tuple(bridges), leaf, group, max(x + PAD, zone_label + 2 * PAD))


def _collect(below: Sequence[Bridge | Leaf], depth: int, by_depth: list[list[Bridge]]) -> None:
    for one in below:
        if isinstance(one, Bridge):
            if depth == len(by_depth):
                by_depth.append([])
            by_depth[depth].append(one)
            _collect(one.below, depth + 1, by_depth)


def _width(boxes: Sequence[Bridge | Leaf | Root], kind: str, mark: float = 0) -> float:
    widest = max(max(text_width(box.label, LABEL), text_width(box.detail, DETAIL)) for box in boxes)
    return min(widest + 2 * PAD + mark, _WIDEST[kind])


def place_rows(picture: Picture) -> tuple[list[float], list[float], float]:
    """Where each leaf of the two sides begins, and where the lowest zone ends.

    Where both sides have the devices in the same order, each device's two ends are on one height.
    """
    host, guest = list(_steps(picture.host)), list(_steps(picture.guest))
    order = [leaf.device for _, leaf in host if leaf.device is not None]
    if order == [leaf.device for _, leaf in guest]:
        rows = _together(host, guest)
    else:
        rows = (_alone(host), _alone(guest))
    ends = [ys[-1] + ROW for ys in rows if ys]
    return (*rows, max(ends, default=0.0) + ZONE_FOOT)


def _steps(side: Side) -> Iterator[tuple[float, Leaf]]:
    """Each leaf, and how far its top is below the last one's top, or the side's."""
    last = 0.0
    for zone_number, zone in enumerate(side.zones):
        step = last + ZONE_HEAD + ((ZONE_FOOT + _ZONE_GAP) if zone_number else 0)
        for root_number, root in enumerate(zone.roots):
            if root_number:
                step = last + _ROOT_GAP
            for leaf in leaves(root.below):
                yield step, leaf
                last = ROW
                step = last + _SIBLING


def _alone(steps: Sequence[tuple[float, Leaf]]) -> list[float]:
    rows: list[float] = []
    y = 0.0
    for step, _ in steps:
        y += step
        rows.append(y)
    return rows


def _together(
    host: Sequence[tuple[float, Leaf]], guest: Sequence[tuple[float, Leaf]]
) -> tuple[list[float], list[float]]:
    left: list[float] = []
    right: list[float] = []
    y_left = y_right = 0.0
    waiting = iter(guest)
    for step, leaf in host:
        y_left += step
        if leaf.device is not None:
            y_right += next(waiting)[0]
            y_left = y_right = max(y_left, y_right)
            right.append(y_right)
        left.append(y_left)
    return left, right


@dataclass(frozen=True, slots=True)
class Box:
    """A box of a side, measured from the side's outer edge.

    Attributes:
        content: None for the box of an IOMMU group.
        joint: Where the line from the box before it begins; None for no line.
    """

    x: float
    y: float
    width: float
    height: float
    content: Root | Bridge | Leaf | None
    group: int | None = None
    joint: float | None = None


@dataclass(frozen=True, slots=True)
class ZoneBox:
    """The box around a zone, which is as wide as its side."""

    zone: Zone
    y: float
    height: float


def place_boxes(
    side: Side, rows: Sequence[float], columns: Columns
) -> tuple[list[ZoneBox], list[Box]]:
    """Every box of a side, what is around others earlier."""
    zones: list[ZoneBox] = []
    boxes: list[Box] = []
    next_row = iter(rows)
    for zone in side.zones:
        position = len(boxes)
        for root in zone.roots:
            start, width = columns.root
            if root.label:
                _place(root, (start, width), 0, None, next_row, columns, boxes)
            else:
                for leaf in root.below:
                    _place(leaf, columns.leaf, 0, None, next_row, columns, boxes)
        top = min(box.y for box in boxes[position:])
        bottom = max(box.y + box.height for box in boxes[position:])
        height = bottom - top + ZONE_HEAD + ZONE_FOOT
        zones.append(ZoneBox(zone, top - ZONE_HEAD, height))
    boxes.extend(_group_boxes(boxes, columns))
    return zones, boxes


def _place(
    content: Root | Bridge | Leaf,
    column: tuple[float, float],
    depth: int,
    joint: float | None,
    next_row: Iterator[float],
    columns: Columns,
    boxes: list[Box],
) -> tuple[float, float]:
    """Place a box around what is behind it; gives its top and bottom."""
    position = len(boxes)
    if isinstance(content, Leaf):
        top = next(next_row)
        bottom = top + ROW
    else:
        spans = []
        for one in content.below:
            behind = columns.leaf if isinstance(one, Leaf) else columns.bridges[depth]
            end = column[0] + column[1]
            spans.append(_place(one, behind, depth + 1, end, next_row, columns, boxes))
        top, bottom = spans[0][0], spans[-1][1]
    boxes.insert(position, Box(column[0], top, column[1], bottom - top, content, None, joint))
    return top, bottom


def _group_boxes(boxes: Sequence[Box], columns: Columns) -> Iterator[Box]:
    """A box for each IOMMU group, beside its functions; more where others are between them."""
    if columns.group is None:
        return
    x, width = columns.group
    run: list[Box] = []
    found = [box for box in boxes if isinstance(box.content, Leaf)]
    for box in found:
        assert isinstance(box.content, Leaf)
        if run and _group_of(run[-1]) != box.content.iommu_group:
            yield from _group_box(run, x, width)
            run = []
        run.append(box)
    yield from _group_box(run, x, width)


def _group_of(box: Box) -> int | None:
    return box.content.iommu_group if isinstance(box.content, Leaf) else None


def _group_box(run: Sequence[Box], x: float, width: float) -> Iterator[Box]:
    if run and _group_of(run[0]) is not None:
        top = run[0].y
        yield Box(x, top, width, run[-1].y + ROW - top, None, _group_of(run[0]))


def device_rows(side: Side, rows: Sequence[float]) -> Mapping[int, float]:
    """The middle of each device's row."""
    return {
        leaf.device: y + ROW / 2
        for leaf, y in zip(side_leaves(side), rows, strict=True)
        if leaf.device is not None
    }
