"""The distances between every two devices as coloured squares, of the node and of the guest."""

from collections.abc import Sequence
from itertools import groupby

from launcher_hook.distance import Distance
from launcher_hook.report.canvas import Canvas, fit, text_width
from launcher_hook.report.picture import Picture

MEANINGS: dict[Distance, str] = {
    "PIX": "one switch or slot",
    "PXB": "several switches",
    "PHB": "one root complex",
    "NODE": "one NUMA node",
    "SYS": "different NUMA nodes",
}

# Background and text: from near to far.
_COLOURS: dict[Distance | None, tuple[str, str]] = {
    "X": ("#e4e7ec", "#5b6472"),
    "PIX": ("#1b7f4d", "#ffffff"),
    "PXB": ("#7cc389", "#10301b"),
    "PHB": ("#f4dd7a", "#40330a"),
    "NODE": ("#f0a95b", "#43260a"),
    "SYS": ("#d4605a", "#ffffff"),
    None: ("#f7f7f7", "#5b6472"),
}


def _kind(distance: Distance | None) -> str:
    return "unknown" if distance is None else distance.lower()


STYLE = "".join(
    f".{_kind(distance)}{{fill:{fill}}}.on-{_kind(distance)}{{fill:{ink}}}"
    for distance, (fill, ink) in _COLOURS.items()
)
"""Rules for the classes of the squares, and of what is written on them."""

_LABEL = 10.5
_HEAD = 18.0
_CELL = 30.0
_WORDS_FROM = 25.0
_SMALLEST = 6.0
_LONGEST_LABEL = 150.0


class Heatmaps:
    """Both matrices, as wide as they may be."""

    def __init__(self, picture: Picture, most_width: float) -> None:
        self._picture = picture
        count = len(picture.units)
        labels = [text_width(self._label(n), _LABEL) for n in range(count)]
        self._label_width = min(max(labels, default=0), _LONGEST_LABEL) + 8
        cell = (most_width - self._label_width) / max(count, 1)
        self._cell = max(_SMALLEST, min(_CELL, int(cell)))
        self._cell_height = 22.0 if self._cell >= _WORDS_FROM else max(self._cell, _SMALLEST)
        self.width = self._label_width + self._cell * count
        self.height = _HEAD + self._cell_height * count

    def _label(self, unit: int) -> str:
        return f"{unit + 1} {self._picture.units[unit].name}"

    def draw(self, canvas: Canvas, x: float, y: float, *, of_guest: bool) -> None:
        """Draw one of the two."""
        rows = self._picture.guest_distances if of_guest else self._picture.host_distances
        x += self._label_width
        y += _HEAD
        self._draw_labels(canvas, x, y)
        for row, distances in enumerate(rows):
            self._draw_row(canvas, x, y + row * self._cell_height, distances)
        self._draw_grid(canvas, x, y)
        if self._cell >= _WORDS_FROM:
            for row, distances in enumerate(rows):
                self._write_row(canvas, x, y + (row + 0.5) * self._cell_height + 3.2, distances)
        if of_guest:
            self._mark_changes(canvas, x, y)

    def _draw_row(
        self, canvas: Canvas, x: float, y: float, distances: Sequence[Distance | None]
    ) -> None:
        """One rectangle for neighbours that are alike: 64 devices have 4,096 squares."""
        for distance, alike in groupby(distances):
            width = self._cell * sum(1 for _ in alike)
            canvas.rect(x, y, width, self._cell_height, class_=_kind(distance))
            x += width

    def _draw_grid(self, canvas: Canvas, x: float, y: float) -> None:
        count = len(self._picture.units)
        steps: list[str | float] = []
        for line in range(1, count):
            steps += ["M", x, y + line * self._cell_height, "h", count * self._cell]
            steps += ["M", x + line * self._cell, y, "v", count * self._cell_height]
        canvas.path(*steps, class_="grid")

    def _write_row(
        self, canvas: Canvas, x: float, base: float, distances: Sequence[Distance | None]
    ) -> None:
        for column, distance in enumerate(distances):
            middle = x + (column + 0.5) * self._cell
            canvas.text(middle, base, distance or "?", class_=f"word on-{_kind(distance)}")

    def _draw_labels(self, canvas: Canvas, x: float, y: float) -> None:
        count = len(self._picture.units)
        size = min(_LABEL, self._cell_height)
        every = 1 if self._cell >= 16 else 4
        for unit in range(count):
            base = y + (unit + 0.5) * self._cell_height + size * 0.35
            label = fit(self._label(unit), self._label_width - 8, size)
            canvas.text(x - 6, base, label, class_="end", font_size=f"{size:g}")
            if unit % every == 0:
                middle = x + (unit + 0.5) * self._cell
                canvas.text(middle, y - 5, str(unit + 1), class_="word")

    def _mark_changes(self, canvas: Canvas, x: float, y: float) -> None:
        corner = min(8.0, self._cell / 2, self._cell_height / 2)
        for row in range(len(self._picture.units)):
            for column in range(len(self._picture.units)):
                if self._picture.changed(row, column):
                    right = x + (column + 1) * self._cell
                    top = y + row * self._cell_height
                    canvas.path(
                        "M", right, top, "h", -corner, "L", right, top + corner, "z",
                        class_="changed",
                    )  # fmt: skip
