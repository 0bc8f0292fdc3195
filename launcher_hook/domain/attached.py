"""The host functions that other devices than hostdevs take, and that so are nobody else's to have.

Beside a hostdev libvirt takes a PCI function for an ``<interface type='hostdev'>`` and for a source
of type nvme, which may be that of a disk, of an image below or beside it, or of a mirror
(conf/domain_conf.c, virDomainStorageSourceParse). QEMU itself takes one for a ``-device vfio-pci``
of ``qemu:commandline``. A vDPA device or a network device of the host is another thing: its
function stays with its own driver, and we attach only what is bound to vfio.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from launcher_hook.domain.address import read_address
from launcher_hook.domain.document import Element
from launcher_hook.domain.qemu import command_line
from launcher_hook.pci import PciAddress

# hw/vfio/pci.c: host=, whose PCI domain may be left out, or sysfsdev=; as QemuOpts or JSON.
_FUNCTION = re.compile(r'(?:\bhost"?\s*[=:]\s*"?|/sys/bus/pci/devices/)([0-9a-fA-F:.]+)')


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A device that takes a host function.

    Attributes:
        device: The child of ``<devices>``, or of ``<os>``.
        address: Where the function stands.
        managed: Whether libvirt binds the function to vfio-pci by itself.
        is_shared: Whether more devices may take the function: namespaces of one NVMe.
    """

    device: Element
    address: Element
    managed: bool
    is_shared: bool


def function_sources(root: Element) -> Iterator[FunctionSource]:
    """The interfaces and NVMe sources that take a host function, in document order."""
    for part in (root.find("./os"), root.find("./devices")):
        for device in part if part is not None else ():
            if device.tag == "interface" and device.get("type") == "hostdev":
                address = device.find("./source/address[@type='pci']")
                if address is not None:
                    managed = device.get("managed") == "yes"
                    yield FunctionSource(device, address, managed, is_shared=False)
            elif device.tag in ("disk", "loader", "nvram"):
                yield from _nvme_sources(device)


def _nvme_sources(device: Element) -> Iterator[FunctionSource]:
    for source in device.iter("source"):
        holder = source.getparent()
        address = source.find("./address")
        if holder is not None and holder.get("type") == "nvme" and address is not None:
            managed = source.get("managed") == "yes"
            yield FunctionSource(device, address, managed, is_shared=True)


def read_attached(root: Element, where: str) -> dict[PciAddress, bool]:
    """Read the host functions that are taken, and whether libvirt binds each to vfio-pci by itself.

    Raises:
        InputError: A source cannot be read.
    """
    attached: dict[PciAddress, bool] = {}
    for taken in function_sources(root):
        place = f"{where}:{taken.address.sourceline}: {taken.device.tag!s}/source/address"
        address = read_address(taken.address, place)
        attached[address] = attached.get(address, False) or taken.managed
    for argument in command_line(root):
        if "vfio-pci" in argument:
            for text in _FUNCTION.findall(argument):
                # The PCI domain may be left out.
                full = text if text.count(":") == 2 else f"0000:{text}"
                with suppress(ValueError):
                    attached.setdefault(PciAddress.parse(full), False)
    return attached
