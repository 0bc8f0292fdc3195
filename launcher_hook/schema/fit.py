"""Lay an element beside its pattern so that as little as possible is left over or missing.

RELAX NG has no notion of the *nearest* alternative, so libxml2 can only say that none fits.  Here
each ``choice`` takes the alternative that has the best claim to what is there.  An attribute with
a right value speaks for it, most of all a ``type`` that names it; a child speaks the less, the
more is wrong in it; what is missing speaks against it.  The order of children is looked at last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher_hook.schema.fault import Element as Node
from launcher_hook.schema.instance import Instance, read_instance
from launcher_hook.schema.pattern import (
    All,
    Attribute,
    Choice,
    Element,
    Grammar,
    Many,
    Nothing,
    Pattern,
    Ref,
    Text,
    Value,
)

# Weights: what speaks for an alternative of a choice.
_PICK = 10.0  # a right word in an attribute whose purpose is to pick an alternative
_WORD = 2.0  # a right word in another attribute
_RIGHT = 1.0
_WRONG = 0.1  # there, but with a wrong value: still better than not to account for it
_MISSING = -0.6
_NEVER = -1000.0

_PICKING = ("mode", "type")

# Deeper elements count as right: Python's stack is finite, and no libvirt document goes so deep.
_MAX_DEPTH = 25


@dataclass(frozen=True, slots=True)
class Content:
    """What a pattern makes of an instance's attributes, children and text.

    Attributes:
        gain: How much speaks for the pattern.
        attributes: Whether the value is right, and the pattern, by attribute.
        children: Fit of each child that the pattern accounts for, by its place.
        text: The pattern for the text, and whether the text is right.
        misplaced: Places of the children that stand too early, and of those that go before them.
    """

    gain: float = 0.0
    attributes: Mapping[str, tuple[bool, Attribute]] = field(default_factory=dict)
    children: Mapping[int, "Fit"] = field(default_factory=dict)
    missing: tuple[Attribute | Element, ...] = ()
    text: tuple[bool, Pattern] | None = None
    misplaced: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: "Content") -> "Content":
        if other is _NONE:
            return self
        if self is _NONE:
            return other
        children = dict(self.children)
        for place, fit in other.children.items():
            if place not in children or fit.badness < children[place].badness:
                children[place] = fit
        return Content(
            self.gain + other.gain,
            {**other.attributes, **self.attributes},
            children,
            self.missing + other.missing,
            self.text or other.text,
            self.misplaced + other.misplaced,
        )


_NONE = Content()


@dataclass(frozen=True, slots=True)
class Fit:
    """An element beside its pattern.

    Attributes:
        badness: Number of faults in the element and below.
    """

    node: Node
    pattern: Element
    instance: Instance
    content: Content
    badness: int


class Fitter:
    """Fits the elements of one document to one grammar; every pair is looked at once."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self._fits: dict[tuple[Node, Element], Fit] = {}

    def fit(self, node: Node, pattern: Element, depth: int = 0) -> Fit:
        """Fit an element and everything below it."""
        key = (node, pattern)
        if key not in self._fits:
            instance = read_instance(node, self.grammar.names(pattern.content))
            content = _NONE
            if pattern.name != "*" and depth < _MAX_DEPTH:
                content = self.content(pattern.content, instance, depth)
                badness = _badness(instance, content)
            else:
                content = Content(children={})
                badness = 0
            self._fits[key] = Fit(node, pattern, instance, content, badness)
        return self._fits[key]

    def content(self, pattern: Pattern, instance: Instance, depth: int = 0) -> Content:
        """Fit an instance to the content of an element's pattern."""
        return self._content(pattern, instance, depth, frozenset(), many=False)

    def _content(
        self,
        pattern: Pattern,
        instance: Instance,
        depth: int,
        taken: frozenset[int],
        *,
        many: bool,
    ) -> Content:
        match pattern:
            case Ref(name):
                target = self.grammar.defines.get(name)
                if target is None:
                    return _NONE
                return self._content(target, instance, depth, taken, many=many)
            case All():
                return self._all(pattern, instance, depth, taken, many=many)
            case Choice():
                return self._choice(pattern, instance, depth, taken, many=many)
            case Many(part):
                return self._content(part, instance, depth, taken, many=True)
            case Attribute():
                return self._attribute(pattern, instance)
            case Element():
                return self._element(pattern, instance, depth, taken, many=many)
            case Nothing(allowed):
                return _NONE if allowed else Content(_NEVER)
            case Text():
                return Content(text=(True, pattern))
            case _:
                right = self.grammar.accepts(pattern, instance.text)
                wrong = _WRONG if instance.text else _MISSING
                return Content(_RIGHT if right else wrong, text=(right, pattern))

    def _all(
        self, pattern: All, instance: Instance, depth: int, taken: frozenset[int], *, many: bool
    ) -> Content:
        content = _NONE
        last = -1
        for part in pattern.parts:
            if self._passes_by(part, instance):
                continue
            own = self._content(part, instance, depth, taken, many=many)
            if pattern.ordered and not many and own.children and min(own.children) < last:
                own += Content(misplaced=((last, min(own.children)),))
            content += own
            last = max(last, *own.children, last)
            if not many:
                taken = taken | own.children.keys()
        return content

    def _choice(
        self, pattern: Choice, instance: Instance, depth: int, taken: frozenset[int], *, many: bool
    ) -> Content:
        best: Content | None = None
        union = _NONE
        for part in pattern.parts:
            if self._passes_by(part, instance):
                own = _NONE
            else:
                own = self._content(part, instance, depth, taken, many=many)
            if many and own.gain > 0:
                union += own
            if best is None or own.gain > best.gain:
                best = own
        if many and union.gain > 0:
            return union
        return best or _NONE

    def _passes_by(self, pattern: Pattern, instance: Instance) -> bool:
        """Whether the pattern neither demands anything nor speaks of anything that is there."""
        names = self.grammar.names(pattern)
        return (
            names.isdisjoint(instance.names)
            and names.isdisjoint(("*", "@*"))
            and self.grammar.nullable(pattern)
        )

    def _attribute(self, pattern: Attribute, instance: Instance) -> Content:
        if pattern.name == "*":
            return Content(attributes=dict.fromkeys(instance.attributes, (True, pattern)))
        value = instance.attributes.get(pattern.name)
        if value is None:
            return Content(_MISSING, missing=(pattern,))
        right = self.grammar.accepts(pattern.content, value)
        gain = _RIGHT if right else _WRONG
        if right and all(isinstance(leaf, Value) for leaf in self.grammar.leaves(pattern.content)):
            gain = _PICK if pattern.name in _PICKING else _WORD
        return Content(gain, attributes={pattern.name: (right, pattern)})

    def _element(
        self, pattern: Element, instance: Instance, depth: int, taken: frozenset[int], *, many: bool
    ) -> Content:
        places = [
            place
            for place, (name, _) in enumerate(instance.children)
            if pattern.name in ("*", name)
        ]
        if not places:
            return Content(_MISSING, missing=(pattern,))
        free = [place for place in places if place not in taken]
        fits = {place: self.fit(instance.children[place][1], pattern, depth + 1) for place in free}
        if fits and not many:
            nearest = min(fits, key=lambda place: fits[place].badness)
            fits = {nearest: fits[nearest]}
        gain = sum(_RIGHT - 0.9 * fit.badness / (fit.badness + 1) for fit in fits.values())
        return Content(gain, children=fits)


def _badness(instance: Instance, content: Content) -> int:
    stray = len(instance.attributes) - len(content.attributes)
    stray += len(instance.children) - len(content.children)
    wrong = sum(not right for right, _ in content.attributes.values())
    if content.text is None:
        wrong += bool(instance.text)
    else:
        wrong += not content.text[0]
    below = sum(fit.badness for fit in content.children.values())
    local = len(instance.meant) + len(content.missing) + len(content.misplaced)
    return stray + wrong + below + local
