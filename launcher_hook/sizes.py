"""Sizes as people and libvirt write them: ``512G``, ``64GiB``, ``268435456KiB``."""

import re

from launcher_hook.errors import shorten

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_SIZE = re.compile(r"([0-9]{1,20}) ?([A-Za-z]+)")
_EXAMPLE = "write a number and a unit, e.g. 512G, 64GiB or 268435456KiB"

# libvirt's words (docs/formatdomain, virScaleInteger): a letter alone is a power of two, with B one
# of ten. Ki, Mi, ... are Kubernetes'.
_UNITS = {"b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _UNITS |= dict.fromkeys((_letter, f"{_letter}i", f"{_letter}ib"), 1024**_power)
    _UNITS[f"{_letter}b"] = 1000**_power

# The same for an editor, which has no other way to overlook case.
SIZE_SCHEMA = {
    "type": "string",
    "pattern": "^[0-9]{1,20} ?([bB]([yY][tT][eE][sS]?)?|[kKmMgGtTpPeE]([iI]?[bB]|[iI])?)$",
}


def parse_size(text: str) -> int:
    """Read a size with a unit; give bytes.

    Raises:
        ValueError: It is none; a number alone is not taken, since libvirt means KiB by it.
    """
    match = _SIZE.fullmatch(text)
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{shorten(text)} is not a size; {_EXAMPLE}")
    return int(match[1]) * factor


def scale(number: str, unit: str) -> int | None:
    """Give the bytes of a number and a unit that libvirt's XML has apart; None: cannot be read."""
    factor = _UNITS.get(unit.lower())
    return int(number) * factor if factor and re.fullmatch("[0-9]{1,20}", number) else None


def print_size(size_bytes: int) -> str:
    """Write a size for people, in the largest unit in which it is whole: ``512 GiB``, ``1 TiB``."""
    for factor, unit in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} bytes"


def round_up(size_bytes: int, step: int) -> int:
    """Give the next multiple of a step."""
    return -(-size_bytes // step) * step
