"""Which device a name in the configuration means: device name, alias, host BDF or mdev UUID.

Names that differ in case only are different names, for KubeVirt, libvirt and here. A name that no
device has as it is written means the one device that has it in another case.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from launcher_hook.errors import InputError
from launcher_hook.model import Assignment

_V = TypeVar("_V")

_MOST_NAMED = 8


def find_named(
    table: Mapping[str, _V], assignments: Sequence[Assignment], section: str
) -> dict[str, tuple[str, _V]]:
    """Find the device of each name.

    Args:
        table: By name.
        assignments: The devices of this VM.
        section: The key of the configuration under which the names stand.

    Returns:
        Name and value by alias, in order of the names.

    Raises:
        InputError: A name is that of no device of this VM, or of two; or two names are of one.
    """
    found: dict[str, tuple[str, _V]] = {}
    for key, value in sorted(table.items()):
        matches = _find_devices(key, assignments)
        where = f"{section}.{key}"
        if len(matches) != 1:
            what = "names more than one device" if matches else "names no device of this VM"
            raise InputError(where, f"{key!r} {what}", _write_one(matches, assignments))
        alias = matches[0].alias
        if alias in found:
            raise InputError(
                where, f"{found[alias][0]!r} is the same device", "keep one of the two"
            )
        found[alias] = (key, value)
    return found


def _find_devices(name: str, assignments: Sequence[Assignment]) -> list[Assignment]:
    exact = [a for a in assignments if name in list_names(a)]
    if exact:
        return exact
    folded = name.lower()
    return [a for a in assignments if folded in {other.lower() for other in list_names(a)}]


def _write_one(matches: Sequence[Assignment], assignments: Sequence[Assignment]) -> str:
    if not assignments:
        return "take it out: this VM has no passed-through device"
    if matches:  # they have a name in common
        return f"write {' or '.join(a.alias for a in matches[:_MOST_NAMED])}"
    names = [a.name or a.alias for a in assignments if not a.is_companion][:_MOST_NAMED]
    return f"write {' or '.join(names)}, or an alias or a host address"


def list_names(assignment: Assignment) -> set[str]:
    """Every name by which the configuration can mean a device."""
    names = (assignment.alias, assignment.alias.removeprefix("ua-"), str(assignment.source))
    return {name for name in (*names, assignment.name) if name}
