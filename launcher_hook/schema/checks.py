"""Check an edit: strict on what we wrote, differential on the rest.

No domain that virt-launcher writes fits libvirt's schema, and libvirt defines them all.  So what
was wrong before us stays as it is; we refuse only what we brought ourselves.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lxml import etree

from launcher_hook.domain.address import read_guest_address
from launcher_hook.domain.inspect import ROOT_MODELS, read_machine
from launcher_hook.errors import InputError, SchemaError
from launcher_hook.model import Machine
from launcher_hook.schema.fault import Element, Fault, fault_at, first_faults
from launcher_hook.schema.guest import read_guest
from launcher_hook.schema.rules import Finding, rule_findings
from launcher_hook.schema.sets import FragmentName, SchemaSet, named_faults
from launcher_hook.vfio import VFIO_PCI

# libxml2 takes a second for 40,000 foreign elements, and four times that for twice as many.
_MOST_ELEMENTS = 10_000
_IS_LARGE = etree.XPath(f"count(//*) > {_MOST_ELEMENTS}")

# What libvirt refuses; the rest of the rules are about what it lets pass and the guest does not.
_REFUSED_BY_LIBVIRT = (
    "guest-address-twice",
    "guest-domain",
    "slot-of-port",
    "not-a-port",
    "alias-twice",
    "source-twice",
)


@dataclass(frozen=True, slots=True)
class Before:
    """What is to be remembered of a domain that will be edited: a second tree would be megabytes.

    Attributes:
        explain: Whether to name what was wrong before us: tens of milliseconds.
        checked: Whether it was checked as a whole.
        valid: Whether it was valid then.
        faults: What was wrong, where that was asked for.
        broken: How often each rule was broken in which way.
    """

    explain: bool
    checked: bool
    valid: bool
    faults: tuple[Fault, ...]
    broken: Mapping[tuple[str, str], int]


def look_before(root: Element, schemas: SchemaSet, *, explain: bool = False) -> Before:
    """Look at a domain as it was handed to us, before the edit.

    Args:
        root: The domain.
        schemas: What to check against.
        explain: Whether to name what is wrong before us: tens of milliseconds.
    """
    checked = not _IS_LARGE(root)
    valid = checked and schemas.document_valid(root)
    faults = schemas.document_faults(root) if explain and checked and not valid else ()
    broken = Counter((finding.rule, finding.what) for finding in rule_findings(root))
    return Before(explain, checked, valid, faults, broken)


def check_written(
    written: Sequence[Element], before: Before, after_root: Element, schemas: SchemaSet
) -> tuple[Fault, ...]:
    """Check a domain after our edit against the domain as it was handed to us.

    Args:
        written: The elements of ``after_root`` that we wrote or changed.
        before: The domain before the edit.
        after_root: The domain that is to be handed on.
        schemas: What to check against.

    Returns:
        What is wrong but not our doing, for the log; nothing where nobody wants to know.

    Raises:
        SchemaError: Something that we wrote is wrong.
        InputError: A device of ours came with something that libvirt would refuse.
    """
    with _without_unknown_model(written, schemas):
        warnings = [
            *_check_fragments(written, before, schemas),
            *_check_rules(written, before, after_root),
            *_check_document(before, after_root, schemas),
        ]
    return tuple(dict.fromkeys(warnings))


@contextmanager
def _without_unknown_model(written: Sequence[Element], schemas: SchemaSet) -> Iterator[None]:
    """Leave out our ``<driver model='vfio-pci'/>`` while a libvirt is asked that has no models.

    Such a libvirt (9.0) overlooks the attribute, and binds to vfio-pci as it always did.
    """
    drivers = [] if schemas.knows_driver_model else list(_drivers_with_our_model(written))
    whole = [dict(driver.attrib) for driver in drivers]
    for driver in drivers:
        del driver.attrib["model"]
    try:
        yield
    finally:
        for driver, attributes in zip(drivers, whole, strict=True):
            driver.attrib.clear()
            driver.attrib.update(attributes)  # in the order that they had


def _drivers_with_our_model(written: Sequence[Element]) -> Iterator[Element]:
    for element in written:
        driver = element.find("driver") if element.tag == "hostdev" else None
        if driver is not None and driver.get("model") == VFIO_PCI:
            yield driver


def _check_fragments(
    written: Sequence[Element], before: Before, schemas: SchemaSet
) -> Iterator[Fault]:
    if schemas.fragments_valid(written):
        return
    laid_out = read_machine(written[0].getroottree().getroot())[0] is not Machine.OTHER
    ours = [our_parts(element, laid_out=laid_out) for element in written]
    if schemas.fragments_valid(ours) and not before.explain:
        return  # the fault finder is a tenth of what a server has to load
    for element, part in zip(written, ours, strict=True):
        name: FragmentName = "controller" if element.tag == "controller" else "hostdev"
        faults = schemas.fragment_faults(element, name)
        if faults and named_faults(schemas.fragment_faults(part, name)):
            _refuse(faults)
        yield from faults


# What we write of an element and below it; None is every attribute (domain/edit: _WHOLLY_OURS).
_OURS: Mapping[str, Mapping[str, Sequence[str] | None]] = {
    "controller": {
        "": ("type", "index", "model"),
        "target": ("chassis", "port", "busNr"),
        "target/node": (),
        "address": None,
    },
    "root": {"": ("type", "index", "model"), "pcihole64": ("unit",)},  # bus 0's controller
    "hostdev": {"": ("mode", "type"), "source/address": None, "alias": None, "address": None},
}


def our_parts(element: Element, *, laid_out: bool = True) -> Element:
    """A copy of a device with only what we write; anything else was there and is kept.

    Args:
        element: A hostdev or controller.
        laid_out: Whether guest addresses are ours to write.
    """
    address = element.find("address")
    placed = laid_out and address is not None and read_guest_address(address, "") is not None
    copy = etree.Element(element.tag)
    is_root = element.tag == "controller" and element.get("model") in ROOT_MODELS
    for path, names in _OURS["root" if is_root else str(element.tag)].items():
        found = element.find(path) if path else element
        top, _, _ = path.partition("/")
        if found is None or (top in ("address", "target") and not placed):
            continue  # a port's target goes with its address
        there = copy
        for tag in filter(None, path.split("/")):
            below = there.find(tag)
            there = etree.SubElement(there, tag) if below is None else below
        there.text = found.text if path in ("target/node", "pcihole64") else None
        for name, value in found.attrib.items():
            if names is None or name in names:
                there.set(name, value)
    target = copy.find("target")
    if target is not None and element.get("model") != "pcie-expander-bus":
        target.attrib.pop("busNr", None)
        for node in target.findall("node"):
            target.remove(node)
    if element.tag == "hostdev":
        if element.get("type") != "pci":
            copy.set("model", "vfio-pci")  # another one was there
        elif element.get("managed") is not None:
            copy.set("managed", element.get("managed", ""))
    return copy


def _check_rules(
    written: Sequence[Element], before: Before, after_root: Element
) -> Iterator[Fault]:
    findings = rule_findings(after_root)
    if not findings:
        return
    known = Counter(before.broken)
    ours: list[Finding] = []
    others: list[Finding] = []
    elements = set(written)
    for finding in findings:
        key = (finding.rule, finding.what)
        known[key] -= 1
        involves_us = not elements.isdisjoint(finding.devices)
        if involves_us and known[key] < 0:
            if not _is_filled_by_libvirt(finding, after_root):
                ours.append(finding)
        elif involves_us and finding.rule in _REFUSED_BY_LIBVIRT:
            fault = finding.fault
            place = fault.path if fault.line is None else f"{fault.path} (line {fault.line})"
            raise InputError(place, fault.what, fault.fix)
        elif before.explain:
            others.append(finding)
    _refuse(first_faults((finding.fault for finding in ours), after_root))
    yield from first_faults((finding.fault for finding in others), after_root)


def _is_filled_by_libvirt(finding: Finding, root: Element) -> bool:
    """Whether a bus has no controller yet, and gets one because a higher bus is used.

    libvirt fills the gaps of a PCIe machine with root ports (domain_addr.c,
    virDomainPCIAddressSetGrow).
    """
    if finding.rule != "bus-without-controller":
        return False
    guest = read_guest(root)
    if guest.machine not in (Machine.Q35, Machine.VIRT):
        return False
    address = read_guest_address(finding.place, "")
    buses = (seat.address.bus for seat in guest.seats)
    return address is not None and address.bus < max((*guest.controllers, *buses))


def _check_document(before: Before, after_root: Element, schemas: SchemaSet) -> Iterator[Fault]:
    if not before.checked:
        what = f"the domain has more than {_MOST_ELEMENTS} elements: only our part was checked"
        yield fault_at(after_root, what, "see what fills it; a domain has some hundreds")
        return
    if before.valid and not schemas.document_valid(after_root):
        faults = schemas.document_faults(after_root)
        _refuse(named_faults(faults))
        yield from faults
    yield from before.faults


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        first, *others = faults
        more = f" (and {len(others)} more: {'; '.join(map(str, others))})" if others else ""
        raise SchemaError(first.path, first.what, first.fix + more)
