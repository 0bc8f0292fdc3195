"""Tables of results: on the terminal and in build/conformance/*.md."""

from collections.abc import Iterable, Sequence
from pathlib import Path

REPORTS = Path(__file__).resolve().parents[2] / "build" / "conformance"


def write_table(
    name: str, title: str, head: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    """Write one report; give its text.

    Args:
        name: The file's, without its ending.
        title: One line above the table.
    """
    lines = [f"# {title}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    REPORTS.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines)
    (REPORTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    return text


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"
