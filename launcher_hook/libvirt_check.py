"""Asks a libvirt at hand whether it would take a domain. The only module that imports libvirt.

The domain is defined under a name and a UUID of its own and forgotten again, so that no domain of
that libvirt is touched, not even the one that it describes, nor that one's files.
"""

import uuid
from contextlib import suppress
from typing import Any

from launcher_hook.domain.document import Element, parse_domain, print_domain
from launcher_hook.errors import HostError, InputError, SchemaError
from launcher_hook.schema import Fault
from launcher_hook.vfio import VFIO_PCI

_PACKAGE = (
    "pip install libvirt-python, which wants libvirt-dev, pkg-config and gcc (in a clone `make "
    "test` brings it)"
)


_HAS_DRIVER_MODELS = 10_000_000
"""The first libvirt whose hostdevs have a ``<driver model=...>``, as libvirt writes versions."""


class LibvirtCheck:
    """A connection to one libvirt.

    Args:
        uri: libvirt's own, e.g. ``qemu:///system``.

    Raises:
        HostError: There is no libvirt-python, or no libvirt answers at this URI.
    """

    def __init__(self, uri: str) -> None:
        self._where = f"libvirt {uri}"
        try:
            import libvirt
        except ImportError as error:
            raise HostError(self._where, f"libvirt-python is missing: {error}", _PACKAGE) from None
        self._libvirt: Any = libvirt  # it has no types
        libvirt.registerErrorHandler(lambda *_: None, None)  # it would print each error itself
        with suppress(libvirt.libvirtError):  # twice in a process it refuses
            libvirt.virEventRegisterDefaultImpl()  # qemu:///embed needs one
        try:
            self._connection = libvirt.open(uri)
        except libvirt.libvirtError as error:
            raise HostError(
                self._where,
                f"it does not answer: {_message(error)}",
                "see that libvirtd runs, or give another URI, e.g. qemu:///system",
            ) from None

    @property
    def name(self) -> str:
        """Its version, for messages: ``libvirt 9.0.0 (qemu:///system)``."""
        number = self._connection.getLibVersion()
        version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
        return f"libvirt {version} ({self._where.removeprefix('libvirt ')})"

    def refusal(self, domain_xml: bytes, *, validate: bool) -> str | None:
        """What this libvirt has against a domain; None where it takes it.

        Args:
            domain_xml: Any domain.
            validate: Also against its own schema, which no domain of a launcher fits.

        Raises:
            InputError: It is no domain XML at all.
        """
        tree = parse_domain(domain_xml)
        _rename(tree.getroot())
        if validate and self._connection.getLibVersion() < _HAS_DRIVER_MODELS:
            # What we write for newer ones, and this one overlooks; its schema does not.
            for driver in tree.iterfind(f"./devices/hostdev/driver[@model='{VFIO_PCI}']"):
                del driver.attrib["model"]
        flags = self._libvirt.VIR_DOMAIN_DEFINE_VALIDATE if validate else 0
        try:
            domain = self._connection.defineXMLFlags(print_domain(tree, b"").decode(), flags)
        except self._libvirt.libvirtError as error:
            return _message(error)
        # The copy still names the VM's own files: without these words libvirt refuses to forget a
        # domain with UEFI variables, or takes them along.
        keep = self._libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        keep |= getattr(self._libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)  # since 8.9
        domain.undefineFlags(keep)
        return None

    def check_rendered(self, before: bytes, after: bytes) -> None:
        """Refuse what this libvirt would refuse.

        Args:
            before: The domain as it was handed to us.
            after: The same with our devices.

        Raises:
            InputError: It refuses the domain without us, too.
            SchemaError: It refuses what we made of it.
        """
        # Against its schema only what was valid before us, which no launcher's domain is.
        validate = self.refusal(before, validate=True) is None
        refusal = self.refusal(after, validate=validate)
        if refusal is None:
            return
        if self.refusal(before, validate=False) is not None:
            raise InputError(
                self._where,
                f"it refuses the domain as it was given: {refusal}",
                "mend the domain, or check it with the libvirt that it was made for",
            )
        raise SchemaError(
            self._where,
            f"it refuses what was rendered: {refusal}",
            "report it with the domain, the VMI and this message",
        )

    def fault(self, domain_xml: bytes, *, validate: bool) -> tuple[Fault, ...]:
        """As `refusal`, in the form of a verdict."""
        refusal = self.refusal(domain_xml, validate=validate)
        if refusal is None:
            return ()
        return (Fault("/domain", None, refusal, f"so says {self.name}", rule="libvirt"),)


def _rename(root: Element) -> None:
    """Give a domain a name and a UUID that no domain of a libvirt has; what is wrong stays wrong.

    The UUID stands in sysinfo too, and libvirt wants it to be the same; of a domain without
    ``<uuid>`` it takes that one (virSysinfoSystemParseXML).
    """
    fresh = str(uuid.uuid4())
    names, uuids = root.findall("./name"), root.findall("./uuid")
    for name in names:
        if (name.text or "").strip():
            name.text = f"launcher-hook-check-{fresh}"
    own = {_parse_uuid(element) for element in uuids}
    for element in (*uuids, *root.iterfind("./sysinfo/system/entry[@name='uuid']")):
        number = _parse_uuid(element)
        if number is not None and own <= {number}:
            element.text = fresh
    if not uuids:
        element = root.makeelement("uuid")
        element.text = fresh
        root.insert(0, element)


def _parse_uuid(element: Element) -> uuid.UUID | None:
    with suppress(ValueError):  # libvirt, too, overlooks hyphens and white space
        return uuid.UUID("".join((element.text or "").replace("-", "").split()))
    return None


def _message(error: Exception) -> str:
    return " ".join(str(error).split())
