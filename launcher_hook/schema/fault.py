"""One thing that is wrong in a domain XML, and where it stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from lxml import etree

Element = etree._Element


MOST_FAULTS = 100
"""Named of one document or device: nobody mends more at once, and each looks at its siblings."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a schema or a rule has against a domain, in the form of our errors.

    Attributes:
        path: ``/domain/devices/hostdev[2]/source/address/@bus``; something that is missing has
            the path of the element that it is missing from.
        line: In the text that was parsed; None for elements that we made.
        rule: Stable name of the rule (``guest-address-twice``); "" where a schema speaks.
    """

    path: str
    line: int | None
    what: str
    fix: str
    rule: str = ""

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path} (line {self.line})"
        return f"{where}: {self.what}; {self.fix}"


def fault_at(element: Element, what: str, fix: str, attribute: str = "", rule: str = "") -> Fault:
    """The fault of an element, or of one of its attributes."""
    path = element_path(element)
    if attribute:
        path += f"/@{local_name(attribute)}"
    return Fault(path, element.sourceline, what, fix, rule)


def first_faults(faults: Iterable[Fault], root: Element) -> tuple[Fault, ...]:
    """The first faults, and a last one that says so where there are more."""
    first = tuple(islice(faults, MOST_FAULTS + 1))
    if len(first) <= MOST_FAULTS:
        return first
    what = f"it has more than the {MOST_FAULTS} faults that are named"
    return (*first[:-1], fault_at(root, what, "mend these first"))


def element_path(element: Element) -> str:
    """XPath from the root of its tree, numbered where a name stands more than once.

    Unlike lxml's ``getpath`` it writes names where a default namespace is in force.
    """
    steps: list[str] = []
    node: Element | None = element
    while node is not None:
        parent = node.getparent()
        step = element_name(node)
        if parent is not None:
            namesakes = [child for child in parent if child.tag == node.tag]
            if len(namesakes) > 1:
                step += f"[{namesakes.index(node) + 1}]"
        steps.append(step)
        node = parent
    return "/" + "/".join(reversed(steps))


def element_name(element: Element) -> str:
    """The name as the text has it: ``qemu:commandline``."""
    name = local_name(full_name(element))
    return f"{element.prefix}:{name}" if element.prefix else name


def full_name(element: Element) -> str:
    """The name with its namespace, as lxml spells it: ``{http://...}commandline``."""
    return str(element.tag)


def local_name(name: str) -> str:
    """A name without its namespace: ``commandline`` of ``{http://...}commandline``."""
    return name.rpartition("}")[2]


def child_elements(element: Element) -> list[Element]:
    """The children that are elements: no comments, processing instructions or entities."""
    return [child for child in element if isinstance(child.tag, str)]
