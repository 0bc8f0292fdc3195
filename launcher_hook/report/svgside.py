"""Draws one side of a picture: its zones, and the boxes in them with what is written there."""

from launcher_hook.report.canvas import Canvas, fit, text_width
from launcher_hook.report.layout import DETAIL, LABEL, PAD, Box, ZoneBox
from launcher_hook.report.picture import Leaf, Picture, Root
from launcher_hook.report.svgstyle import HUES, NO_HUE

MARGIN = 20.0
TOP = 58.0
"""Where the trees begin: from each edge, and from the top."""


class DrawnSide:
    """Draws the boxes of one side; of the guest from the right edge."""

    def __init__(self, canvas: Canvas, picture: Picture, width: float, mirrored: bool) -> None:
        self._canvas = canvas
        self._picture = picture
        self._width = width
        self._mirrored = mirrored

    def _x(self, x: float, width: float = 0) -> float:
        return self._width - MARGIN - x - width if self._mirrored else MARGIN + x

    def draw(self, box: Box) -> None:
        """Draw a box with what is written in it."""
        x, y = self._x(box.x, box.width), TOP + box.y
        if box.joint is not None:
            middle = y + box.height / 2
            self._canvas.path("M", self._x(box.joint), middle, "H", self._x(box.x), class_="joint")
        kind, title = self._kind(box)
        self._canvas.open(title)
        self._canvas.rect(x, y, box.width, box.height, rx="3", class_=kind)
        self._write(box, x + PAD, y + box.height / 2)
        self._canvas.close()

    def draw_zone(self, box: ZoneBox, width: float) -> None:
        """Draw what is behind the boxes of a zone."""
        zone, x, y = box.zone, self._x(0, width), TOP + box.y
        fill, line = NO_HUE if zone.hue is None else HUES[zone.hue % len(HUES)]
        self._canvas.rect(x, y, width, box.height, rx="6", fill=fill, stroke=line)
        label = fit(zone.label, width - 2 * PAD, LABEL)
        if self._mirrored:
            self._canvas.text(x + width - PAD, y + 15, label, class_="zone end")
        else:
            self._canvas.text(x + PAD, y + 15, label, class_="zone")

    def _kind(self, box: Box) -> tuple[str, str]:
        """The class of a box, and what a pointer on it shows."""
        content = box.content
        if content is None:
            return "group", f"IOMMU group {box.group}"
        if isinstance(content, Leaf):
            if content.device is not None:
                return "box", self._picture.devices[content.device].title
            group = f"IOMMU group {content.iommu_group}"
            return "other", f"{content.label} {content.detail}\nnot passed to the VM; in {group}"
        kind = "root" if isinstance(content, Root) else "bridge"
        return kind, f"{content.label} {content.detail}".strip()

    def _write(self, box: Box, x: float, middle: float) -> None:
        room = box.width - 2 * PAD
        content = box.content
        label, detail = "group", str(box.group)
        if content is not None:
            label, detail = content.label, content.detail
        if isinstance(content, Leaf) and content.device is not None and self._mirrored:
            changes = self._picture.changes(self._picture.devices[content.device].unit)
            if changes:
                mark = _mark(changes)
                room -= text_width(mark, LABEL) + PAD
                end = x - PAD + box.width - PAD
                self._canvas.text(end, middle + 4, mark, class_="mark")
        label = fit(label, room, LABEL)
        if not detail:
            self._canvas.text(x, middle + 4, label, class_="label")
            return
        self._canvas.text(x, middle - 2.5, label, class_="label")
        self._canvas.text(x, middle + 10, fit(detail, room, DETAIL), class_="detail")


def _mark(changes: int) -> str:
    return f"≠{changes}"


def mark_width(picture: Picture) -> float:
    """Room for the widest mark of a device whose distances are not all kept."""
    most = max(map(picture.changes, range(len(picture.units))), default=0)
    return text_width(_mark(most), LABEL) + PAD if most else 0
