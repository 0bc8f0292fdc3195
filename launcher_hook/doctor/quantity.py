"""Kubernetes' quantities: ``64M``, ``200m``, ``1Gi``, ``2``."""

import re
from fractions import Fraction
from typing import Any

from launcher_hook.errors import shorten

# k8s.io/apimachinery/pkg/api/resource/quantity.go: decimal and binary suffixes, exponents.
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,19}\.?[0-9]{0,19}|\.[0-9]{1,19}))([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?"
)
_SUFFIXES = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(["n", "u", "m", ""], -3)},
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def parse_quantity(value: Any) -> Fraction:
    """Read a quantity, as text or as the number that YAML made of it.

    Raises:
        ValueError: It is none.
    """
    text = str(value) if isinstance(value, int | float | str) else ""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{shorten(value)} is no quantity; write e.g. 64M")
    suffix = match[2] or ""
    if suffix in _SUFFIXES:
        return Fraction(match[1]) * _SUFFIXES[suffix]
    return Fraction(match[1]) * Fraction(10) ** int(suffix[1:])
