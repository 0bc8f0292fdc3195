"""Names for people: what pci.ids calls a vendor, a device and a class.

The file (https://pci-ids.ucw.cz, 1.6 MB, 40,000 lines) is kept as bytes and searched for one
line at a time: 3 ms and 1.6 MB for the first name, 0.4 to 1.3 ms for each further one. A dictionary
of it takes 35 ms and 6 MB more, a tenth of a hook's container.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from launcher_hook.model import HostFunction

# Debian's pci.ids and Fedora's hwdata.
DEFAULT_PATHS = (Path("/usr/share/misc/pci.ids"), Path("/usr/share/hwdata/pci.ids"))

# Five times the size of 2025: whatever else the path may name is not loaded whole.
MAX_PCI_IDS_BYTES = 8 << 20

# A vendor or class ends where the next line starts that is not indented, a comment or empty:
# also at a broken one, whose devices must not be taken for this vendor's.
_BLOCK_END = re.compile(rb"\n[^\t#\r\n]")

# PCI Code and ID Assignment Specification, chapter 1; base class alone where one byte is given.
# Those that are passed through or stand beside what is: a plan reads well without the file.
_CLASS_NAMES = {
    (0x01,): "Mass storage controller",
    (0x01, 0x00): "SCSI storage controller",
    (0x01, 0x04): "RAID bus controller",
    (0x01, 0x06): "SATA controller",
    (0x01, 0x07): "Serial Attached SCSI controller",
    (0x01, 0x08): "Non-Volatile memory controller",
    (0x02,): "Network controller",
    (0x02, 0x00): "Ethernet controller",
    (0x02, 0x07): "InfiniBand controller",
    (0x03,): "Display controller",
    (0x03, 0x00): "VGA compatible controller",
    (0x03, 0x02): "3D controller",
    (0x04,): "Multimedia controller",
    (0x04, 0x00): "Multimedia video controller",
    (0x04, 0x01): "Multimedia audio controller",
    (0x04, 0x03): "Audio device",
    (0x05,): "Memory controller",
    (0x05, 0x02): "CXL memory device",
    (0x06,): "Bridge",
    (0x06, 0x00): "Host bridge",
    (0x06, 0x01): "ISA bridge",
    (0x06, 0x04): "PCI bridge",
    (0x07,): "Communication controller",
    (0x07, 0x00): "Serial controller",
    (0x08,): "Generic system peripheral",
    (0x09,): "Input device controller",
    (0x0B,): "Processor",
    (0x0B, 0x40): "Co-processor",
    (0x0C,): "Serial bus controller",
    (0x0C, 0x03): "USB controller",
    (0x0C, 0x04): "Fibre Channel",
    (0x0C, 0x05): "SMBus",
    # A GPU's UCSI function (10de:1adb) has 0c8000.
    (0x0C, 0x80): "Serial bus controller",
    (0x0D,): "Wireless controller",
    (0x10,): "Encryption controller",
    (0x11,): "Signal processing controller",
    (0x12,): "Processing accelerators",
}


def load_names(path: Path | None = None) -> "PciNames":
    """Names from a pci.ids file; without a path from the first of the usual places that has one.

    Nothing is read before the first name is asked for. Where there is no file, there are no names
    of vendors and devices.
    """
    return PciNames((path,) if path is not None else DEFAULT_PATHS)


class PciNames:
    """Looks names up; None for what has none."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._text: bytes | None = None

    def vendor_name(self, vendor_id: int) -> str | None:
        """Such as ``NVIDIA Corporation`` for 0x10de."""
        return self._find(f"\n{vendor_id:04x} ")

    def device_name(self, vendor_id: int, device_id: int) -> str | None:
        """Such as ``TU106 [GeForce RTX 2060 Rev. A]`` for 0x10de, 0x1f08."""
        return self._find(f"\n{vendor_id:04x} ", f"\n\t{device_id:04x} ")

    def function_name(self, function: HostFunction) -> str | None:
        """As `device_name`, of a function; None also where its ids are not known."""
        if function.vendor_id is None or function.device_id is None:
            return None
        return self.device_name(function.vendor_id, function.device_id)

    def class_name(self, class_code: int) -> str | None:
        """Such as ``VGA compatible controller`` for 0x030000: the subclass, or else the base class.

        Args:
            class_code: 24 bits, as in ``HostFunction.class_code``.
        """
        base, sub = class_code >> 16, class_code >> 8 & 0xFF
        return (
            _CLASS_NAMES.get((base, sub))
            or self._find(f"\nC {base:02x} ", f"\n\t{sub:02x} ")
            or _CLASS_NAMES.get((base,))
            or self._find(f"\nC {base:02x} ")
        )

    def _find(self, head: str, entry: str | None = None) -> str | None:
        """The name on the line that starts with ``head``, or on an ``entry`` line below it."""
        text = self._load()
        start = text.find(head.encode())
        if start < 0:
            return None
        wanted = head
        if entry is not None:
            end = _BLOCK_END.search(text, start + 1)
            start = text.find(entry.encode(), start, end.start() + 1 if end else len(text))
            if start < 0:
                return None
            wanted = entry
        start += len(wanted)
        line_end = text.find(b"\n", start)
        line = text[start : line_end if line_end >= 0 else len(text)]
        return line.decode("utf-8", "replace").strip() or None

    def _load(self) -> bytes:
        """The file with a line feed before every line, also the first."""
        if self._text is None:
            self._text = next((text for text in map(_read, self._paths) if text), b"")
        return self._text


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return b"\n" + file.read(MAX_PCI_IDS_BYTES)
    except (OSError, ValueError):  # ValueError: a path with a NUL
        return b""
