"""PciAddress: what is an address, how it prints, how it orders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.pci import PciAddress

ADDRESSES = st.builds(
    PciAddress,
    domain=st.integers(0, 0xFFFFFFFF),
    bus=st.integers(0, 0xFF),
    slot=st.integers(0, 0x1F),
    function=st.integers(0, 7),
)


@given(ADDRESSES)
def test_printing_and_parsing_are_inverse_in_either_case(address: PciAddress) -> None:
    assert PciAddress.parse(str(address)) == address
    assert PciAddress.parse(str(address).upper()) == address


@given(ADDRESSES, ADDRESSES)
def test_order_is_that_of_the_numbers(one: PciAddress, other: PciAddress) -> None:
    def numbers(address: PciAddress) -> tuple[int, int, int, int]:
        return (address.domain, address.bus, address.slot, address.function)

    assert (one < other) == (numbers(one) < numbers(other))


def test_it_prints_as_linux_does() -> None:
    assert str(PciAddress(0, 0x3B, 0x1F, 7)) == "0000:3b:1f.7"
    assert str(PciAddress(0x10000, 0xE1, 0, 0)) == "10000:e1:00.0"  # behind Intel VMD


@pytest.mark.parametrize(
    "text",
    ["", "3b:00.0", "0000:3b:00", "0000:3b:0.0", "000:3b:00.0",
     "0000:3g:00.0", " 0000:3b:00.0", "0000:3b:00.0\n", "0000:3b:00.00", "0x0000:3b:00.0",
     "0000-3b-00.0", "123456789:3b:00.0"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write domain:bus:slot.function, e.g. 0000:3b:00.0"):
        PciAddress.parse(text)


def test_a_bdf_with_a_number_out_of_range_says_which() -> None:
    with pytest.raises(ValueError, match="PCI slot 0x20 is not in 0 to 0x1f"):
        PciAddress.parse("0000:3b:20.0")
    with pytest.raises(ValueError, match="PCI function 0x8 is not in 0 to 0x7"):
        PciAddress.parse("0000:3b:00.8")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((-1, 0, 0, 0), "PCI domain -0x1 is not in 0 to 0xffffffff"),
        ((0, 0x100, 0, 0), "PCI bus 0x100 is not in 0 to 0xff"),
        ((0, 0, 0x20, 0), "PCI slot 0x20 is not in 0 to 0x1f"),
        ((0, 0, 0, 8), "PCI function 0x8 is not in 0 to 0x7"),
        ((0xFFFFFFFF, 0xFF, 0x1F, 8), "PCI function 0x8 is not in 0 to 0x7"),
    ],
)
def test_a_number_out_of_range_makes_no_address(
    numbers: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PciAddress(*numbers)


def test_functions_of_one_device_share_a_slot_key() -> None:
    address = PciAddress.parse("0000:3b:00.0")
    assert address.with_function(1).slot_key == address.slot_key
    assert PciAddress.parse("0000:3b:01.0").slot_key != address.slot_key
