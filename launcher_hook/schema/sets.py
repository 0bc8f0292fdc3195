"""What a domain is checked against: libvirt's schemas of one version, or our own XSD."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lxml import etree

from launcher_hook.schema.fault import Element, Fault, element_name, fault_at

if TYPE_CHECKING:
    from launcher_hook.schema.pattern import Grammar

FragmentName = Literal["hostdev", "controller"]

# One compiled grammar (4 MB) serves the whole document and the fragments: each start is an element
# of another name.  domain.rng's own start is overridden.  Many fragments in one wrapper take two
# thirds of the time that they take one by one.
_WRAPPER = "fragments"
_START = f"""<grammar xmlns="http://relaxng.org/ns/structure/1.0">
<include href="domain.rng"><start><choice>
<ref name="domain"/><ref name="hostdev"/><ref name="controller"/>
<element name="{_WRAPPER}"><zeroOrMore><choice>
<ref name="hostdev"/><ref name="controller"/>
</choice></zeroOrMore></element>
</choice></start></include></grammar>"""


UNNAMED = "unnamed"
"""The rule of a fault whose reason the fault finder does not find. libvirt itself does not check a
domain against its schema unless it is asked to, so such a fault alone refuses nothing."""

_WITH_MODEL = """<hostdev mode="subsystem" type="pci" managed="yes">
<source><address domain="0x0000" bus="0x01" slot="0x00" function="0x0"/></source>
<driver name="vfio" model="vfio-pci"/><alias name="ua-x"/></hostdev>"""

# The fault finder takes a second and 40 MB for three times as many.
_MOST_EXPLAINED = 5_000


class SchemaSet(ABC):
    """One set of schemas; compiled when first asked.

    Attributes:
        name: ``libvirt 11.3.0``, ``libvirt (system)`` or
            ``passthrough.xsd (no libvirt schemas installed)``.
        is_libvirts: False for our own XSD, which knows our devices only.
    """

    name: str
    is_libvirts: bool = True

    @abstractmethod
    def fragment_faults(
        self, element: Element, start: FragmentName = "hostdev"
    ) -> tuple[Fault, ...]:
        """Check one device where it stands; its tree is neither copied nor changed."""

    def fragments_valid(self, elements: Sequence[Element]) -> bool:
        """Whether all of these hostdevs and controllers fit, each on its own; no reasons."""
        return not any(
            self.fragment_faults(element, "hostdev" if element.tag == "hostdev" else "controller")
            for element in elements
        )

    @cached_property
    def knows_driver_model(self) -> bool:
        """Whether a hostdev's ``<driver>`` may have a ``model``: libvirt 9.0 has none, 11.3 has."""
        return self.fragments_valid([etree.fromstring(_WITH_MODEL)])

    @abstractmethod
    def document_valid(self, root: Element) -> bool:
        """Whether the whole domain fits: under a millisecond, no reasons."""

    @abstractmethod
    def document_faults(self, root: Element) -> tuple[Fault, ...]:
        """Everything that is wrong in the domain, in document order."""


class LibvirtSchemas(SchemaSet):
    """libvirt's RELAX NG files of one version."""

    def __init__(self, directory: Path, version: str) -> None:
        self.name = "libvirt (system)" if version == "system" else f"libvirt {version}"
        self._directory = directory.resolve()

    @cached_property
    def _validator(self) -> etree.RelaxNG:
        base_url = (self._directory / "start.rng").as_uri()
        return etree.RelaxNG(etree.fromstring(_START, base_url=base_url))

    @cached_property
    def _grammar(self) -> "Grammar":
        """For the fault finder only: a document without faults never loads it."""
        from launcher_hook.schema.rng import read_grammar

        return read_grammar(self._directory / "domain.rng")

    def fragment_faults(
        self, element: Element, start: FragmentName = "hostdev"
    ) -> tuple[Fault, ...]:
        """Check one device; the fault finder is asked only where libxml2 refuses it."""
        return self._faults(element, start)

    def fragments_valid(self, elements: Sequence[Element]) -> bool:
        """Ask libxml2, with copies of them all in one go."""
        wrapper = etree.Element(_WRAPPER)
        wrapper.extend(deepcopy(element) for element in elements)
        return self._validator.validate(wrapper)

    def document_valid(self, root: Element) -> bool:
        """Ask libxml2."""
        return root.tag == "domain" and self._validator.validate(root)

    def document_faults(self, root: Element) -> tuple[Fault, ...]:
        """Everything that is wrong in the domain, from domain to the last device."""
        return self._faults(root, "domain")

    def _faults(self, element: Element, start: str) -> tuple[Fault, ...]:
        if element.tag != start:
            what = f"<{element_name(element)}> stands where <{start}> is expected"
            return (fault_at(element, what, f"write <{start}>"),)
        if self._validator.validate(element):
            return ()
        if element.xpath(f"count(.//*) > {_MOST_EXPLAINED}"):
            what = f"<{start}> does not fit the schema of {self.name}, and has more than "
            fix = "see what fills it; a domain has some hundreds"
            return (fault_at(element, f"{what}{_MOST_EXPLAINED} elements", fix),)
        # The fault finder is a tenth of what a server has to load, and most never need it.
        from launcher_hook.schema.culprit import find_faults
        from launcher_hook.schema.order import in_schema_order

        pattern = self._grammar.element(start)
        if pattern is None:
            return (_unnamed(element, start, self.name),)
        faults = find_faults(self._grammar, element, pattern)
        if not faults and not self._validator.validate(
            in_schema_order(self._grammar, element, pattern)
        ):
            return (_unnamed(element, start, self.name),)
        return faults


def named_faults(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Those with a reason."""
    return tuple(fault for fault in faults if fault.rule != UNNAMED)


def _unnamed(element: Element, start: str, schemas: str) -> Fault:
    what = f"<{start}> does not fit the schema of {schemas}, for no reason that we can name"
    fix = "compare it with libvirt's documentation of the element"
    return fault_at(element, what, fix, rule=UNNAMED)
