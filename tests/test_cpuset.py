"""Sets of CPUs and NUMA nodes as Linux and libvirt write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.cpuset import MAX_MEMBER, parse_cpuset, print_cpuset


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", set()),
        ("0", {0}),
        ("0-3,8", {0, 1, 2, 3, 8}),
        ("0,1,2,3", {0, 1, 2, 3}),
        (" 4 , 6-7 ", {4, 6, 7}),
        ("0-7,^2", {0, 1, 3, 4, 5, 6, 7}),
        ("0-7,^2-3,3", {0, 1, 3, 4, 5, 6, 7}),
    ],
)
def test_a_list_is_read(text: str, members: set[int]) -> None:
    assert parse_cpuset(text) == members


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' is no list of numbers; write e.g. 0-3,8"),
        ("-1", "'-1' is no list of numbers"),
        ("0x3", "is no list of numbers"),
        ("٣", "is no list of numbers"),
        ("3-1", "'3-1' runs backwards"),
        ("0-65536", "^'0-65536' goes over 65535"),
        ("0-4000000000", "is no list of numbers"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cpuset(text)


@given(st.frozensets(st.integers(0, MAX_MEMBER), max_size=50))
def test_what_is_printed_is_read_back(members: frozenset[int]) -> None:
    assert parse_cpuset(print_cpuset(members)) == members


def test_runs_are_printed_as_linux_does() -> None:
    assert print_cpuset(frozenset({0, 1, 2, 5, 7, 8})) == "0-2,5,7-8"
