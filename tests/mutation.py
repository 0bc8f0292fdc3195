"""Mutation testing (`make mutate`): which changes of the deciding modules does no test notice?

mutmut changes one thing at a time in a copy of each module of ``[tool.mutmut]``'s ``only_mutate``
and runs the tests that reach it. What survives is either something that a test should say, or
stands in tests/mutation.md with the reason. Prints and writes build/mutation/report.md. Exit status
1: a module is below its floor.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutmut.stats import status_by_exit_code

REPOSITORY = Path(__file__).parent.parent
OUT = REPOSITORY / "build" / "mutation"
WORK = OUT / "work"
"""Where mutmut runs: it writes beside the code, and its tests must not find the code itself."""

FLOOR = 85
"""Percent of each module's mutants that must be noticed."""


@dataclass(frozen=True)
class Result:
    """One module's mutants: how many ended in which way, and the names of those that survived."""

    module: str
    endings: Counter[str]
    survivors: tuple[str, ...]

    @property
    def mutants(self) -> int:
        return self.endings.total()

    @property
    def percent(self) -> float:
        noticed = self.endings["killed"] + self.endings["timeout"] + self.endings["segfault"]
        return 100 * noticed / self.mutants


def lay_work_folder() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for name in ("launcher_hook", "tests", "pyproject.toml"):
        (WORK / name).symlink_to(REPOSITORY / name)


def run_mutmut(*arguments: str) -> str:
    """Run it where its files are; what it prints, for the commands that answer something."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    quiet = arguments[0] != "run"
    done = subprocess.run(
        command, cwd=WORK, check=not quiet, text=True, stdout=subprocess.PIPE if quiet else None
    )
    return done.stdout or ""


def read_results(modules: Sequence[str]) -> Iterator[Result]:
    for module in modules:
        meta = json.loads((WORK / "mutants" / f"{module}.meta").read_text())
        ended = {
            name: status_by_exit_code[code]
            for name, code in meta["exit_code_by_key"].items()
            if code is not None
        }
        if ended:
            kept = tuple(name for name, how in ended.items() if how in ("survived", "no tests"))
            yield Result(module, Counter(ended.values()), kept)


def forget_survivors(modules: Sequence[str]) -> None:
    """Have mutmut try them again; it forgets by itself what code has changed since."""
    for result in read_results(modules):
        meta = WORK / "mutants" / f"{result.module}.meta"
        content = json.loads(meta.read_text())
        content["exit_code_by_key"] |= dict.fromkeys(result.survivors)
        meta.write_text(json.dumps(content, indent=4))


def table(results: Sequence[Result]) -> Iterator[str]:
    yield "| module | mutants | killed | timeout | survived | no test | noticed |"
    yield "|---|---|---|---|---|---|---|"
    for result in results:
        count = result.endings
        yield (
            f"| `{result.module}` | {result.mutants} | {count['killed'] + count['segfault']} "
            f"| {count['timeout']} | {count['survived']} | {count['no tests']} "
            f"| {result.percent:.1f} % |"
        )


def survivors(results: Sequence[Result]) -> Iterator[tuple[str, bool]]:
    """Name and diff of each, and whether mutation.md explains it."""
    reasons = Path(__file__).with_suffix(".md").read_text()
    for result in results:
        for name in result.survivors:
            changed = [
                line
                for line in run_mutmut("show", name).splitlines()
                if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
            ]
            added = [f"`{line[1:].strip()}`" for line in changed if line.startswith("+")]
            explained = all(line in reasons for line in added)
            title = f"`{name}`{' (explained)' if explained else ''}"
            yield "\n".join((f"\n{title}", "```diff", *changed, "```")), explained


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mutants", nargs="*", help="only these, e.g. 'launcher_hook.pci*'")
    parser.add_argument("--again", action="store_true", help="only those that survived last time")
    options = parser.parse_args()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    modules = project["tool"]["mutmut"]["only_mutate"]
    if options.again:
        forget_survivors(modules)
    else:
        lay_work_folder()
    run_mutmut("run", "--max-children", "1", *options.mutants)
    results = list(read_results(modules))
    kept = list(survivors(results))
    report = "\n".join(table(results))
    (OUT / "report.md").write_text("\n".join((report, *(text for text, _ in kept), "")))
    print(report)
    explained = sum(known for _, known in kept)
    print(f"survivors: {len(kept)}, {explained} of them explained in tests/mutation.md; each in")
    print(f"{OUT / 'report.md'}")
    below = [result.module for result in results if result.percent < FLOOR]
    if below:
        print(f"mutation: below {FLOOR} %: {', '.join(below)}; say in a test what they break")
    return 1 if below else 0


if __name__ == "__main__":
    raise SystemExit(main())
