"""Sets of CPUs and NUMA nodes as Linux and libvirt write them: ``0-3,8``, and libvirt's ``^2``."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Set
from heapq import heappop, heappush
from itertools import pairwise

from launcher_hook.errors import shorten

MAX_MEMBER = 65_535
"""More than any kernel has (CONFIG_NR_CPUS is 8192 at most): a hostile 0-4000000000 stops here."""

MAX_PARTS = 8192
"""Of one list: every other CPU of the largest kernel, each by itself, and twice that."""

_PART = re.compile(r"(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?")

CPUSET_PATTERN = "^{0}(,{0})*$".format(r"\^?[0-9]{1,5}(-[0-9]{1,5})?")
"""Such a list for an editor, which cannot count."""

_Run = tuple[int, int]
"""First and last member of members that follow each other."""


class CpuSet(Set[int]):
    """A set of numbers from 0 to 65,535 that takes 4 bytes a run, however long the run is.

    Args:
        runs: Ascending, and apart from each other.
    """

    __slots__ = ("_bounds",)

    def __init__(self, runs: Iterable[_Run] = ()) -> None:
        self._bounds = array("H", (bound for run in runs for bound in run))

    @property
    def runs(self) -> Iterator[_Run]:
        """First and last member of each run, ascending."""
        return zip(self._bounds[::2], self._bounds[1::2], strict=True)

    @property
    def mask(self) -> int:
        """A number whose bit n says whether n is a member."""
        mask = 0
        for first, last in self.runs:
            mask |= ((1 << last - first + 1) - 1) << first
        return mask

    def __contains__(self, member: object) -> bool:
        if not isinstance(member, int):
            return False
        place = bisect_right(self._bounds, member)
        return place % 2 == 1 or (place > 0 and self._bounds[place - 1] == member)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    def __repr__(self) -> str:
        return f"CpuSet({print_cpuset(self)!r})"

    @classmethod
    def _from_iterable(cls, it: Iterable[int]) -> "frozenset[int]":  # type: ignore[override]
        return frozenset(it)


def parse_cpuset(text: str) -> CpuSet:
    """Read a list of CPUs or NUMA nodes; an empty one has no member.

    A part with ``^`` takes members of the parts before it out (virBitmapParse).

    Raises:
        ValueError: It is no such list, a number is over 65,535, or it has more than 8,192 parts.
    """
    if text.count(",") >= MAX_PARTS:
        raise ValueError(f"it has more than {MAX_PARTS} parts; write runs, e.g. 0-3,8")
    ranges: list[_Run] = []
    takes_out: list[bool] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{shorten(part)} is no list of numbers; write e.g. 0-3,8")
        first = int(match[2])
        last = int(match[3] or first)
        if last > MAX_MEMBER:
            raise ValueError(f"{shorten(part)} goes over {MAX_MEMBER}")
        if last < first:
            raise ValueError(f"{shorten(part)} runs backwards; write the lower number first")
        ranges.append((first, last))
        takes_out.append(bool(match[1]))
    return CpuSet(_join(run for run, number in _overlay(ranges) if not takes_out[number]))


def _overlay(ranges: list[_Run]) -> Iterator[tuple[_Run, int]]:
    """Cut ranges into runs that do not overlap; each with the number of its last range."""
    order = sorted(range(len(ranges)), key=lambda number: ranges[number][0])
    bounds = sorted({bound for first, last in ranges for bound in (first, last + 1)})
    covering: list[int] = []  # negative numbers of ranges: the last one is on top
    begun = 0
    for here, following in pairwise(bounds):
        while begun < len(order) and ranges[order[begun]][0] <= here:
            heappush(covering, -order[begun])
            begun += 1
        while covering and ranges[-covering[0]][1] < here:
            heappop(covering)
        if covering:
            yield (here, following - 1), -covering[0]


def _join(runs: Iterable[_Run]) -> Iterator[_Run]:
    """Join runs that follow each other."""
    joined: _Run | None = None
    for first, last in runs:
        if joined is not None and first == joined[1] + 1:
            joined = (joined[0], last)
            continue
        if joined is not None:
            yield joined
        joined = (first, last)
    if joined is not None:
        yield joined


def print_cpuset(members: Set[int]) -> str:
    """Write a set as Linux does: ascending, runs as ``first-last``."""
    if isinstance(members, CpuSet):
        runs: Iterable[_Run] = members.runs
    else:
        runs = _join((member, member) for member in sorted(members))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def mask_members(members: Set[int]) -> int:
    """Give a number whose bit n says whether n is a member."""
    return members.mask if isinstance(members, CpuSet) else sum(1 << member for member in members)
