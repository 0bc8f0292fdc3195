"""Check an edit: strict on what we wrote, differential on the rest.

No domain that virt-launcher writes fits libvirt's schema, and libvirt defines them all.  So what
was wrong before us stays as it is; we refuse only what we brought ourselves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy

from launcher_hook.errors import SchemaError
from launcher_hook.schema.fault import Element, Fault
from launcher_hook.schema.rules import rule_faults, rule_findings
from launcher_hook.schema.sets import SchemaSet

# A hostdev's parts that we write; anything else in one was there and is kept.
_OUR_ATTRIBUTES = ("mode", "type", "managed", "model")
_OUR_CHILDREN = ("source", "alias", "address")


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
            if faults and schemas.fragment_faults(_our_parts(element), "hostdev"):
                _refuse(faults)
            yield from faults


def _our_parts(hostdev: Element) -> Element:
    """A copy of a hostdev without what somebody else put there."""
    copy = deepcopy(hostdev)
    for name in [name for name in copy.attrib if name not in _OUR_ATTRIBUTES]:
        del copy.attrib[name]
    for child in [child for child in copy if child.tag not in _OUR_CHILDREN]:
        copy.remove(child)
    return copy


def _check_rules(
    written: Sequence[Element], before_root: Element, after_root: Element
) -> Iterator[Fault]:
    findings = rule_findings(after_root)
    if not findings:
        return
    known = Counter((fault.rule, fault.what) for fault in rule_faults(before_root))
    ours: list[Fault] = []
    for finding in findings:
        key = (finding.fault.rule, finding.fault.what)
        known[key] -= 1
        if known[key] < 0 and any(device in written for device in finding.devices):
            ours.append(finding.fault)
        else:
            yield finding.fault
    _refuse(ours)


def _check_document(
    before_root: Element, after_root: Element, schemas: SchemaSet, *, explain_before: bool
) -> Iterator[Fault]:
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
