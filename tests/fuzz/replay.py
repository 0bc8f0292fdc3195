"""Runs a target's corpus once, uninstrumented: which lines are reached, how long it takes at most.

``python -m fuzz.replay TARGET CORPUS FINDINGS``; prints JSON.
"""

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import coverage

MOST_CPU_S = 1.0


def main() -> None:
    name, corpus, findings = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    logging.disable(logging.CRITICAL)
    measure = coverage.Coverage(source=["launcher_hook"], data_file=None)
    measure.start()
    from fuzz.target import load_target

    target = load_target(name)
    inputs = [*target.seeds(), *(path.read_bytes() for path in sorted(corpus.iterdir()))]
    failed: list[str] = []
    slowest_s, slowest = 0.0, b""
    for data in inputs:
        cpu_s = _check(target, data, failed)
        if cpu_s > slowest_s:
            slowest_s, slowest = cpu_s, data
    measure.stop()
    # Once more without the tracer: that took most of its time.
    slowest_s = _check(target, slowest, failed)
    if slowest_s > MOST_CPU_S:
        (findings / "slow.bin").write_bytes(slowest)
        failed.append(f"{slowest_s:.2f} s of CPU for an input of {len(slowest)} bytes")
    print(
        json.dumps(
            {
                "inputs": len(inputs),
                "failed": sorted(set(failed)),
                "slowest_s": slowest_s,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
                "lines": _lines(measure, target.about),
            }
        )
    )


def _check(target: Any, data: bytes, failed: list[str]) -> float:
    """Check one input, note what it does wrong, and give the CPU that it took."""
    start = time.process_time()
    try:
        target.check(data)
    except Exception as error:
        failed.append(f"{type(error).__name__}: {error}"[:300])
    return time.process_time() - start


def _lines(measure: Any, about: Any) -> dict[str, list[int]]:
    """Lines reached and lines there, of the whole program and of what the target is about."""
    counts = {"all": [0, 0], "about": [0, 0]}
    import launcher_hook

    root = Path(launcher_hook.__file__).parent
    for path in sorted(root.rglob("*.py")):
        _, statements, _, missing, _ = measure.analysis2(str(path))
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        kinds = ["all"]
        if any(module == name or module.startswith(f"{name}.") for name in about):
            kinds.append("about")
        for kind in kinds:
            counts[kind][0] += len(statements) - len(missing)
            counts[kind][1] += len(statements)
    return counts


if __name__ == "__main__":
    main()
