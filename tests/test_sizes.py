"""Sizes as people, Kubernetes and libvirt write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.sizes import GIB, KIB, parse_size, print_size, round_up, scale


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512G", 512 * GIB),
        ("64GiB", 64 * GIB),
        ("64 GiB", 64 * GIB),
        ("64Gi", 64 * GIB),
        ("268435456KiB", 256 * GIB),
        ("1t", 1024 * GIB),
        ("1GB", 10**9),
        ("4096b", 4096),
    ],
)
def test_a_size_has_a_number_and_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["512", "G", "1.5G", "-1G", "1 X", "1GiBs", "", "1G ", "٣G"])
def test_what_is_no_size_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write a number and a unit, e.g. 512G"):
        parse_size(text)


def test_libvirts_number_and_unit_are_read_apart() -> None:
    assert scale("64", "KiB") == 64 * KIB
    assert [scale(*pair) for pair in (("x", "KiB"), ("1", "x"), ("", "KiB"))] == [None] * 3


@given(st.integers(0, 1 << 64))
def test_what_is_printed_means_the_same_size(size_bytes: int) -> None:
    assert parse_size(print_size(size_bytes)) == size_bytes


@given(st.integers(0, 1 << 64), st.integers(1, 1 << 40))
def test_rounding_up_goes_to_the_next_multiple(size_bytes: int, step: int) -> None:
    rounded = round_up(size_bytes, step)
    assert rounded % step == 0
    assert 0 <= rounded - size_bytes < step
