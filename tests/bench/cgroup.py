"""The limits of a hook's container, where this machine lets us set them: cgroup v1 or v2."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PERIOD_US = 100_000  # Kubernetes' own


@dataclass(frozen=True)
class Limits:
    """A control group of our own; ``directories`` by controller, one for all of them on v2.

    Attributes:
        directories: Empty where no group could be made: then nothing is limited or counted.
        unified: cgroup v2.
    """

    directories: dict[str, Path]
    unified: bool

    @property
    def prefix(self) -> Sequence[str]:
        """What a command line begins with to run inside."""
        files = {str(path / "cgroup.procs") for path in self.directories.values()}
        enter = "".join(f"echo $$ > {file}; " for file in sorted(files))
        return ("sh", "-c", f'{enter}exec "$@"', "sh") if files else ()

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of every process that was ever inside."""
        if not self.directories:
            return None
        if self.unified:
            return self._counter("cpu", "cpu.stat", "usage_usec") / 1e6
        return int((self.directories["cpuacct"] / "cpuacct.usage").read_text()) / 1e9

    @property
    def limit_hits(self) -> int | None:
        """How often memory was refused at first (v1: failcnt, v2: events max)."""
        if not self.directories:
            return None
        if self.unified:
            return self._counter("memory", "memory.events", "max")
        return int((self.directories["memory"] / "memory.failcnt").read_text())

    @property
    def oom_kills(self) -> int | None:
        """Processes killed for memory."""
        if not self.directories:
            return None
        file = "memory.events" if self.unified else "memory.oom_control"
        return self._counter("memory", file, "oom_kill")

    def _counter(self, controller: str, file: str, name: str) -> int:
        lines = (self.directories[controller] / file).read_text().splitlines()
        return next((int(v) for key, v in map(str.split, lines) if key == name), 0)


@contextmanager
def limited(memory_bytes: int | None = None, cpus: float | None = None) -> Iterator[Limits]:
    """Make a group with these limits; without the right to, one that limits nothing."""
    limits = _make(memory_bytes, cpus)
    try:
        yield limits
    finally:
        for directory in set(limits.directories.values()):
            _remove(directory)


def _make(memory_bytes: int | None, cpus: float | None) -> Limits:
    name = f"launcher-hook-{os.getpid()}-{time.monotonic_ns()}"
    quota_us = None if cpus is None else int(cpus * _PERIOD_US)
    mounts = _mounts()
    unified = "" in mounts and {"memory", "cpu"} <= set(
        _read(mounts[""] / "cgroup.controllers").split()
    )
    names = ("",) if unified else ("memory", "cpu", "cpuacct")
    if not set(names) <= set(mounts):
        return Limits({}, unified)
    directories = {controller: mounts[controller] / name for controller in names}
    if unified:
        directories = dict.fromkeys(("memory", "cpu"), mounts[""] / name)
    limits = Limits(directories, unified)
    try:
        for directory in set(directories.values()):
            directory.mkdir(exist_ok=True)
        if unified:
            (mounts[""] / "cgroup.subtree_control").write_text("+memory +cpu")
        if memory_bytes is not None:
            file = "memory.max" if unified else "memory.limit_in_bytes"
            (directories["memory"] / file).write_text(str(memory_bytes))
        if quota_us is not None:
            file, text = ("cpu.max", f"{quota_us} {_PERIOD_US}") if unified else (
                "cpu.cfs_quota_us", str(quota_us)
            )  # fmt: skip
            (directories["cpu"] / file).write_text(text)
    except OSError:
        for directory in set(directories.values()):
            _remove(directory)
        return Limits({}, unified)
    return limits


def _mounts() -> dict[str, Path]:
    """Where each controller's tree is mounted; cgroup v2 under ""."""
    mounts: dict[str, Path] = {}
    for line in _read(Path("/proc/self/mounts")).splitlines():
        _, path, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts[""] = Path(path)
        elif kind == "cgroup":
            mounts |= dict.fromkeys(options.split(","), Path(path))
    return mounts


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _remove(directory: Path) -> None:
    for _ in range(50):  # the kernel needs a moment after the last process
        with suppress(FileNotFoundError):
            try:
                directory.rmdir()
            except OSError:
                time.sleep(0.1)
                continue
        return
