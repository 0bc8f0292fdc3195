"""The patterns of a RELAX NG grammar as Python values: what can be walked beside a document.

``group`` and ``interleave`` both are `All`, ``optional`` and ``zeroOrMore`` a `Choice` with
`EMPTY`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from lxml import etree

RELAXNG = "http://relaxng.org/ns/structure/1.0"
DATATYPES = "http://www.w3.org/2001/XMLSchema-datatypes"


class Pattern:
    """Something that a document may hold; compared by identity."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Nothing(Pattern):
    """``empty``, or ``notAllowed`` where it is not even allowed to be empty."""

    allowed: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Text(Pattern):
    """Any text."""


@dataclass(frozen=True, slots=True, eq=False)
class Value(Pattern):
    """One word."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Data(Pattern):
    """Text of a type, kept as the schema writes it; libxml2 decides what fits."""

    xml: str
    type: str
    params: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class All(Pattern):
    """Every part once; in this order where ``ordered``."""

    parts: tuple[Pattern, ...]
    ordered: bool


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Pattern):
    """One of the parts."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Many(Pattern):
    """The part once or more."""

    part: Pattern


@dataclass(frozen=True, slots=True, eq=False)
class Ref(Pattern):
    """What is defined under a name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Attribute(Pattern):
    """An attribute, of any name where ``name`` is ``*``."""

    name: str
    content: Pattern


@dataclass(frozen=True, slots=True, eq=False)
class Element(Pattern):
    """An element, of any name where ``name`` is ``*``; names with a namespace as in lxml."""

    name: str
    content: Pattern


Leaf = Attribute | Element | Text | Value | Data

EMPTY = Nothing()


@dataclass(slots=True)
class Grammar:
    """The patterns of one schema version by the names that they are defined under."""

    defines: dict[str, Pattern] = field(default_factory=dict)
    _names: dict[Pattern, frozenset[str]] = field(default_factory=dict)
    _nullable: dict[Pattern, bool] = field(default_factory=dict)

    def leaves(self, pattern: Pattern) -> Iterator[Leaf]:
        """What stands in a pattern itself: nothing from inside its elements and attributes."""
        match pattern:
            case Ref(name):
                yield from self.leaves(self.defines.get(name, EMPTY))
            case All(parts=parts) | Choice(parts=parts):
                for part in parts:
                    yield from self.leaves(part)
            case Many(part):
                yield from self.leaves(part)
            case Attribute() | Element() | Text() | Value() | Data():
                yield pattern

    def names(self, pattern: Pattern) -> frozenset[str]:
        """``address`` for each element, ``@type`` for each attribute, ``#`` for any text."""
        if pattern not in self._names:
            self._names[pattern] = frozenset(leaf_name(leaf) for leaf in self.leaves(pattern))
        return self._names[pattern]

    def nullable(self, pattern: Pattern) -> bool:
        """Whether the pattern demands nothing."""
        if pattern not in self._nullable:
            self._nullable[pattern] = self._is_nullable(pattern)
        return self._nullable[pattern]

    def _is_nullable(self, pattern: Pattern) -> bool:
        match pattern:
            case Ref(name):
                return self.nullable(self.defines.get(name, EMPTY))
            case All(parts=parts):
                return all(self.nullable(part) for part in parts)
            case Choice(parts):
                return any(self.nullable(part) for part in parts)
            case Many(part):
                return self.nullable(part)
            case Nothing(allowed):
                return allowed
            case _:
                return isinstance(pattern, Text)

    def element(self, name: str) -> Element | None:
        """The element that is defined under a name, such as ``hostdev``."""
        for leaf in self.leaves(Ref(name)):
            if isinstance(leaf, Element) and leaf.name == name:
                return leaf
        return None

    def accepts(self, content: Pattern, text: str) -> bool:
        """Whether a text is what an attribute or a text-only element may hold."""
        match content:
            case Ref(name):
                return self.accepts(self.defines.get(name, EMPTY), text)
            case Choice(parts):
                return any(self.accepts(part, text) for part in parts)
            case Value(word):
                return word.split() == text.split()
            case Data(xml):
                probe = etree.Element("value")
                probe.text = text
                return _data_grammar(xml).validate(probe)
            case Nothing():
                return not text.strip()
            case _:
                return True


def leaf_name(leaf: Leaf) -> str:
    """A leaf's name as `Grammar.names` spells it."""
    match leaf:
        case Attribute(name):
            return f"@{name}"
        case Element(name):
            return name
        case _:
            return "#"


@lru_cache(maxsize=256)
def _data_grammar(xml: str) -> etree.RelaxNG:
    return etree.RelaxNG(
        etree.fromstring(
            f'<element xmlns="{RELAXNG}" datatypeLibrary="{DATATYPES}" name="value">{xml}</element>'
        )
    )
