"""Fields of Kubernetes objects as they come: of any type, and of any size. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_NAME = 253
"""Characters of anything's name in Kubernetes."""

MAX_VALUES = 50_000
"""In JSON, counted by what separates them: an empty list is 2 bytes of text and 64 of memory."""


def count_values(data: bytes) -> int:
    """Count the values of a JSON or YAML text, from above and without parsing it."""
    return sum(map(data.count, (b"{", b"[", b",")))


def list_mappings(parent: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """Give the mappings of a list; nothing where it is none, or is not there."""
    values = parent.get(key) if isinstance(parent, dict) else None
    if isinstance(values, list):
        yield from (value for value in values if isinstance(value, dict))


def read_name(parent: Mapping[str, Any], key: str) -> str:
    """Give a name; "" where there is none, or it is longer than any is."""
    value = parent.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_NAME else ""
