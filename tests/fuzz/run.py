"""`make fuzz`: each target for some minutes, then a report. The corpus stays in .cache/fuzz.

What is found is in build/fuzz/findings/TARGET: an input and a trace each. A finding becomes a case
in the tests first, then it is mended.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CORPUS = REPOSITORY / ".cache" / "fuzz"
RESULTS = REPOSITORY / "build" / "fuzz"

sys.path.insert(0, str(REPOSITORY / "tests"))

from fuzz import server  # noqa: E402
from fuzz.target import NAMES, load_target  # noqa: E402

SERVER = "server"


@dataclass
class Result:
    """What one target came to."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    corpus: int = 0
    findings: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    lines: dict[str, list[int]] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}, {SERVER}"
    )
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("FUZZ_SECONDS", "600")))
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - {*NAMES, SERVER}
    if unknown:
        there = ", ".join((*NAMES, SERVER))
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {there}")
    results = []
    for name in arguments.targets or (*NAMES, SERVER):
        print(f"{name}: {arguments.seconds} s", flush=True)
        fuzz = fuzz_server if name == SERVER else fuzz_target
        results.append(fuzz(name, arguments.seconds))
        print(f"{name}: {summary(results[-1])}", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = report(results)
    (RESULTS / "report.md").write_text(text)
    print(text)
    return 1 if any(result.findings for result in results) else 0


def directories(name: str) -> tuple[Path, Path]:
    """A target's corpus, and a place for what is found, with nothing in it."""
    corpus, findings = CORPUS / name, RESULTS / "findings" / name
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    for old in findings.iterdir():
        old.unlink()
    return corpus, findings


def fuzz_target(name: str, seconds: int) -> Result:
    """Run the fuzzer until the time is over, again where libxml2 ends it; then the corpus once."""
    corpus, findings = directories(name)
    for number, seed in enumerate(load_target(name).seeds()):
        (corpus / f"seed-{number:04}").write_bytes(seed)
    result, end = Result(name), time.monotonic() + seconds
    log = RESULTS / f"{name}.log"
    with log.open("w") as output:
        while (left := round(end - time.monotonic())) > 1:
            start = time.monotonic()
            done = run("fuzz.child", name, str(left), str(corpus), str(findings), stderr=output)
            result.seconds += time.monotonic() - start
            if done.returncode not in (0, 77) and time.monotonic() - start < 5:
                result.findings.append(f"the fuzzer does not run: see {log}")
                break
    counts = re.findall(r"number_of_executed_units: (\d+)", log.read_text())
    result.executions = sum(map(int, counts))
    result.corpus = len(list(corpus.iterdir()))
    for trace in sorted(findings.glob("*.txt")):
        result.findings.append(f"{trace.stem}: {trace.read_text().strip().splitlines()[-1][:200]}")
    result.findings += [f"{path.name}: it ended the process" for path in findings.glob("crash-*")]
    replayed = run("fuzz.replay", name, str(corpus), str(findings), stdout=subprocess.PIPE)
    if replayed.returncode:
        result.findings.append("the corpus ends the process when it is run once")
        return result
    facts = json.loads(replayed.stdout)
    result.slowest_s, result.peak_mb = facts["slowest_s"], facts["peak_mb"]
    result.lines = facts["lines"]
    result.findings += [f"in the corpus: {text}" for text in facts["failed"] if not result.findings]
    return result


def run(module: str, *arguments: str, **streams: object) -> "subprocess.CompletedProcess[str]":
    """Run a module of ours in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests"), "PYTHONWARNINGS": "ignore"}
    command: Sequence[str] = (sys.executable, "-m", module, *arguments)
    return subprocess.run(command, env=environ, text=True, check=False, **streams)  # type: ignore[call-overload,no-any-return]


def fuzz_server(name: str, seconds: int) -> Result:
    """Call a running sidecar with what the others have found interesting."""
    _, findings = directories(name)
    facts = server.fuzz(seconds, CORPUS, findings)
    return Result(
        name,
        facts.calls,
        facts.seconds,
        facts.corpus,
        facts.findings,
        facts.slowest_s,
        facts.peak_mb,
    )


def summary(result: Result) -> str:
    """One line of progress."""
    rate = result.executions / max(result.seconds, 1)
    return f"{result.executions} executions, {rate:.0f}/s, {len(result.findings)} findings"


def report(results: Sequence[Result]) -> str:
    """The table, and what was found."""
    lines = [
        f"# Fuzzing, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {sys.version.split()[0]}",
        "",
        "Slowest: CPU of an input of the corpus, of a call to the server.",
        "Peak: of the process that ran the corpus, which holds it all; of the sidecar, VmHWM.",
        "",
        "| target | executions | a second | corpus | slowest, s | peak, MB "
        "| lines of its modules | of the program | findings |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        about, all_ = (_share(r.lines.get(kind)) for kind in ("about", "all"))
        rate = r.executions / max(r.seconds, 1)
        lines.append(
            f"| {r.name} | {r.executions:,} | {rate:,.0f} | {r.corpus:,} | {r.slowest_s:.2f} "
            f"| {r.peak_mb:.1f} | {about} | {all_} | {len(r.findings)} |"
        )
    total = sum(result.executions for result in results)
    lines += ["", f"{total:,} executions in {sum(result.seconds for result in results):,.0f} s."]
    for result in results:
        lines += [f"- {result.name}: {finding}" for finding in result.findings]
    return "\n".join(lines) + "\n"


def _share(lines: Sequence[int] | None) -> str:
    return (
        "-" if not lines else f"{lines[0]} of {lines[1]} ({100 * lines[0] // max(lines[1], 1)} %)"
    )


if __name__ == "__main__":
    sys.exit(main())
