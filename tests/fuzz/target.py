"""What a fuzz target is, and how inputs are made without a fuzzer."""

import atexit
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

from hosttree import quick_directory

REPOSITORY = Path(__file__).parents[2]
CASES = REPOSITORY / "fixtures" / "cases"
SHARED_DOMAINS = REPOSITORY.parent / "shared" / "kubevirt-domains"

NAMES = (
    "domain",
    "faults",
    "vmi",
    "metadata",
    "config",
    "variables",
    "sysfs",
    "messages",
    "pciids",
    "doctor",
)
"""Every target that runs in a process of its own; ``server`` is another kind of thing."""


@dataclass(frozen=True)
class Target:
    """One way in for somebody else's bytes.

    Attributes:
        check: Takes any bytes; raises where the program does what it may not.
        seeds: Inputs that make sense, to begin with.
        words: What a byte string is unlikely to hit by chance.
        about: The modules of launcher_hook that read these bytes, for the report's coverage.
        change: Makes another input of one that makes sense, which makes sense more often than what
            a fuzzer makes of its bytes.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: Sequence[bytes]
    about: Sequence[str]
    change: Callable[[bytes, Random], bytes] | None = None


def load_target(name: str) -> Target:
    """Import a target; what it imports of the program can be instrumented until then."""
    target = import_module(f"fuzz.{name}").TARGET
    assert isinstance(target, Target)
    return target


def scratch() -> Path:
    """A directory in memory, there for as long as the process is."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(quick_directory())


def case_files(name: str) -> list[bytes]:
    """A file of every fixture that has it, each content once."""
    return sorted({path.read_bytes() for path in CASES.glob(f"*/{name}")})


Edit = tuple[str, float, float, bytes]
"""What to do, where it begins and how far it goes (both 0 to 1), with which bytes."""

EDITS = ("insert", "replace", "delete", "double", "move")


def edit(data: bytes, edits: Sequence[Edit], most_bytes: int = 1 << 20) -> bytes:
    """Change an input as a fuzzer would."""
    for what, place, length, word in edits:
        start = int(place * len(data))
        end = min(start + max(int(length * len(data)), 1), len(data))
        part = data[start:end]
        match what:
            case "insert":
                data = data[:start] + word + data[start:]
            case "replace":
                data = data[:start] + word + data[start + len(word) :]
            case "delete":
                data = data[:start] + data[end:]
            case "double":
                data = data[:end] + part + data[end:]
            case _:
                rest = data[:start] + data[end:]
                data = rest[: len(rest) // 2] + part + rest[len(rest) // 2 :]
    return data[:most_bytes]


def random_edits(random: Random, words: Sequence[bytes], most: int = 6) -> list[Edit]:
    """A few edits; short ones more often than long ones."""
    return [
        (
            random.choice(EDITS),
            random.random(),
            random.random() ** 6,
            random.choice(words)
            if random.random() < 0.7
            else random.randbytes(random.randint(1, 4)),
        )
        for _ in range(random.randint(1, most))
    ]
