"""Finds objects of a kind in what kubectl prints: one, several documents, or a List of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from launcher_hook.errors import InputError, shorten
from launcher_hook.vmi import load_documents, name_kind

MAX_MANIFEST_BYTES = 16 * 1024 * 1024
"""A thousand nodes are 10 MB of JSON."""


def find_objects(
    data: bytes, where: str, kinds: Sequence[str], command: str, *, may_be_none: bool = False
) -> list[dict[str, Any]]:
    """Give every object of some kinds, in order; at least one.

    Args:
        data: A manifest, JSON or YAML.
        where: Its name in messages.
        kinds: Which objects.
        command: What prints such ones, for messages.
        may_be_none: Whether an empty List will do: kubectl found none of them.

    Raises:
        InputError: It is no manifest, or holds no such object.
    """
    found, others = [], []
    documents = list(load_documents(data, where, kinds[0], command))
    for document in _unfold(documents):
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind in kinds:
            found.append(document)
        else:
            others.append(name_kind(document))
    if not found and (others or not documents or not may_be_none):
        raise InputError(
            where,
            f"it holds {', '.join(others[:6]) or 'nothing'}, and no {' or '.join(kinds)}",
            f"give the output of '{command} -o yaml'",
        )
    return found


def _unfold(documents: Iterable[Any]) -> Iterator[Any]:
    for document in documents:
        items = document.get("items") if isinstance(document, dict) else None
        if isinstance(items, list) and text_of(document.get("kind")).endswith("List"):
            kind = text_of(document["kind"]).removesuffix("List")  # a NodeList's items have no kind
            for item in items:
                yield {"kind": kind, **item} if kind and isinstance(item, dict) else item
        else:
            yield document


def descend(document: Mapping[str, Any], where: str, *keys: str) -> dict[str, Any]:
    """The mapping at a path; an empty one where a part of the path is not there.

    Raises:
        InputError: Something on the path is no mapping.
    """
    here: Any = document
    for depth, key in enumerate(keys, start=1):
        here = here.get(key)
        if here is None:
            return {}
        if not isinstance(here, dict):
            raise InputError(
                f"{where}: {'.'.join(keys[:depth])}",
                f"{shorten(here)} is not a mapping",
                "give it as kubectl prints it",
            )
    return dict(here)


def take_list(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """A list; an empty one where it is not there.

    Raises:
        InputError: It is no list.
    """
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(
            f"{where}: {key}", f"{shorten(value)} is not a list", "give it as kubectl prints it"
        )
    return value


def take_mappings(document: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A list of mappings; an empty one where it is not there.

    Raises:
        InputError: It is no such list.
    """
    values = take_list(document, key, where)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise InputError(
                f"{where}: {key}[{index}]",
                f"{shorten(value)} is not a mapping",
                "give it as kubectl prints it",
            )
    return values


def text_of(value: Any) -> str:
    """A scalar as text, "" for none; of anything else its beginning, as aliases make it long."""
    if value is None:
        return ""
    return value if isinstance(value, str) else shorten(value)


def name_of(document: Mapping[str, Any], where: str) -> str:
    """What to call an object in messages: its own name where it has one."""
    name = descend(document, where, "metadata").get("name")
    kind = text_of(document.get("kind")).lower()
    return f"{kind}/{name}" if isinstance(name, str) and name else where
