"""What a user meant by an option or a command that there is not. Only errors load it."""

import re
from collections.abc import Collection, Sequence

_PROGRAMS = ("onDefineDomain",)
"""Commands of this package beside ``launcher-hook``."""

_NEGATIVE = re.compile(r"-[0-9.]+")


def explain_usage(
    message: str, given: Sequence[str], options: Collection[str], commands: Collection[str]
) -> str:
    """Say what is wrong with a command line, and what was probably meant.

    Args:
        message: What argparse says. It complains of a missing option before a misspelt one.
        given: The words that the parser was given.
        options: The parser's own, as they are spelt.
        commands: Its commands, if it has any.

    Returns:
        A message in the form of our errors, without a full stop.
    """
    unknown = find_unknown(given, options, stop_at_words=bool(commands))
    if unknown is not None:
        name, value = unknown
        return f"there is no option {name!r}; {_suggest(name, value, options, commands)}"
    word = next((word for word in given if not word.startswith("-")), None)
    if commands and word is not None and word not in commands:
        return f"there is no command {word!r}; {_suggest_command(word, commands)}"
    return message


def find_unknown(
    given: Sequence[str], options: Collection[str], *, stop_at_words: bool = False
) -> tuple[str, str | None] | None:
    """Find the first option that is none, and what stands behind it.

    Args:
        given: The words of a command line.
        options: Those that there are; a beginning of a long one is one too, as for argparse.
        stop_at_words: Whether what follows a word is another parser's.
    """
    for place, word in enumerate(given):
        if word == "--" or (stop_at_words and not word.startswith("-")):
            return None
        if not word.startswith("-") or word == "-" or " " in word or _NEGATIVE.fullmatch(word):
            continue
        name, equals, value = word.partition("=")
        if not _is_known(name, options):
            behind = given[place + 1 : place + 2]
            following = behind[0] if behind and not behind[0].startswith("-") else None
            return name, value if equals else following
    return None


def _is_known(name: str, options: Collection[str]) -> bool:
    if name.startswith("--"):
        return any(option.startswith(name) for option in options)
    return name[:2] in options


def _suggest(
    name: str, value: str | None, options: Collection[str], commands: Collection[str]
) -> str:
    from difflib import get_close_matches

    if commands:
        near = get_close_matches(name, options, n=1)
        return f"write {near[0]!r}" if near else "options stand behind the command"
    keys = _keys_as_options() if "--set" in options else {}
    typed = _plain(name)
    if typed in keys:
        return _write_set(keys[typed], value)
    head, dot, rest = name.partition(".")
    if dot and _plain(head) in keys:  # --slots.gpu0
        return _write_set(f"{keys[_plain(head)]}.{rest}", value)
    plain = {_plain(option): option for option in options if option.startswith("--")}
    near = get_close_matches(typed, [*plain, *keys], n=1)
    if not near:
        return "take it out"
    return f"write {plain[near[0]]!r}" if near[0] in plain else _write_set(keys[near[0]], value)


def _keys_as_options() -> dict[str, str]:
    """The configuration's keys by how they look as options: users take them for some."""
    from launcher_hook.configkeys import KEYS
    from launcher_hook.devicekeys import DEVICE_KEYS

    return {
        **{_plain(name): f"devices.NAME.{name}" for name in DEVICE_KEYS},
        **{_plain(name): name for name in KEYS},
    }


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _write_set(key: str, value: str | None) -> str:
    return f"it is a key of the configuration, write '--set {key}={value or 'VALUE'}'"


def _suggest_command(word: str, commands: Collection[str]) -> str:
    from difflib import get_close_matches

    if word in _PROGRAMS:
        return "it is a program of its own, beside this one"
    near = get_close_matches(word, commands, n=1)
    return f"write {near[0]!r}" if near else f"the commands are {', '.join(commands)}"
