"""A clock that jumps, for one process: libfaketime, which asks a file what time it is."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Debian's libfaketime; MT is for programs with threads.
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@dataclass(frozen=True)
class FakeClock:
    """What a process takes for the time of day; its monotonic clock stays real.

    Attributes:
        variables: For its environment.
    """

    file: Path
    variables: Mapping[str, str]

    def set(self, text: str) -> None:
        """Jump to ``YYYY-MM-DD hh:mm:ss``, and go on from there."""
        new = self.file.with_suffix(".new")
        new.write_text(f"@{text}\n")
        new.replace(self.file)  # never half of it


@contextmanager
def fake_clock() -> Iterator[FakeClock]:
    """Make a clock; libfaketime comes with `make setup system`."""
    assert _LIBRARIES, "there is no libfaketime: apt-get install libfaketime"
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        file = Path(scratch) / "time"
        clock = FakeClock(
            file,
            {
                "LD_PRELOAD": str(_LIBRARIES[0]),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_RESET": "1",
                "TZ": "UTC",
            },
        )
        clock.set("2026-01-01 00:00:00")
        yield clock
