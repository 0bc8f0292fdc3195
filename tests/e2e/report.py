"""What the cases showed, beside what they must show: lines while it runs, a table, a file."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from e2e.cases import CASES, SUITES, Case, choose_cases, judge


class Report:
    """Judges each result as it comes.

    Args:
        only: Cases whose name has this text count.
        expect: Other expectations, by name of the case and key.
        versions: Of what level 1 is made of.
        suite: Of level 1: the cases of others do not count.
        extra: Whether the cases that are too long for CI count.
    """

    def __init__(
        self,
        only: str = "",
        expect: Mapping[tuple[str, str], str] | None = None,
        versions: str = "",
        suite: str = SUITES[0],
        extra: bool = False,
    ) -> None:
        self._cases = choose_cases(suite, only, extra)
        self._expect = dict(expect or {})
        self._observed: dict[str, dict[str, str]] = {}
        self._took: dict[str, float] = {}
        self._versions = versions.replace("\n", ", ")
        self.seconds = 0.0

    def add(self, event: Mapping[str, Any]) -> str:
        """Take an event; a line of progress, or "" where there is nothing to say."""
        kind = event["kind"]
        if kind == "result":
            name = event["case"]
            self._observed[name] = event["observed"]
            self._took[name] = event["seconds"]
            (case,) = (case for case in CASES if case.name == name)
            faults = self.faults(case)
            return f"{'WRONG' if faults else 'ok':5}  {name}  ({event['seconds']} s)"
        if kind == "begin":
            return f"...    {event['case']}"
        return f"       {event['text']}" if kind == "step" else ""

    def faults(self, case: Case) -> list[str]:
        """What is not as expected in a case; nothing observed is not as expected either."""
        if case.name not in self._observed:
            return ["it did not run"]
        expect = {**case.expect}
        for (name, key), value in self._expect.items():
            if name == case.name:
                expect[key] = value
        return judge(expect, self._observed[case.name])

    @property
    def all_as_expected(self) -> bool:
        """Whether every case ran and showed what it must."""
        return bool(self._cases) and not any(self.faults(case) for case in self._cases)

    def table(self) -> str:
        """For a terminal: a line a case, and what is wrong below it."""
        width = max((len(case.name) for case in self._cases), default=0)
        lines = [f"{'':5}  {'case':{width}}  seconds  shown"]
        for case in self._cases:
            faults = self.faults(case)
            took = f"{self._took.get(case.name, 0):7.1f}"
            shown = textwrap.shorten(
                _shown(self._observed.get(case.name, {})), 70, placeholder=" ..."
            )
            mark = "WRONG" if faults else "ok"
            lines.append(f"{mark:5}  {case.name:{width}}  {took}  {shown}")
            lines += [f"{'':7}{fault}" for fault in faults]
        good = sum(not self.faults(case) for case in self._cases)
        lines.append(f"{good} of {len(self._cases)} as expected, {self.seconds:.0f} s")
        return "\n".join(lines)

    def markdown(self) -> str:
        """For build/e2e/report.md and the README."""
        lines = [
            f"{date.today().isoformat()}; {self._versions}; {self.seconds:.0f} s in all.",
            "",
            "| case | shown | as expected | s |",
            "|---|---|---|---|",
        ]
        for case in self._cases:
            faults = self.faults(case)
            verdict = "yes" if not faults else "**no**: " + "; ".join(faults)
            shown = _shown(self._observed.get(case.name, {}), "<br>")
            cells = (case.name, shown, verdict, f"{self._took.get(case.name, 0):.1f}")
            lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
        return "\n".join(lines) + "\n"


def _shown(observed: Mapping[str, str], separator: str = ", ") -> str:
    return separator.join(f"{key}: {value}" for key, value in observed.items())


def read_events(file: Path) -> Iterator[dict[str, Any]]:
    """The events of a run that is over."""
    for line in file.read_text().splitlines():
        yield json.loads(line)
