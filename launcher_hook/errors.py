"""The error tree: the branch is who must act.

::

    HookError
    ├── InputError    what we were handed is wrong         INVALID_ARGUMENT     exit 2
    ├── HostError     the node lacks what devices need     FAILED_PRECONDITION  exit 3
    ├── PlanError     the devices do not fit the guest     FAILED_PRECONDITION  exit 3
    └── SchemaError   what we wrote is not valid: our bug  INTERNAL             exit 4

A message reads ``where: what is wrong, the given text by repr; what to do``.
Lower layers raise; the edge (command line or gRPC) logs once and converts.
"""

from reprlib import Repr
from typing import ClassVar

_REPR = Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlevel = 2  # six values of six of six... are 390 KB


def shorten(value: object) -> str:
    """Quote a given value in a message; of a hostile one at most its beginning is built."""
    return _REPR.repr(value)


def one_line(message: str) -> str:
    """Escape what would break a line, the terminal or UTF-8."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


class HookError(Exception):
    """Any refusal of ours. Nothing has been written when it is raised."""

    exit_status: ClassVar[int] = 4

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__(f"{where}: {what}; {fix}")
        self.where = where
        self.what = what
        self.fix = fix


class InputError(HookError):
    """Whoever handed it to us must mend it: address, variable, VMI, configuration, domain XML."""

    exit_status = 2


class HostError(HookError):
    """The node's administrator must act: a driver, an IOMMU group, a function that is gone."""

    exit_status = 3


class UnreadableError(HostError):
    """A device of the node fails to answer a read: nothing is known of it, also not its absence."""


class PlanError(HookError):
    """The VM's owner must act: the devices do not fit the guest as it is defined."""

    exit_status = 3


class SchemaError(HookError):
    """We must act: what we wrote is not valid."""

    exit_status = 4
