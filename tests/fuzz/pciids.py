"""Any bytes as a pci.ids: names for people, and resource names made of them."""

from contextlib import suppress

from fuzz.target import Target, scratch
from pluginnode import PCI_IDS

from launcher_hook.deviceplugin.names import (
    check_resource,
    name_device,
    name_mdev_type,
    nearest_legal,
)
from launcher_hook.errors import one_line
from launcher_hook.pciids import load_names

_file = scratch() / "pci.ids"


def check(data: bytes) -> None:
    """A name is one line of the file, or there is none; the resource's is legal or refused."""
    _file.write_bytes(data)
    names = load_names(_file)
    text = data.decode("utf-8", "replace")
    found = [
        names.vendor_name(0x10DE),
        names.device_name(0x10DE, 0x1F08),
        names.device_name(0x10DE, 0x0001),
        names.device_name(0x8086, 0x1F08),
    ]
    names.class_name(0x030000)
    names.class_name(0xFF0000)
    for name in filter(None, found):
        assert name == name.strip()
        assert "\n" not in name
        assert name in text
        one_line(name).encode()
        for made in (f"nvidia.com/{name_device(name)}", name_mdev_type(name)):
            with suppress(ValueError):
                check_resource(made)
        check_resource(nearest_legal(name))


def seeds() -> list[bytes]:
    """A small file in the real one's form, and variations of line ends and order."""
    whole = (
        "# comment\n\n8086  Intel Corporation\n\t1521  I350 Gigabit Network Connection\n"
        "\t\t8086 0001  Subsystem\n"
        + PCI_IDS
        + "\t0001  Caf\u00e9 / x.y\n\nC 03  Display controller\n"
        "\t00  VGA compatible controller\n\t\t00  VGA controller\nC ff  Unassigned class\n"
    )
    return [whole.encode(), whole.replace("\n", "\r\n").encode(), whole.encode("utf-16"), b""]


WORDS = [
    b"\n",
    b"\r\n",
    b"\t",
    b"\t\t",
    b"10de  ",
    b"\t1f08  ",
    b"8086  ",
    b"C 03  ",
    b"\t00  ",
    b"# ",
    b"\0",
    b"\xff",
    b"/",
    b".",
    b" ",
    "\u2028".encode(),
    "\u00c5".encode(),
    "\ufb01".encode(),
    b"kubernetes.io/",
    b"requests.",
    b"-",
]

TARGET = Target("pciids", check, seeds, WORDS, ("pciids", "deviceplugin.names"))
