"""The table of faults: a line for each that was withstood, printed at the end and kept in build."""

from collections.abc import Callable
from pathlib import Path

import pytest

REPORT = Path(__file__).parents[2] / "build" / "faults" / "report.md"

_ROWS: list[tuple[str, str, str, str]] = []

Note = Callable[[str, str, str, str], None]


@pytest.fixture
def withstood() -> Note:
    """Note who was hit, at which step, by what, and what came of it; at the end of a test."""
    return lambda *row: _ROWS.append(row)


def _table() -> list[str]:
    lines = ["| who | step | fault | what came of it |", "|---|---|---|---|"]
    return lines + [f"| {' | '.join(row)} |" for row in _ROWS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _ROWS:
        return
    terminalreporter.section("faults withstood")
    for line in _table():
        terminalreporter.write_line(line)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(["# Faults", "", *_table()]) + "\n")
