"""PCI addresses: parse, print, order. The only BDF pattern in the tree stands here."""

import re
from dataclasses import dataclass

from launcher_hook.errors import shorten

# Linux prints "%04x:%02x:%02x.%d" (drivers/pci/probe.c); a domain behind Intel VMD has more than
# four digits. KubeVirt takes upper case too (pkg/util/hardware: PCI_ADDRESS_PATTERN).
_BDF = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])", re.IGNORECASE)

# What an editor is told, which cannot count: the same, with slot and function in range.
BDF_SCHEMA = {
    "type": "string",
    "pattern": r"^[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$",
}

BDF_EXAMPLE = "write domain:bus:slot.function, e.g. 0000:3b:00.0"

MAX_DOMAIN = 0xFFFFFFFF
MAX_BUS = 0xFF
MAX_SLOT = 0x1F
MAX_FUNCTION = 7


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """A PCI function's address, on the host or in the guest; ordered by its four numbers.

    Attributes:
        domain: 0 to 0xffffffff (a guest has domain 0 only).
        bus: 0 to 0xff. In a domain XML this is the index of a controller.
        slot: 0 to 0x1f; "device" in lspci's words.
        function: 0 to 7.
    """

    domain: int
    bus: int
    slot: int
    function: int

    def __post_init__(self) -> None:
        if (
            0 <= self.function <= MAX_FUNCTION
            and 0 <= self.slot <= MAX_SLOT
            and 0 <= self.bus <= MAX_BUS
            and 0 <= self.domain <= MAX_DOMAIN
        ):
            return
        numbers = (
            ("domain", self.domain, MAX_DOMAIN),
            ("bus", self.bus, MAX_BUS),
            ("slot", self.slot, MAX_SLOT),
            ("function", self.function, MAX_FUNCTION),
        )
        name, value, highest = next(number for number in numbers if not 0 <= number[1] <= number[2])
        raise ValueError(f"PCI {name} {value:#x} is not in 0 to {highest:#x}")

    @classmethod
    def parse(cls, bdf: str) -> "PciAddress":
        """Read a full BDF such as ``0000:3b:00.0``, in either case.

        Raises:
            ValueError: The text is not a BDF, or a number is out of range.
        """
        match = _BDF.fullmatch(bdf)
        if match is None:
            raise ValueError(f"{shorten(bdf)} is not a PCI address; {BDF_EXAMPLE}")
        return cls(*(int(part, 16) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"

    @property
    def slot_key(self) -> tuple[int, int, int]:
        """Domain, bus and slot: equal for the functions of one physical device."""
        return (self.domain, self.bus, self.slot)

    def with_function(self, function: int) -> "PciAddress":
        """The address of another function of the same slot."""
        return PciAddress(self.domain, self.bus, self.slot, function)
