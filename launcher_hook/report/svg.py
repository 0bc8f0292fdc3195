"""A plan as one picture, SVG: the node's tree, the guest's facing it, and the distances below."""

from collections.abc import Sequence
from math import ceil

from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.canvas import Canvas, fit, text_width
from launcher_hook.report.compose import make_picture
from launcher_hook.report.heatmap import MEANINGS, Heatmaps
from launcher_hook.report.layout import (
    Columns,
    device_rows,
    place_boxes,
    place_columns,
    place_rows,
)
from launcher_hook.report.picture import Picture
from launcher_hook.report.svgside import MARGIN, TOP, DrawnSide, mark_width
from launcher_hook.report.svgstyle import HEAD, NOTE, STYLE
from launcher_hook.report.words import NO_DEVICES, describe, verdict

_MIDDLE = 104.0
_BADGE = 9.0
_NARROWEST = 560.0
_BETWEEN = 40.0
_WIDTH_FOR_WORDS = 1400.0
_MOST_WARNINGS = 8


def print_svg(decision: Decision, names: PciNames) -> str:
    """Draw a plan."""
    return draw_picture(make_picture(decision, names))


def draw_picture(picture: Picture) -> str:
    """Draw a picture."""
    left, right = place_columns(picture.host, 0), place_columns(picture.guest, mark_width(picture))
    host_rows, guest_rows, height = place_rows(picture)
    width = max(ceil(2 * MARGIN + left.width + _MIDDLE + right.width), _NARROWEST)
    heatmaps = None
    if len(picture.units) > 1:
        most = max(width, _WIDTH_FOR_WORDS)
        heatmaps = Heatmaps(picture, (most - 2 * MARGIN - _BETWEEN) / 2)
        width = max(width, ceil(2 * heatmaps.width + 2 * MARGIN + _BETWEEN))
    canvas = Canvas()
    bottom = TOP + height
    if picture.devices:
        canvas.text(MARGIN, 36, picture.host.title, class_="head")
        guest_title = fit(picture.guest.title, right.width, HEAD)
        canvas.text(width - MARGIN - right.width, 36, guest_title, class_="head")
        for side, rows, columns, mirrored in (
            (picture.host, host_rows, left, False),
            (picture.guest, guest_rows, right, True),
        ):
            page = DrawnSide(canvas, picture, width, mirrored)
            zones, boxes = place_boxes(side, rows, columns)
            for zone in zones:
                page.draw_zone(zone, columns.width)
            for box in boxes:
                page.draw(box)
        ends = (MARGIN + _link_end(left), width - MARGIN - _link_end(right))
        _draw_links(canvas, picture, host_rows, guest_rows, ends)
    else:
        canvas.text(MARGIN, 36, NO_DEVICES, class_="head")
    if heatmaps is not None:
        start = width - MARGIN - max(heatmaps.width, right.width)
        bottom = _draw_heatmaps(canvas, picture, heatmaps, width, (start, bottom + 34))
    bottom = _draw_warnings(canvas, picture, width, bottom)
    title = f"PCI devices of a node and of a guest: {len(picture.devices)}"
    page_height = bottom + MARGIN
    return canvas.print(width, page_height, title, describe(picture), STYLE)


def _link_end(columns: Columns) -> float:
    """Where, from a side's outer edge, its links begin."""
    last = columns.group or columns.leaf
    return last[0] + last[1]


def _draw_links(
    canvas: Canvas,
    picture: Picture,
    host_rows: Sequence[float],
    guest_rows: Sequence[float],
    ends: tuple[float, float],
) -> None:
    """A dashed line from each function of the node to the one in the guest that it is."""
    there = device_rows(picture.host, host_rows)
    here = device_rows(picture.guest, guest_rows)
    left, right = ends
    middle = (left + right) / 2
    for number in sorted(there):
        start, end = TOP + there[number], TOP + here[number]
        device = picture.devices[number]
        badges = [(left + 16, start), (right - 16, end)]
        if start == end:
            badges = [(middle, start)]
            steps: tuple[str | float, ...] = ("M", left, start, "H", right)
        else:
            steps = ("M", left, start, "H", left + 16, "C", middle, start, middle, end,
                     right - 16, end, "H", right)  # fmt: skip
        canvas.open(device.title)
        canvas.path(*steps, class_="link")
        if len(picture.units) > 1:
            for x, y in badges:
                canvas.circle(x, y, _BADGE, class_="badge")
                canvas.text(x, y + 3.4, str(device.unit + 1), class_="in")
        canvas.close()


def _draw_heatmaps(
    canvas: Canvas,
    picture: Picture,
    heatmaps: Heatmaps,
    width: float,
    start: tuple[float, float],
) -> float:
    """Draw both matrices, the guest's at ``start``, and what they mean; gives where that ends."""
    right, top = start
    canvas.text(MARGIN, top, "Distances on the node", class_="head")
    canvas.text(right, top, "Distances in the guest", class_="head")
    top += 8
    heatmaps.draw(canvas, MARGIN, top, of_guest=False)
    heatmaps.draw(canvas, right, top, of_guest=True)
    y = top + heatmaps.height + 24
    text = verdict(picture)
    if any(picture.changes(unit) for unit in range(len(picture.units))):
        text += " Black corners show which; ≠ counts them."
    canvas.text(MARGIN, y, fit(text, width - 2 * MARGIN, NOTE), class_="note")
    y += 10
    x = MARGIN
    for distance, meaning in MEANINGS.items():
        length = text_width(meaning, NOTE)
        if x + 36 + length > width - MARGIN:
            x, y = MARGIN, y + 20
        canvas.rect(x, y, 30, 15, class_=distance.lower())
        canvas.text(x + 15, y + 10.6, distance, class_=f"word on-{distance.lower()}")
        canvas.text(x + 36, y + 11, meaning, class_="note")
        x += 36 + length + 18
    return y + 15


def _draw_warnings(canvas: Canvas, picture: Picture, width: float, y: float) -> float:
    """What could not be had; the first few, shortened."""
    if not picture.warnings:
        return y
    shown = list(picture.warnings[:_MOST_WARNINGS])
    if len(shown) < len(picture.warnings):
        shown.append(f"and {len(picture.warnings) - len(shown)} more")
    y += 14
    for warning in shown:
        y += 16
        canvas.open(warning)
        canvas.text(MARGIN, y, fit(f"! {warning}", width - 2 * MARGIN, NOTE), class_="note")
        canvas.close()
    return y
