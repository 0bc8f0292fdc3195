"""Find what is wrong in an element that libxml2 only calls invalid, and say it in sentences.

libxml2's own words are "Extra element devices in interleave" for almost every fault, because
nearly all of libvirt's content is a choice within an interleave and it keeps the last failure.
"""

from collections.abc import Iterator

from launcher_hook.errors import shorten
from launcher_hook.schema.describe import describe, one_of
from launcher_hook.schema.fault import Element as Node
from launcher_hook.schema.fault import (
    Fault,
    element_name,
    fault_at,
    first_faults,
    full_name,
    local_name,
)
from launcher_hook.schema.fit import Fit, Fitter
from launcher_hook.schema.instance import nearest
from launcher_hook.schema.pattern import Attribute, Element, Grammar, Pattern, Text, Value

# Attributes that pick one of the alternatives which an element has, in libvirt's habit.
_DISCRIMINATORS = ("mode", "type", "model", "device", "bus", "protocol")


def find_faults(grammar: Grammar, node: Node, pattern: Element) -> tuple[Fault, ...]:
    """Name every fault of an element that does not fit its pattern, in document order.

    Returns:
        Nothing where the element fits, and where it does not for a reason that does not show:
        libxml2 refuses a child for its place (see ``order``).
    """
    fitter = Fitter(grammar)
    return first_faults(_faults(fitter, fitter.fit(node, pattern)), node)


def _faults(fitter: Fitter, fit: Fit) -> Iterator[Fault]:
    if fit.badness:
        yield from _attribute_faults(fitter, fit)
        yield from _missing_faults(fitter, fit)
        yield from _text_faults(fitter.grammar, fit)
        yield from _stray_child_faults(fitter.grammar, fit)
        yield from _order_faults(fit)
        for place in sorted(fit.content.children):
            yield from _faults(fitter, fit.content.children[place])


def _attribute_faults(fitter: Fitter, fit: Fit) -> Iterator[Fault]:
    node, known = fit.node, fitter.grammar.names(fit.pattern.content)
    for actual in map(str, node.attrib):
        meant = fit.instance.meant.get(f"@{actual}")
        name = actual if meant is None else meant[1:]
        if meant is not None:
            what = f"attribute {shorten(actual)} is not known in <{element_name(node)}>"
            yield fault_at(node, what, f"write {name!r}", actual)
        if name not in fit.content.attributes:
            if f"@{name}" in known:
                what = f"attribute {shorten(name)} is not allowed in this <{element_name(node)}>"
                yield fault_at(node, _with_reason(what, fit), "remove it", actual)
            else:
                what = f"attribute {shorten(name)} is not known in <{element_name(node)}>"
                yield fault_at(node, what, _remove_or_write(known, "@"), actual)
            continue
        right, attribute = fit.content.attributes[name]
        if not right:
            yield _value_fault(fitter, fit, attribute, actual)


def _value_fault(fitter: Fitter, fit: Fit, attribute: Attribute, actual: str) -> Fault:
    value = fit.instance.attributes[attribute.name]
    words = _words(fitter, fit, attribute)
    if not words:
        what = f"{local_name(attribute.name)} {shorten(value)} is not allowed here"
        return fault_at(
            fit.node, what, f"write {describe(fitter.grammar, attribute.content)}", actual
        )
    what = f"{local_name(attribute.name)} {shorten(value)} is not {one_of(words)}"
    likely = words if len(words) == 1 else nearest(value, words)
    fix = f"write {likely[0]!r}" if likely else "write one of these"
    return fault_at(fit.node, what, fix, actual)


def _words(fitter: Fitter, fit: Fit, attribute: Attribute) -> list[str]:
    """The words that an attribute may have, whichever alternative they belong to.

    Where other attributes already speak for an alternative, only words that agree with them.
    Empty where the attribute's values cannot be counted.
    """
    grammar = fitter.grammar
    words: dict[str, None] = {}
    for leaf in grammar.leaves(fit.pattern.content):
        if isinstance(leaf, Attribute) and leaf.name == attribute.name:
            for value in grammar.leaves(leaf.content):
                if isinstance(value, Value):
                    words[value.text] = None
                elif leaf is attribute:
                    return []
    agreeing = [word for word in words if _strays_with(fitter, fit, attribute.name, word) == 0]
    return agreeing or list(words)


def _strays_with(fitter: Fitter, fit: Fit, name: str, word: str) -> int:
    """How many attributes would be left over or wrong if one of them had this value."""
    trial = fit.instance.only_attributes({**fit.instance.attributes, name: word})
    content = fitter.content(fit.pattern.content, trial)
    wrong = sum(not right for right, _ in content.attributes.values())
    return len(trial.attributes) - len(content.attributes) + wrong


def _missing_faults(fitter: Fitter, fit: Fit) -> Iterator[Fault]:
    for leaf in dict.fromkeys(fit.content.missing):
        name = local_name(leaf.name)
        if isinstance(leaf, Element):
            what = f"<{name}> is missing in <{element_name(fit.node)}>"
            yield fault_at(fit.node, _with_reason(what, fit), f"add <{name}>")
        else:
            what = f"attribute {name!r} is missing in <{element_name(fit.node)}>"
            words = _words(fitter, fit, leaf)
            values = one_of(words) if words else describe(fitter.grammar, leaf.content)
            yield fault_at(fit.node, _with_reason(what, fit), f"add {name}= with {values}")


def _text_faults(grammar: Grammar, fit: Fit) -> Iterator[Fault]:
    text, name = fit.instance.text, element_name(fit.node)
    if fit.content.text is None:
        if text:
            what = f"text {_shortened(text)} stands in <{name}>, which takes none"
            yield fault_at(fit.node, what, "remove it")
    elif not fit.content.text[0]:
        what = f"text {_shortened(text)} is not allowed in <{name}>"
        yield fault_at(fit.node, what, f"write {_describe_text(grammar, fit.pattern.content)}")


def _describe_text(grammar: Grammar, content: Pattern) -> str:
    whole = describe(grammar, content)
    if whole != "text":
        return whole
    texts = [leaf for leaf in grammar.leaves(content) if not isinstance(leaf, Attribute | Element)]
    return " or ".join(
        dict.fromkeys(describe(grammar, leaf) for leaf in texts if not isinstance(leaf, Text))
    )


def _stray_child_faults(grammar: Grammar, fit: Fit) -> Iterator[Fault]:
    known = grammar.names(fit.pattern.content)
    claimed = {fit.instance.children[place][0] for place in fit.content.children}
    parent = element_name(fit.node)
    for place, (name, child) in enumerate(fit.instance.children):
        actual = element_name(child)
        if full_name(child) in fit.instance.meant:
            what = f"<{actual}> is not known in <{parent}>"
            yield fault_at(child, what, f"write <{local_name(name)}>")
        elif place in fit.content.children:
            continue
        elif name in claimed:
            yield fault_at(child, f"<{actual}> stands in <{parent}> once too often", "keep one")
        elif name in known:
            what = f"<{actual}> is not allowed in this <{parent}>"
            yield fault_at(child, _with_reason(what, fit), "remove it")
        else:
            what = f"<{actual}> is not known in <{parent}>"
            yield fault_at(child, what, _where_it_belongs(grammar, fit, name))


def _where_it_belongs(grammar: Grammar, fit: Fit, name: str) -> str:
    """What to do with a child that its parent does not know: often it slipped a level."""
    for leaf in grammar.leaves(fit.pattern.content):
        if isinstance(leaf, Element) and leaf.name != "*":
            inside = grammar.names(leaf.content)
            if name in inside:
                return f"move it into <{local_name(leaf.name)}>"
    return _remove_or_write(grammar.names(fit.pattern.content), "")


def _remove_or_write(known: frozenset[str], sign: str) -> str:
    """What to do with a name that is nothing like any of the known ones."""
    if sign:
        names = sorted(name[1:] for name in known if name.startswith(sign))
    else:
        names = sorted(f"<{local_name(name)}>" for name in known if name[0] not in "@#*")
    if not names or len(names) > 8:
        return "remove it"
    return f"remove it (known here: {', '.join(names)})"


def _order_faults(fit: Fit) -> Iterator[Fault]:
    for earlier, later in fit.content.misplaced:
        first, second = fit.instance.children[later], fit.instance.children[earlier]
        what = f"<{local_name(first[0])}> stands after <{local_name(second[0])}>"
        yield fault_at(first[1], what, "change their order")


def _with_reason(what: str, fit: Fit) -> str:
    """Add the attributes that picked the alternative: ``with type='pci'``."""
    reasons = [
        f"{name}={shorten(fit.instance.attributes[name])}"
        for name in _DISCRIMINATORS
        if name in fit.content.attributes and fit.content.attributes[name][0]
    ]
    return f"{what} with {' '.join(reasons)}" if reasons else what


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
