"""`make e2e`: build level 1, run it, judge what it shows, say so in one table."""

import argparse
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.boot import QemuDiedError, QemuFailedError, TooSlowError, boot
from e2e.cases import SUITES
from e2e.machine import CannotBuildError, build_image
from e2e.project import REPOSITORY, put_project
from e2e.report import Report, read_events

CACHE = REPOSITORY / ".cache/e2e"
OUT = REPOSITORY / "build/e2e"
NEEDED = (
    "qemu-system-x86_64", "mmdebstrap", "cpio", "depmod", "modprobe", "xz", "apt-get", "dpkg-deb",
)  # fmt: skip
LIMIT_S = 1500

EXIT_WRONG, EXIT_CANNOT, EXIT_TOO_SLOW = 1, 2, 75


def main() -> int:
    arguments = _parse()
    expect = {(case, key): value for case, key, value in arguments.expect}
    if arguments.events is not None:
        report = Report(arguments.only, expect, suite=arguments.suite, extra=arguments.all)
        for event in read_events(arguments.events):
            report.add(event)
        return _finish(report)
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0:
        return _cannot("it needs root, to build level 1's file system")
    if missing:
        return _cannot(f"not installed: {', '.join(missing)}; do '.ci/setup.sh e2e' as root")
    lock = _take_cache()
    if lock is None:
        return _cannot("another make e2e is running in this clone; wait for its end")
    tries = 2 if arguments.retry else 1
    return run_again(lambda: _run(arguments, expect), tries, arguments.limit)


def run_again(run: Callable[[], int], tries: int, limit_s: int = LIMIT_S) -> int:
    """Run it, and again where nothing was found out: there was no time, or the emulator died."""
    status = 0
    for number in range(1, tries + 1):
        try:
            return run()
        except TooSlowError:
            why, status = f"level 1 did not end within {limit_s} s", EXIT_TOO_SLOW
        except QemuDiedError as error:
            why, status = f"QEMU itself died: {error}", EXIT_CANNOT
        except (CannotBuildError, QemuFailedError) as error:
            return _cannot(str(error))
        print(f"e2e: {why}; try {number} of {tries}", file=sys.stderr, flush=True)
    return status


def _take_cache() -> TextIO | None:
    """Keep others out of the cache, and remove what a run that was killed left there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    lock = (CACHE / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    for left in CACHE.glob("e2e-*"):
        shutil.rmtree(left)
    return lock


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this")
    parser.add_argument("--all", action="store_true", help="also what is too long for CI")
    parser.add_argument(
        "--suite", choices=SUITES, default=SUITES[0], help="the Debian that level 1 is made from"
    )
    parser.add_argument(
        "--archive", metavar="ADDRESS", help="a Debian archive, where this machine is no Debian"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=LIMIT_S,
        metavar="SECONDS",
        help="for level 1, on a busy machine",
    )
    parser.add_argument(
        "--retry", action="store_true", help="once more if the time is up, or QEMU itself dies"
    )
    parser.add_argument(
        "--events", type=Path, metavar="FILE", help="judge what an earlier run observed"
    )
    parser.add_argument(
        "--expect",
        nargs=3,
        action="append",
        default=[],
        metavar=("CASE", "KEY", "VALUE"),
        help="expect something else of a case: a wrong one must fail",
    )
    return parser.parse_args()


def _run(arguments: argparse.Namespace, expect: Mapping[tuple[str, str], str]) -> int:
    start = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    chosen = {"suite": arguments.suite, "only": arguments.only, "extra": arguments.all}
    (OUT / "chosen.json").write_text(json.dumps(chosen))

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {text}", flush=True)

    image = build_image(CACHE, say, arguments.suite, arguments.archive)
    initramfs = CACHE / "level1.cpio"
    put_project(image, CACHE, initramfs, say)
    say("level 1 boots")
    report = Report(arguments.only, expect, image.versions, arguments.suite, extra=arguments.all)
    for event in boot(image, initramfs, OUT, arguments.limit):
        line = report.add(event)
        if line:
            say(line)
    report.seconds = time.monotonic() - start
    (OUT / "report.md").write_text(report.markdown())
    return _finish(report)


def _finish(report: Report) -> int:
    print()
    print(report.table())
    return 0 if report.all_as_expected else EXIT_WRONG


def _cannot(why: str) -> int:
    print(f"e2e: {why}", file=sys.stderr)
    return EXIT_CANNOT


if __name__ == "__main__":
    sys.exit(main())
