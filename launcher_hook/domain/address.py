"""Numbers and PCI addresses as a domain XML spells them."""

import re
from functools import lru_cache

from launcher_hook.domain.document import Element
from launcher_hook.errors import InputError, shorten
from launcher_hook.pci import PciAddress

# virStrToLong_ui with base 0: the prefix says the base, and a leading 0 is octal.
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,20}|[1-9][0-9]{0,18}")
_PARTS = ("domain", "bus", "slot", "function")


@lru_cache(maxsize=1024)  # a domain has the same few numbers over and over
def parse_number(text: str) -> int:
    """Read a number as libvirt does: ``0x3b``, ``2``; ``010`` is eight.

    Raises:
        ValueError: libvirt would not read it either.
    """
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{shorten(text)} is not a number; write e.g. 0x1f or 31")
    return int(text, 8) if text[0] == "0" and text.isdigit() else int(text, 0)


def read_address(element: Element, place: str) -> PciAddress:
    """Read the four attributes of an ``<address>``; one that is missing is 0.

    Raises:
        InputError: An attribute is no number, or out of range.
    """
    numbers = []
    for part in _PARTS:
        try:
            numbers.append(parse_number(element.get(part, "0")))
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            raise InputError(f"{place}/@{part}", what, fix) from None
    try:
        return PciAddress(*numbers)
    except ValueError as error:
        raise InputError(place, str(error), "write an address that a PCI bus has") from None


def read_guest_address(element: Element, place: str) -> PciAddress | None:
    """Read where a device sits in the guest; None where libvirt has yet to choose.

    Raises:
        InputError: An attribute is no number, or out of range.
    """
    if element.get("type") != "pci":
        return None
    address = read_address(element, place)
    # virpci.c, virPCIDeviceAddressIsEmpty: slot 0 of bus 0 stands for no address.
    return address if any(address.slot_key) else None
