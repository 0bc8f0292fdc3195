"""passthrough.xsd as a schema set, for machines that have no libvirt schemas."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from lxml import etree

from launcher_hook.domain.inspect import ROOT_MODELS
from launcher_hook.errors import shorten
from launcher_hook.schema.fault import Element, Fault, element_path, fault_at, full_name
from launcher_hook.schema.sets import FragmentName, SchemaSet

XSD_NAME = "passthrough.xsd"
_XS = {"xs": "http://www.w3.org/2001/XMLSchema"}

_FIX = f"write it as {XSD_NAME} has it"
_ATTRIBUTE = re.compile(r"^Element '[^']*', attribute '([^']*)'")
_KEY = re.compile(r"key identity-constraint '([^']*)'")
_SPOKEN = re.compile(r"^Element '[^']*'(, attribute '[^']*')?: (\[facet '[^']*'\] )?")

# domaincommon.rng: kinds that libvirt has beside ours.  What is in neither list is a slip in ours.
_OTHER_HOSTDEVS = ("usb", "scsi", "scsi_host", "storage", "misc", "net")
_OTHER_CONTROLLERS = (
    "pci-bridge",
    "pci-expander-bus",
    "dmi-to-pci-bridge",
)


class PassthroughSchema(SchemaSet):
    """Our own XSD: says something about passed-through devices and the controllers above only."""

    name = f"{XSD_NAME} (no libvirt schemas installed)"
    is_libvirts = False

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _validator(self) -> etree.XMLSchema:
        return self._compiled()

    def _compiled(self) -> etree.XMLSchema:
        return etree.XMLSchema(etree.parse(self._path))

    def fragment_faults(
        self,
        element: Element,
        start: FragmentName = "hostdev",
    ) -> tuple[Fault, ...]:
        """Check one device; no faults where it is of a kind that the XSD does not know."""
        if element.tag != start:
            return (fault_at(element, f"<{start}> is expected here", f"write <{start}>"),)
        if not is_covered(element):
            return ()
        if self._validator.validate(element):
            return type_faults(element)
        # A validator keeps only its last log, and the hook's server has threads.
        validator = self._compiled()
        validator.validate(element)
        return (*self._read_log(validator, element), *type_faults(element))

    def document_valid(self, root: Element) -> bool:
        """Whether every element that the XSD knows is valid."""
        return all(
            self._validator.validate(element) and not type_faults(element)
            for element in _covered(root)
        )

    def document_faults(self, root: Element) -> tuple[Fault, ...]:
        """The faults of every element that the XSD knows."""
        return tuple(
            fault
            for element in _covered(root)
            for fault in self.fragment_faults(
                element, "hostdev" if element.tag == "hostdev" else "controller"
            )
        )

    def _read_log(self, validator: etree.XMLSchema, element: Element) -> Iterator[Fault]:
        """Turn libxml2's messages into faults; of several about one place the first says it."""
        seen: set[str] = set()
        top = element_path(element)
        for entry in validator.error_log:
            attribute = _ATTRIBUTE.match(entry.message)
            key = _KEY.search(entry.message)
            # libxml2 sees the element as the root of a document of its own.
            path = top + (entry.path or "").removeprefix(f"/{full_name(element)}")
            if attribute and not key:
                path += f"/@{attribute.group(1)}"
            if path in seen:
                continue
            seen.add(path)
            what = self._key_in_words(key.group(1)) if key else ""
            what = what or _SPOKEN.sub("", entry.message).rstrip(".")
            yield Fault(path, entry.line or None, what[0].lower() + what[1:], _FIX)

    def _key_in_words(self, name: str) -> str:
        tree = etree.parse(self._path)
        for key in tree.iterfind(f".//xs:key[@name='{name}']//xs:documentation", _XS):
            return " ".join((key.text or "").split()).rstrip(".")
        return ""


def type_faults(element: Element) -> tuple[Fault, ...]:
    """What XSD 1.0 cannot say: which parts go with which kind of device."""
    if element.tag == "controller":
        return tuple(_controller_faults(element))
    return tuple(_hostdev_faults(element)) if element.tag == "hostdev" else ()


def _controller_faults(controller: Element) -> Iterator[Fault]:
    model, target = controller.get("model"), controller.find("target")
    hole, is_root = controller.find("pcihole64"), model in ROOT_MODELS
    if is_root != (controller.get("index") == "0"):
        what = f"index {shorten(controller.get('index'))} is not that of a {model}"
        yield fault_at(controller, what, "write 0 for the root, 1 to 255 for others", "index")
    if hole is not None and not is_root:
        what = f"a {model} has no pcihole64"
        yield fault_at(hole, what, "write it in the controller of the root, index 0")
    if controller.find("address") is None and not is_root and model != "pcie-to-pci-bridge":
        what = "<address> is missing in <controller>"
        yield fault_at(controller, what, "add it: without one libvirt puts it at 00:02.0")
    if model == "pcie-root-port" and target is not None and target.get("busNr") is not None:
        what = f"a {model} has no busNr"
        yield fault_at(target, what, "take it out; an expander bus has one", "busNr")


def _hostdev_faults(hostdev: Element) -> Iterator[Fault]:
    if hostdev.get("type") == "pci" and hostdev.get("managed") is None:
        yield fault_at(hostdev, "managed is missing", "write managed='yes' or 'no'")
    address = hostdev.find("source/address")
    if address is None:
        return
    kind = "mdev" if "uuid" in address.attrib else "pci"
    if hostdev.get("type") in {"pci", "mdev"} - {kind}:
        what = f"type {shorten(hostdev.get('type'))} does not go with this source"
        yield fault_at(hostdev, what, f"write type={kind!r}, or another source", "type")


def is_covered(element: Element) -> bool:
    """Whether the XSD speaks of a device: passed-through hostdevs, buses, a hole."""
    if element.tag == "hostdev":
        return element.get("type") not in _OTHER_HOSTDEVS
    if element.tag != "controller" or element.get("type") != "pci":
        return False
    if element.get("model") in ROOT_MODELS:  # of which we write one thing
        return element.find("pcihole64") is not None
    return element.get("model") not in _OTHER_CONTROLLERS


def _covered(root: Element) -> list[Element]:
    return [device for device in root.iterfind("devices/*") if is_covered(device)]
