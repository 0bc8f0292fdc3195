"""Lay the children of an element in the order in which its schema names them.

libxml2 mishandles an ``interleave`` within a ``group`` within an ``interleave``: it refuses a
hostdev that has something between ``<driver>`` and ``<source>``. libvirt's schemas let the children
of a device stand in any order, and libvirt itself reads them by name. So what libxml2 refuses, and
no fault can be found in, is shown to it once more in the schema's own order.
"""

from lxml import etree

from launcher_hook.schema.fault import Element as Node
from launcher_hook.schema.fit import Fit, Fitter
from launcher_hook.schema.pattern import (
    All,
    Attribute,
    Choice,
    Element,
    Grammar,
    Many,
    Pattern,
    Ref,
)


def in_schema_order(grammar: Grammar, node: Node, pattern: Element) -> Node:
    """Copy an element that has no fault to be named, with its children in the schema's order.

    Children that must follow each other in turn (a repeated group) stay as they are.
    """
    return _copy(grammar, Fitter(grammar).fit(node, pattern))


def _copy(grammar: Grammar, fit: Fit) -> Node:
    copy = etree.Element(fit.node.tag, dict(fit.node.attrib), nsmap=fit.node.nsmap)
    copy.text = fit.node.text
    fits = [fit.content.children[place] for place in sorted(fit.content.children)]
    if not _repeats_in_turn(grammar, fit.pattern.content):
        leaves = {leaf: turn for turn, leaf in enumerate(grammar.leaves(fit.pattern.content))}
        fits.sort(key=lambda child: leaves.get(child.pattern, len(leaves)))
    copy.extend(_copy(grammar, child) for child in fits)
    return copy


def _repeats_in_turn(grammar: Grammar, pattern: Pattern, *, many: bool = False) -> bool:
    """Whether a group of several elements, whose order counts, may stand more than once."""
    match pattern:
        case Ref(name):
            target = grammar.defines.get(name)
            return target is not None and _repeats_in_turn(grammar, target, many=many)
        case Many(part):
            return _repeats_in_turn(grammar, part, many=True)
        case All(parts=parts, ordered=ordered):
            elements = [part for part in parts if _has_elements(grammar, part)]
            if many and ordered and len(elements) > 1:
                return True
            return any(_repeats_in_turn(grammar, part, many=many) for part in elements)
        case Choice(parts):
            return any(_repeats_in_turn(grammar, part, many=many) for part in parts)
        case _:
            return False


def _has_elements(grammar: Grammar, pattern: Pattern) -> bool:
    return not isinstance(pattern, Attribute) and any(
        isinstance(leaf, Element) for leaf in grammar.leaves(pattern)
    )
