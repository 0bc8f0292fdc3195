"""Check an edit: strict on what we wrote, differential on the rest.

No domain that virt-launcher writes fits libvirt's schema, and libvirt defines them all.  So what
was wrong before us stays as it is; we refuse only what we brought ourselves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy

from lxml import etree

from launcher_hook.errors import InputError, SchemaError
from launcher_hook.schema.fault import Element, Fault, fault_at
from launcher_hook.schema.rules import rule_faults, rule_findings
from launcher_hook.schema.sets import SchemaSet

# libxml2 takes a second for 40,000 foreign elements, and four times that for twice as many.
_MOST_ELEMENTS = 10_000

# What libvirt refuses; the rest of the rules are about what it lets pass and the guest does not.
_REFUSED_BY_LIBVIRT = (
    "guest-address-twice",
    "guest-domain",
    "slot-of-port",
    "not-a-port",
    "alias-twice",
    "source-twice",
)


def check_written(
    written: Sequence[Element],
    before_root: Element,
    after_root: Element,
    schemas: SchemaSet,
    *,
    explain_before: bool = False,
) -> tuple[Fault, ...]:
    """Check a domain after our edit against the domain as it was handed to us.

    Args:
        written: The elements of ``after_root`` that we wrote or changed.
        before_root: The domain before the edit; not the same tree.
        after_root: The domain that is to be handed on.
        schemas: What to check against.
        explain_before: Also name what was wrong in an invalid domain before us: tens of
            milliseconds.

    Returns:
        What is wrong but not our doing, for the log.

    Raises:
        SchemaError: Something that we wrote is wrong.
        InputError: A device of ours came with something that libvirt would refuse.
    """
    warnings = [
        *_check_fragments(written, schemas),
        *_check_rules(written, before_root, after_root),
        *_check_document(before_root, after_root, schemas, explain_before=explain_before),
    ]
    return tuple(dict.fromkeys(warnings))


def _check_fragments(written: Sequence[Element], schemas: SchemaSet) -> Iterator[Fault]:
    if schemas.fragments_valid(written):
        return
    for element in written:
        if element.tag == "controller":
            _refuse(schemas.fragment_faults(element, "controller"))
        elif element.tag == "hostdev":
            faults = schemas.fragment_faults(element, "hostdev")
            if faults and schemas.fragment_faults(our_parts(element), "hostdev"):
                _refuse(faults)
            yield from faults


def our_parts(hostdev: Element) -> Element:
    """A copy of a hostdev with only what we write; anything else was there and is kept."""
    attributes = ("mode", "type", "managed" if hostdev.get("type") == "pci" else "model")
    values = ((name, hostdev.get(name)) for name in attributes)
    copy = etree.Element("hostdev", {name: value for name, value in values if value is not None})
    for path in ("source/address", "alias", "address"):
        found = hostdev.find(path)
        if found is not None:
            parent = etree.SubElement(copy, "source") if path.startswith("source") else copy
            parent.append(deepcopy(found))
    return copy


def _check_rules(
    written: Sequence[Element], before_root: Element, after_root: Element
) -> Iterator[Fault]:
    findings = rule_findings(after_root)
    if not findings:
        return
    known = Counter((fault.rule, fault.what) for fault in rule_faults(before_root))
    ours: list[Fault] = []
    elements = set(written)
    for finding in findings:
        key = (finding.fault.rule, finding.fault.what)
        known[key] -= 1
        involves_us = not elements.isdisjoint(finding.devices)
        if involves_us and known[key] < 0:
            ours.append(finding.fault)
        elif involves_us and finding.fault.rule in _REFUSED_BY_LIBVIRT:
            fault = finding.fault
            place = fault.path if fault.line is None else f"{fault.path} (line {fault.line})"
            raise InputError(place, fault.what, fault.fix)
        else:
            yield finding.fault
    _refuse(ours)


def _check_document(
    before_root: Element, after_root: Element, schemas: SchemaSet, *, explain_before: bool
) -> Iterator[Fault]:
    if after_root.xpath(f"count(//*) > {_MOST_ELEMENTS}"):
        what = f"the domain has more than {_MOST_ELEMENTS} elements: only our part was checked"
        yield fault_at(after_root, what, "see what fills it; a domain has some hundreds")
        return
    if schemas.document_valid(before_root):
        if not schemas.document_valid(after_root):
            _refuse(schemas.document_faults(after_root))
    elif explain_before:
        yield from schemas.document_faults(before_root)


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        first, *others = faults
        more = f" (and {len(others)} more: {'; '.join(map(str, others))})" if others else ""
        raise SchemaError(first.path, first.what, first.fix + more)
