"""Writes SVG: texts that fit their boxes, escaped, with nothing in it that is not drawn.

No library: a picture is a few kinds of element, and the node's and the VM's names go into text
nodes only. Widths are those of a monospaced font, which every viewer has one of: six tenths of
the size a character, a little less in some.
"""

import unicodedata
from xml.sax.saxutils import escape

from launcher_hook.errors import one_line

CHARACTER = 0.61
"""Width of a character, as a part of the font's size (DejaVu Sans Mono has 0.602)."""


def text_width(text: str, size: float) -> float:
    """How wide a text is at the most."""
    return sum(_cells(c) for c in text) * CHARACTER * size


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: float, size: float) -> str:
    """As much of a text as fits, with an ellipsis where that is not all of it."""
    text = one_line(text)
    room = int(width / (CHARACTER * size) + 0.001)
    if sum(map(_cells, text)) <= room:
        return text
    kept = ""
    left = room - 1
    for character in text:
        left -= _cells(character)
        if left < 0:
            break
        kept += character
    return kept.rstrip() + "…"


def number(value: float) -> str:
    """A coordinate, as short as it goes."""
    return f"{value:.1f}".removesuffix(".0")


class Canvas:
    """Collects elements, one a line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 1

    def open(self, title: str = "", **attributes: str) -> None:
        """Begin a group; its title is what a pointer on it shows."""
        self._add(f"<g{_attributes(attributes)}>")
        self._depth += 1
        if title:
            self._add(f"<title>{_text(title)}</title>")

    def close(self) -> None:
        """End the last group."""
        self._depth -= 1
        self._add("</g>")

    def rect(self, x: float, y: float, width: float, height: float, **attributes: str) -> None:
        """A rectangle."""
        box = {"x": x, "y": y, "width": width, "height": height}
        self._add(f"<rect{_numbers(box)}{_attributes(attributes)}/>")

    def circle(self, x: float, y: float, radius: float, **attributes: str) -> None:
        """A circle."""
        self._add(f"<circle{_numbers({'cx': x, 'cy': y, 'r': radius})}{_attributes(attributes)}/>")

    def path(self, *steps: str | float, **attributes: str) -> None:
        """A path: letters and numbers."""
        data = " ".join(step if isinstance(step, str) else number(step) for step in steps)
        self._add(f'<path d="{data}"{_attributes(attributes)}/>')

    def text(self, x: float, y: float, text: str, **attributes: str) -> None:
        """A text, on its base line."""
        self._add(
            f"<text{_numbers({'x': x, 'y': y})}{_attributes(attributes)}>{_text(text)}</text>"
        )

    def print(self, width: float, height: float, title: str, description: str, style: str) -> str:
        """The whole document."""
        size = f'width="{number(width)}" height="{number(height)}"'
        view = f'viewBox="0 0 {number(width)} {number(height)}"'
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img" '
            'aria-labelledby="title description">',
            f'  <title id="title">{_text(title)}</title>',
            f'  <desc id="description">{_text(description)}</desc>',
            f"  <style>{style}</style>",
            '  <rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
        ]
        return "\n".join([*head, *self._lines, "</svg>"]) + "\n"

    def _add(self, line: str) -> None:
        self._lines.append("  " * self._depth + line)


def _text(text: str) -> str:
    """Escaped twice: what no line, terminal or XML may have, and what is markup."""
    return escape("\n".join(one_line(line) for line in text.split("\n")))


def _numbers(values: dict[str, float]) -> str:
    return "".join(f' {name}="{number(value)}"' for name, value in values.items())


def _attributes(values: dict[str, str]) -> str:
    """Ours only: class names and colours."""
    return "".join(f' {name.rstrip("_").replace("_", "-")}="{v}"' for name, v in values.items())
