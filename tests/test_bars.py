"""BARs as ``/sys`` lists them: which count, and what no BAR can be."""

from pathlib import Path

import pytest
from hosttree import HostDevice, build_host_tree, device_directory

from launcher_hook.bars import is_bar_size, parse_bars
from launcher_hook.errors import HostError
from launcher_hook.pci import PciAddress
from launcher_hook.sysfs import HostTree

NONE = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
BAR_32 = "0x00000000fb000000 0x00000000fbffffff 0x0000000000040200\n"
BAR_64 = "0x0000380000000000 0x0000381fffffffff 0x000000000014220c\n"
BAR_64_PLAIN = "0x0000383000000000 0x0000383000003fff 0x0000000000140204\n"
PORT = "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"
UNSET = "0x0000000000000000 0x0000001fffffffff 0x000000002014220c\n"


def test_only_64_bit_memory_counts() -> None:
    text = BAR_32 + BAR_64 + NONE + BAR_64_PLAIN + NONE + PORT + BAR_64
    assert parse_bars(text, "r") == (1 << 37, 1 << 14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NONE * 5, "r: it has 5 lines, not 6 and more; see whether the function still answers"),
        ("0x0 0x0\n" + NONE * 5, "BAR 0: '0x0 0x0' cannot be read; see whether"),
        (NONE + BAR_64.replace("381f", "3820") + NONE * 4, "BAR 1: .* is no region that a BAR can"),
        (BAR_64.replace("380000", "380001") + NONE * 5, "BAR 0: .* is no region that a BAR can"),
        (UNSET + NONE * 5, "BAR 0 of 137438953472 bytes has no address .*; switch on 'Above 4G"),
    ],
    ids=["short", "half a line", "size", "alignment", "no room on the node"],
)
def test_bars_that_do_not_add_up_are_the_nodes_fault(text: str, message: str) -> None:
    with pytest.raises(HostError, match=message):
        parse_bars(text, "r")


def test_a_bar_is_a_power_of_two() -> None:
    assert [size for size in (-16, 0, 8, 16, 24, 1 << 62, 1 << 63) if is_bar_size(size)] == [
        16,
        1 << 62,
    ]


def test_a_virtual_function_has_bars_of_its_own(tmp_path: Path) -> None:
    pf = HostDevice("0000:3b:00.0", bars=(1 << 25,))
    vf = HostDevice("0000:3b:00.2", bars=(1 << 20,), physfn="0000:3b:00.0")
    tree = HostTree(build_host_tree(tmp_path / "sys", [pf, vf, HostDevice("0000:3c:00.0")]))
    assert tree.bars64(PciAddress.parse("0000:3b:00.2")) == (1 << 20,)
    assert tree.bars64(PciAddress.parse("0000:3c:00.0")) == ()
    assert tree.bars64(PciAddress.parse("0000:ff:00.0")) is None
    (device_directory(tmp_path / "sys", "0000:3c:00.0") / "resource").unlink()
    assert tree.bars64(PciAddress.parse("0000:3c:00.0")) is None
