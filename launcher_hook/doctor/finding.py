"""What a check found out: one line of the doctor's table."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from launcher_hook.errors import HookError

Severity = Literal["error", "warning", "ok", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Which check, in a word or two.
        severity: An error keeps a VM from starting or from having its devices; a warning may.
        where: What was looked at.
        what: How it is, with the value that counts.
        fix: What to do; empty where it is fine.
    """

    check: str
    severity: Severity
    where: str
    what: str
    fix: str = ""


def fine(check: str, where: str, what: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", where, what)


def warn(check: str, where: str, what: str, fix: str) -> Finding:
    """It may be trouble, or is for some VMs only."""
    return Finding(check, "warning", where, what, fix)


def fail(check: str, where: str, what: str, fix: str) -> Finding:
    """A VM will not start, or not have its devices."""
    return Finding(check, "error", where, what, fix)


def unseen(check: str, what: str, fix: str) -> Finding:
    """It could not be checked; the fix is the input that is missing."""
    return Finding(check, "not checked", "-", what, fix)


def refused(check: str, error: HookError) -> Finding:
    """Another part of the program refuses it, in its own words."""
    return Finding(check, "error", error.where, error.what, error.fix)


def listed(items: Iterable[object], most: int = 6) -> str:
    """Some of them by name, the others by number."""
    texts = [str(item) for item in items]
    if len(texts) <= most:
        return ", ".join(texts)
    return f"{', '.join(texts[:most])} and {len(texts) - most} more"


def counted(number: int, noun: str) -> str:
    """``1 function``, ``2 functions``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
