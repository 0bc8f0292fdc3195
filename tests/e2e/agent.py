"""On level 1: goes through the cases, two at a time, and writes down what is observed."""

import json
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from e2e import node
from e2e.cases import Case, choose_cases
from e2e.stage import OUT, Stage

WORKERS = 2
"""Cases at a time: a case keeps one processor busy, and level 1 has two."""


class Events:
    """One JSON line an event, where level 0 reads them while we run."""

    def __init__(self) -> None:
        self._file = (OUT / "events.jsonl").open("a", buffering=1)
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def say(self, kind: str, **more: object) -> None:
        line = {"at": round(time.monotonic() - self._start, 1), "kind": kind, **more}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")


class Schedule:
    """Gives cases to workers, in order, as far as no two touch one function."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._waiting = list(cases)
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    def work(self, do: Callable[[Case], None]) -> None:
        """Do cases until none is left; runs in each worker."""
        while True:
            with self._changed:
                if not self._waiting:
                    return
                case = next((c for c in self._waiting if not c.touches & self._busy), None)
                if case is None:
                    self._changed.wait()
                    continue
                self._waiting.remove(case)
                self._busy |= case.touches
            try:
                do(case)
            finally:
                with self._changed:
                    self._busy -= case.touches
                    self._changed.notify_all()


def main() -> int:
    events = Events()
    events.say("step", text="level 1 is up")
    chosen = choose_cases(**json.loads((OUT / "chosen.json").read_text()))
    with ExitStack() as stack:
        stage = Stage(lambda text: events.say("step", text=text), stack)
        groups = {role: node.group(bdf) for role, bdf in stage.roles.items()}
        events.say("node", roles=stage.roles, groups=groups)

        def do(case: Case) -> None:
            events.say("begin", case=case.name)
            start = time.monotonic()
            try:
                observed = stage.observe(case)
            except Exception as error:  # a case that breaks off must not take the others with it
                traceback.print_exc()
                observed = {"broke off": f"{type(error).__name__}: {error}"}
            seconds = round(time.monotonic() - start, 1)
            events.say("result", case=case.name, observed=observed, seconds=seconds)

        schedule = Schedule(chosen)
        workers = [threading.Thread(target=schedule.work, args=(do,)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        shutil.copyfile(stage.plugin.log, OUT / "device-plugin.jsonl")
    events.say("end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
