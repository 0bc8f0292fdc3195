"""Read passthrough.xsd aloud: which part an element breaks, and what that part is for.

The only module that imports ``xmlschema`` (12 MB): imported by the command line when it is asked,
never by the hook's server.
"""

import re
from copy import deepcopy
from functools import lru_cache
from typing import cast
from xml.etree import ElementTree

import xmlschema
from xmlschema import XMLSchemaValidationError

from launcher_hook.schema.fault import Element, Fault, element_path, full_name
from launcher_hook.schema.find import passthrough_xsd
from launcher_hook.schema.xsd import XSD_NAME, is_covered, type_faults

_ATTRIBUTE = re.compile(r"attribute (\w+)=|'(\w+)' attribute not allowed")


def explain(element: Element) -> tuple[Fault, ...]:
    """Explain what our XSD has against a device, in the XSD's own documentation.

    Returns:
        Nothing where the device is valid, or of a kind that the XSD does not know.
    """
    if not is_covered(element):
        return ()
    # xmlschema takes lxml's elements; its annotations speak of the standard library's only.
    errors = _schema().iter_errors(cast("ElementTree.Element", _with_our_address_only(element)))
    return (*(_fault(error, element) for error in errors), *type_faults(element))


def _with_our_address_only(element: Element) -> Element:
    """Give a device without an address that keeps it out of the guest; the XSD has none such."""
    if all(address.get("type") != "unassigned" for address in element.iterchildren("address")):
        return element
    copy = deepcopy(element)
    for address in copy.findall("address"):
        if address.get("type") == "unassigned":
            copy.remove(address)
    return copy


@lru_cache(maxsize=1)
def _schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(passthrough_xsd()))


def _fault(error: XMLSchemaValidationError, element: Element) -> Fault:
    reason = error.reason or "is not valid"
    path = element_path(element) + (error.path or "").removeprefix(f"/{full_name(element)}")
    attribute = _ATTRIBUTE.search(reason)
    if attribute:
        path += f"/@{attribute.group(1) or attribute.group(2)}"
    line = getattr(error.elem, "sourceline", None)
    key = _broken_key(reason)
    if key:
        return Fault(path, line, key, f"write the parts of it that {XSD_NAME} demands")
    documentation = _documentation(error.validator)
    fix = f"{XSD_NAME} says: {documentation}" if documentation else f"see {XSD_NAME}"
    return Fault(path, line, reason.rstrip("."), fix)


def _broken_key(reason: str) -> str:
    """What a key says whose field the reason quotes; xmlschema itself names only the XPath."""
    for key in _schema().identities.values():
        if any(f"'{field.path}'" in reason for field in key.fields):
            return _documentation(key)
    return ""


def _documentation(component: object) -> str:
    """The documentation of a schema component, or of the nearest one around it."""
    while component is not None:
        annotation = getattr(component, "annotation", None)
        if annotation is not None:
            text = "".join(text for part in annotation.documentation for text in part.itertext())
            return " ".join(text.split()).rstrip(".")
        component = getattr(component, "parent", None)
    return ""
