"""What a key of the configuration takes: a few kinds of values.

Checked by hand and not by pydantic: a model of the few keys that there are took 19 MB and 210 ms of
CPU, of the 64 MB and 0.2 cores that a hook has while a VM waits for its domain.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher_hook.errors import InputError, shorten

_HUMP = re.compile("(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Key:
    """What one key of the configuration takes.

    Attributes:
        values: What it takes, in the README's words.
        meaning: One sentence or two.
        check: Turns a value as YAML has it (text, list, mapping or None) into that of the model;
            its second argument is the value's place, for the InputError that it raises.
        schema: What it takes, as JSON Schema: for editors, which read YAML's true as a boolean
            and 1 as a number.
    """

    values: str
    meaning: str
    check: Callable[[Any, str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)


def setting_of(key: str) -> str:
    """Name a key as the model does: ``pciHole64`` is ``pci_hole64``."""
    return _HUMP.sub("_", key).lower()


def check_keys(values: Mapping[str, Any], keys: Mapping[str, Key], where: str) -> dict[str, Any]:
    """Check each value of a mapping; they come out by the model's names.

    Raises:
        InputError: A key is not known, or a value is not allowed.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in keys:
            raise InputError(f"{where}: {name}", "there is no such key", _nearest(name, keys))
        checked[setting_of(name)] = keys[name].check(value, f"{where}: {name}")
    return checked


def _nearest(name: object, keys: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(name), keys, n=1)
    return f"write {near[0]!r}" if near else f"the keys are {', '.join(keys)}"


def refusal(where: str, value: object, what: str, fix: str) -> InputError:
    """Make the refusal of a value: what it is not, or that there is none."""
    said = "it is empty" if value is None else f"{shorten(value)} {what}"
    return InputError(where, said, fix)


def describe_keys(keys: Mapping[str, Key]) -> dict[str, Any]:
    """Give the JSON Schema of a mapping that has these keys and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {**key.schema, "description": key.meaning} for name, key in keys.items()
        },
    }


def check_mapping(value: Any, where: str, example: str) -> dict[str, Any]:
    """Take a mapping of names and nothing else.

    Raises:
        InputError: It is none, or a name in it is no text.
    """
    if not isinstance(value, dict):
        raise refusal(where, value, "is not a mapping", f"write e.g. {example}")
    for name in value:
        if not isinstance(name, str) or not name:
            raise InputError(where, f"{shorten(name)} is no name", f"write e.g. {example}")
    return value


def choice(choices: tuple[str, ...], meaning: str) -> Key:
    """Make a key of a few words."""
    *most, last = (repr(word) for word in choices)
    fix = f"write {', '.join(most)} or {last}" if most else f"write {last}"

    def check(value: Any, where: str) -> Any:
        if value in choices:
            return value
        raise refusal(where, value, "is not allowed", fix)

    return Key(", ".join(choices), meaning, check, {"enum": list(choices)})


def number(lowest: int, highest: int, meaning: str) -> Key:
    """Make a key of a decimal number, without sign or leading zeros."""

    def check(value: Any, where: str) -> int:
        if isinstance(value, str) and re.fullmatch("0|[1-9][0-9]{0,9}", value):
            given = int(value)
            if lowest <= given <= highest:
                return given
        fix = f"write a number from {lowest} to {highest}"
        raise refusal(where, value, "is not allowed", fix)

    given = {"type": "integer", "minimum": lowest, "maximum": highest}
    quoted = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,9})$"}
    return Key(f"{lowest} to {highest}", meaning, check, {"anyOf": [given, quoted]})


def text(pattern: str, values: str, meaning: str, fix: str) -> Key:
    """Make a key of a text of one form."""

    def check(value: Any, where: str) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise refusal(where, value, "is not allowed", fix)

    return Key(values, meaning, check, {"type": "string", "pattern": f"^({pattern})$"})
