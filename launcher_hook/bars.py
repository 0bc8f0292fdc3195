"""A function's BARs, as its ``resource`` attribute in ``/sys`` lists them.

A line a region: first and last address, flags (Linux drivers/pci/pci-sysfs.c, resource_show). The
first six are the BARs; the upper half of a 64-bit one is a line of zeros. Of a virtual function
they are its own, not its PF's.
"""

import re

from launcher_hook.errors import HostError

_BARS = 6
_LINE = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})")

# Linux include/linux/ioport.h.
_IORESOURCE_MEM = 0x00000200
_IORESOURCE_MEM_64 = 0x00100000
_IORESOURCE_UNSET = 0x20000000

_LARGEST = 1 << 62


def is_bar_size(size_bytes: int) -> bool:
    """Whether a memory BAR can be this large: a power of two from 16 bytes up."""
    return 16 <= size_bytes <= _LARGEST and size_bytes & (size_bytes - 1) == 0


def parse_bars(resource: str, where: str) -> tuple[int, ...]:
    """Read the sizes in bytes of the 64-bit memory BARs, in order.

    Prefetchable or not: a bridge has room for the others below 4 GiB, the root bus has not.

    Raises:
        HostError: A line cannot be read, a BAR has a size that no BAR has, or the node has found
            no address for it.
    """
    lines = resource.splitlines()[:_BARS]
    if len(lines) < _BARS:
        raise HostError(where, f"it has {len(lines)} lines, not {_BARS} and more", _LOOK)
    sizes = []
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match is None:
            raise HostError(where, f"BAR {number}: {line!r} cannot be read", _LOOK)
        first, last, flags = (int(part, 16) for part in match.groups())
        if not flags & _IORESOURCE_MEM or not flags & _IORESOURCE_MEM_64:
            continue
        size_bytes = last - first + 1
        if not is_bar_size(size_bytes) or first % size_bytes:
            raise HostError(
                where, f"BAR {number}: {line!r} is no region that a BAR can have", _LOOK
            )
        if flags & _IORESOURCE_UNSET:
            raise HostError(
                where,
                f"BAR {number} of {size_bytes} bytes has no address on the node",
                "switch on 'Above 4G Decoding' in the node's firmware, and see its kernel's log",
            )
        sizes.append(size_bytes)
    return tuple(sizes)


_LOOK = "see whether the function still answers (lspci -vv), or give pciHole64 a size"
