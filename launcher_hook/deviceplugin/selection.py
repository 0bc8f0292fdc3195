"""Which functions and mediated devices are ours to offer, and under which name. No I/O."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from launcher_hook.model import HostFunction, MediatedDevice
from launcher_hook.pci import PciAddress

IdsPerGroup = Literal["one", "all"]

NVIDIA = 0x10DE

# Base class 0x03: what NVIDIA's plugin means by a GPU, without the audio function beside it.
DISPLAY = "03"

_CLASS = re.compile(r"(?:0x)?((?:[0-9a-f]{2}){1,3})", re.IGNORECASE)

# Domains under which vendors offer their devices.
VENDOR_DOMAINS: Mapping[int, str] = {NVIDIA: "nvidia.com", 0x1002: "amd.com", 0x8086: "intel.com"}


@dataclass(frozen=True, slots=True)
class PciSelector:
    """What a function must be; None is "whatever it is".

    Attributes:
        where: Where it stands in the configuration, for messages.
        resource: None for a name from pci.ids.
        class_digits: The first 2, 4 or 6 hexadecimal digits of the class code, lower case.
        external: Ours to offer; otherwise KubeVirt's virt-handler offers it.
    """

    where: str
    resource: str | None = None
    vendor_id: int | None = None
    device_id: int | None = None
    class_digits: str | None = None
    address: PciAddress | None = None
    driver: str | None = None
    numa_node: int | None = None
    external: bool = True

    def matches(self, function: HostFunction) -> bool:
        """Whether the function is such a one; a fact that is not known matches nothing."""
        return (
            (self.vendor_id is None or function.vendor_id == self.vendor_id)
            and (self.device_id is None or function.device_id == self.device_id)
            and (self.address is None or function.address == self.address)
            and (self.driver is None or function.driver == self.driver)
            and (self.numa_node is None or function.numa_node == self.numa_node)
            and (self.class_digits is None or self._matches_class(function.class_code))
        )

    def _matches_class(self, class_code: int | None) -> bool:
        return class_code is not None and f"{class_code:06x}".startswith(self.class_digits or "")


@dataclass(frozen=True, slots=True)
class MdevSelector:
    """What a mediated device must be.

    Attributes:
        type_name: As KubeVirt compares it, a space as ``_``; None for any.
        vendor_id: Of the function that it is a part of; None for any.
    """

    where: str
    resource: str | None = None
    type_name: str | None = None
    vendor_id: int | None = None
    external: bool = True

    def matches(self, device: MediatedDevice, parent: HostFunction | None) -> bool:
        """Whether the mediated device is such a one."""
        if self.vendor_id is not None and (parent is None or parent.vendor_id != self.vendor_id):
            return False
        return self.type_name is None or (
            device.type_name is not None and spell_type(device.type_name) == self.type_name
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """What the configuration says; the first selector that matches counts.

    Attributes:
        domains: By vendor, the domain of a resource that is named from pci.ids.
        ids_per_group: One id of an IOMMU group, or all that are selected: VFIO gives a group to
            one VM only.
        is_default: Nobody has said what is to be offered.
    """

    pci: tuple[PciSelector, ...] = ()
    mdev: tuple[MdevSelector, ...] = ()
    domains: Mapping[int, str] = field(default_factory=lambda: VENDOR_DOMAINS)
    ids_per_group: IdsPerGroup = "one"
    is_default: bool = False

    @property
    def vendors(self) -> frozenset[int] | None:
        """The vendors that any selector can match; None for all there are."""
        vendors = {selector.vendor_id for selector in self.pci}
        return None if None in vendors else frozenset(v for v in vendors if v is not None)

    def left_to_kubevirt(self) -> Iterator[tuple[str, str | None]]:
        """Where selectors that are not ours stand, and their resource."""
        yield from ((s.where, s.resource) for s in self.pci if not s.external)
        yield from ((s.where, s.resource) for s in self.mdev if not s.external)


def select_by_vendor(
    domains: Mapping[int, str], classes: tuple[str, ...], ids_per_group: IdsPerGroup = "one"
) -> Selection:
    """Without a configuration: some vendors' functions of some classes, named from pci.ids."""
    return Selection(
        pci=tuple(
            PciSelector(
                f"--vendor {vendor:04x} --class {digits}", None, vendor, class_digits=digits
            )
            for vendor in domains
            for digits in classes
        ),
        mdev=tuple(MdevSelector(f"--vendor {v:04x}", vendor_id=v) for v in domains),
        domains={**VENDOR_DOMAINS, **domains},
        ids_per_group=ids_per_group,
    )


def parse_class(text: str) -> str:
    """Read the first digits of a class code, ``0302`` or ``0x0302``.

    Raises:
        ValueError: It is not 2, 4 or 6 hexadecimal digits.
    """
    match = _CLASS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no class; write 2, 4 or 6 hexadecimal digits, e.g. 0302")
    return match[1].lower()


def spell_type(type_name: str) -> str:
    """Spell an mdev type as KubeVirt compares it (device-manager/mediated_device.go)."""
    return type_name.strip().replace(" ", "_")
