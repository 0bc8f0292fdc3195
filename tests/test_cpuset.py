"""Sets of CPUs and NUMA nodes as Linux and libvirt write them."""

import tracemalloc

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
        ("0," * 8192, "more than 8192 parts; write runs, e.g. 0-3,8"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cpuset(text)


@given(st.frozensets(st.integers(0, MAX_MEMBER), max_size=50))
def test_what_is_printed_is_read_back(members: frozenset[int]) -> None:
    assert parse_cpuset(print_cpuset(members)) == members


PARTS = st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40))


@given(st.lists(PARTS, max_size=30))
def test_a_set_has_the_members_that_the_parts_say_one_after_the_other(
    parts: list[tuple[bool, int, int]],
) -> None:
    text, members = [], set()
    for takes_out, one, other in parts:
        first, last = sorted((one, other))
        text.append(f"{'^' if takes_out else ''}{first}-{last}")
        part = set(range(first, last + 1))
        members = members - part if takes_out else members | part
    found = parse_cpuset(",".join(text))
    assert found == members
    assert list(found) == sorted(members)
    assert len(found) == len(members)
    assert [n for n in range(-1, 42) if n in found] == sorted(members)
    assert found.mask == sum(1 << n for n in members)


def test_a_set_takes_memory_by_its_runs_and_not_by_its_members() -> None:
    tracemalloc.start()
    sets = [parse_cpuset("0-65535") for _ in range(3000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(sets[0]) == 65_536
    assert peak < 2_000_000


def test_runs_are_printed_as_linux_does() -> None:
    assert print_cpuset(frozenset({0, 1, 2, 5, 7, 8})) == "0-2,5,7-8"
    assert print_cpuset(parse_cpuset("8,0-2,7,5")) == "0-2,5,7-8"
