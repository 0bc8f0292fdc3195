"""Names from pci.ids, with the file, without it, and with a broken one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.pciids import PciNames, load_names

FILE = """\
# List of PCI ID's
#
# vendor  vendor_name

0001  SafeNet (wrong ID)
10de  NVIDIA Corporation
\t10f9  TU106 High Definition Audio Controller
\t1f08  TU106 [GeForce RTX 2060 Rev. A]
# A comment between a device and its subsystems
\t\t1043 86f0  ASUS variant
\t\t1f09 0001  A subsystem that starts like a device

\t2330  GH100 [H100 SXM5 80GB]
15b3  Mellanox Technologies
\t1f09  A device of another vendor
8086  Intel Corporation
C 03  Display controller, as the file says
\t00  VGA compatible controller, as the file says
\t\t00  VGA controller
C 08  Generic system peripheral
\t06  IOMMU
C 13  Non-Essential Instrumentation
"""


@pytest.fixture
def pci_ids(tmp_path: Path) -> Callable[[str | bytes], PciNames]:
    def write(content: str | bytes) -> PciNames:
        path = tmp_path / "pci.ids"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_names(path)

    return write


Write = Callable[[str | bytes], PciNames]


@pytest.mark.parametrize(
    ("vendor_id", "device_id", "name"),
    [
        (0x10DE, 0x1F08, "TU106 [GeForce RTX 2060 Rev. A]"),
        (0x10DE, 0x10F9, "TU106 High Definition Audio Controller"),
        (0x10DE, 0x2330, "GH100 [H100 SXM5 80GB]"),
        (0x10DE, 0x1F09, None),
        (0x10DE, 0x1043, None),
        (0x15B3, 0x1F09, "A device of another vendor"),
        (0x15B3, 0x1F08, None),
        (0x8086, 0x0000, None),
        (0x1234, 0x1F08, None),
        (0x0003, 0x0000, None),
        (0xFFFFF, 0xFFFFF, None),
    ],
    ids=[
        "device",
        "first of the vendor",
        "after subsystems and an empty line",
        "only a subsystem",
        "only a subsystem's vendor",
        "last vendor's",
        "another vendor's",
        "vendor without devices",
        "no such vendor",
        "class is no vendor",
        "not 16 bits",
    ],
)
def test_a_device_has_the_name_on_its_vendors_line(
    vendor_id: int, device_id: int, name: str | None, pci_ids: Write
) -> None:
    assert pci_ids(FILE).device_name(vendor_id, device_id) == name


def test_a_vendor_has_a_name(pci_ids: Write) -> None:
    names = pci_ids(FILE)
    assert names.vendor_name(0x10DE) == "NVIDIA Corporation"
    assert names.vendor_name(0x0001) == "SafeNet (wrong ID)"
    assert names.vendor_name(0x1234) is None


@pytest.mark.parametrize(
    ("class_code", "name"),
    [
        (0x030000, "VGA compatible controller"),
        (0x030200, "3D controller"),
        (0x038000, "Display controller"),
        (0x040300, "Audio device"),
        (0x0C0330, "USB controller"),
        (0x0C8000, "Serial bus controller"),
        (0x010802, "Non-Volatile memory controller"),
        (0x020000, "Ethernet controller"),
        (0x060400, "PCI bridge"),
        (0x120000, "Processing accelerators"),
        (0x770000, None),
    ],
)
def test_classes_have_names_without_a_file(class_code: int, name: str | None) -> None:
    assert load_names(Path("/nowhere/pci.ids")).class_name(class_code) == name


@pytest.mark.parametrize(
    ("class_code", "name"),
    [
        (0x030000, "VGA compatible controller"),
        (0x080600, "IOMMU"),
        (0x089900, "Generic system peripheral"),
        (0x130000, "Non-Essential Instrumentation"),
        (0x770000, None),
    ],
    ids=["built in", "subclass from the file", "base class", "base class from the file", "none"],
)
def test_the_file_names_the_classes_that_are_not_built_in(
    class_code: int, name: str | None, pci_ids: Write
) -> None:
    assert pci_ids(FILE).class_name(class_code) == name


@pytest.mark.parametrize("path", ["/nowhere/pci.ids", "/", "/dev/null", "/nowhere/\0"], ids=repr)
def test_without_a_file_vendors_and_devices_have_no_names(path: str) -> None:
    names = load_names(Path(path))
    assert names.vendor_name(0x10DE) is None
    assert names.device_name(0x10DE, 0x1F08) is None


def test_the_first_of_several_places_that_has_a_file_counts(tmp_path: Path) -> None:
    places = [tmp_path / "missing", tmp_path / "first", tmp_path / "second"]
    places[1].write_text("10de  First\n")
    places[2].write_text("10de  Second\n")
    assert PciNames(places).vendor_name(0x10DE) == "First"


def test_the_file_is_read_when_the_first_name_is_asked_for_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "pci.ids"
    names = load_names(path)
    assert names.class_name(0x030000) == "VGA compatible controller"
    path.write_text(FILE)
    assert names.vendor_name(0x10DE) == "NVIDIA Corporation"
    path.unlink()
    assert names.vendor_name(0x15B3) == "Mellanox Technologies"


@pytest.mark.parametrize(
    ("content", "vendor", "device"),
    [
        ("10de  NVIDIA\n\t1f08  TU106", "NVIDIA", "TU106"),
        ("10de  NVIDIA\r\n\r\n\t1f08  TU106\r\n", "NVIDIA", "TU106"),
        (b"10de  NV\xffDIA\n\t1f08  TU\xc3\xa9106\n", "NV\ufffdDIA", "TUé106"),
        ("10de\n\t1f08\n", None, None),
        ("10de  \n\t1f08   \n", None, None),
        ("10de  NVIDIA\n\t1f08\n\t1f08  TU106\n", "NVIDIA", "TU106"),
        ("10de  NVIDIA\n\tzzzz  broken\n\t1f08  TU106\n", "NVIDIA", "TU106"),
        ("10de  NVIDIA\n15b  Broken vendor\n\t1f08  not NVIDIA's\n", "NVIDIA", None),
        ("10de5  Broken vendor\n\t1f08  TU106\n", None, None),
        ("\t1f08  TU106\n", None, None),
        ("<html>10de  Not found</html>\n", None, None),
    ],
    ids=[
        "no last line feed",
        "CRLF",
        "not UTF-8",
        "no names",
        "blank names",
        "a device without name",
        "a device without number",
        "a broken vendor's devices",
        "a vendor of five digits",
        "a device without vendor",
        "another file",
    ],
)
def test_broken_lines_have_no_name_and_spoil_no_other(
    content: str | bytes, vendor: str | None, device: str | None, pci_ids: Write
) -> None:
    names = pci_ids(content)
    assert (names.vendor_name(0x10DE), names.device_name(0x10DE, 0x1F08)) == (vendor, device)


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20
)
IDS = st.integers(0, 0xFFFF)


@given(
    vendors=st.dictionaries(
        IDS, st.tuples(WORDS, st.dictionaries(IDS, WORDS, max_size=4)), max_size=4
    )
)
def test_every_name_of_a_file_is_found(
    vendors: dict[int, tuple[str, dict[int, str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.ids"
    lines = []
    for vendor_id, (vendor, devices) in vendors.items():
        lines.append(f"{vendor_id:04x}  {vendor}\n")
        for device_id, device in devices.items():
            lines.append(f"\t{device_id:04x}  {device}\n\t\t{device_id:04x} 0001  subsystem\n")
    path.write_text("".join(lines), encoding="utf-8")
    names = load_names(path)
    for vendor_id, (vendor, devices) in vendors.items():
        assert names.vendor_name(vendor_id) == vendor
        for device_id, device in devices.items():
            assert names.device_name(vendor_id, device_id) == device
        for device_id in {id_ for _, other in vendors.values() for id_ in other} - set(devices):
            assert names.device_name(vendor_id, device_id) is None


@given(content=st.binary())
def test_no_file_content_is_an_error(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.ids"
    path.write_bytes(b"10de  NVIDIA\n\t1f08" + content)
    names = load_names(path)
    assert names.vendor_name(0x10DE) == "NVIDIA"
    assert isinstance(names.device_name(0x10DE, 0x1F08), str | None)
    assert names.class_name(0x030000) == "VGA compatible controller"
