"""Changes a document's elements and attributes, as bytes seldom are by chance: it stays XML."""

from collections.abc import Sequence
from copy import deepcopy
from random import Random

from lxml import etree

TEXTS = ("x", "0", "3", "\n  ")
_MOST_COPIED = 60
"""Elements at once; they would soon be thousands."""
_MANY = 300
"""Copies of one leaf: what is read for each must not add up."""


def change_elements(document: bytes, random: Random, values: Sequence[str]) -> bytes:
    """Copy, move, remove, rename a few elements and attributes; what is no XML comes back as it is.

    Args:
        document: XML.
        random: Decides.
        values: What attributes may be set to, besides what others have.
    """
    try:
        root = etree.fromstring(document)
    except (etree.XMLSyntaxError, ValueError):
        return document
    for _ in range(random.choice((1, 1, 2, 3, 5, 8))):
        _change(root, random, values)
    return etree.tostring(root)


def _change(root: etree._Element, random: Random, values: Sequence[str]) -> None:
    elements = [element for element in root.iter() if isinstance(element.tag, str)]
    one, other = random.choice(elements), random.choice(elements)
    parent = one.getparent()
    match random.randrange(8):
        case 0 if parent is not None and len(list(one.iter())) <= _MOST_COPIED:
            parent.insert(random.randrange(len(parent) + 1), deepcopy(one))
        case 1 if len(list(one.iter())) <= _MOST_COPIED:
            other.append(deepcopy(one))
        case 2 if parent is not None:
            parent.remove(one)
        case 3 if one.attrib:
            one.set(random.choice(list(one.attrib)), random.choice(values))
        case 4 if one.attrib:
            del one.attrib[random.choice(list(one.attrib))]
        case 5 if other.attrib:
            name = random.choice(list(other.attrib))
            one.set(name, other.get(name))
        case 6:
            one.tag = other.tag
        case 7 if parent is not None and not len(one):
            for _ in range(random.choice((2, 30, _MANY))):
                parent.append(deepcopy(one))
        case _:
            one.text = random.choice(TEXTS)
