"""An element as a fit sees it: what it says, under the names that it probably means."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from launcher_hook.schema.fault import Element as Node
from launcher_hook.schema.fault import child_elements, full_name


@dataclass(frozen=True, slots=True)
class Instance:
    """An element, with a misspelled name taken for the name that it comes near.

    Attributes:
        attributes: Value by probable name.
        children: Probable name and element, in document order.
        meant: Probable name by the misspelled one; attributes have ``@`` before both.
    """

    attributes: Mapping[str, str]
    children: tuple[tuple[str, Node], ...]
    text: str
    meant: Mapping[str, str]
    names: frozenset[str]

    def only_attributes(self, attributes: Mapping[str, str]) -> "Instance":
        """This instance with other attributes and nothing else in it."""
        return Instance(attributes, (), "", {}, frozenset(f"@{name}" for name in attributes))


def read_instance(node: Node, known: frozenset[str]) -> Instance:
    """Read an element; a name that the pattern does not know is taken for a free one near it."""
    attributes = {f"@{name}": value for name, value in node.attrib.items()}
    children = [(full_name(child), child) for child in child_elements(node)]
    present = {*attributes, *(name for name, _ in children)}
    meant: dict[str, str] = {}
    if known.isdisjoint(("*", "@*")):
        for name in sorted(present - known):
            free = [
                other
                for other in sorted(known - present - set(meant.values()))
                if other.startswith("@") == name.startswith("@")
            ]
            meant.update((name, near) for near in nearest(name, free))
    text = "".join([node.text or "", *(child.tail or "" for child in node)]).strip()
    names = {meant.get(name, name) for name in present} | ({"#"} if text else set())
    return Instance(
        {meant.get(name, name)[1:]: value for name, value in attributes.items()},
        tuple((meant.get(name, name), child) for name, child in children),
        text,
        meant,
        frozenset(names),
    )


def nearest(word: str, words: list[str]) -> list[str]:
    """The one word that a misspelled one probably means, or none."""
    by_lower = {other.lower(): other for other in words}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return [by_lower[other] for other in close]
