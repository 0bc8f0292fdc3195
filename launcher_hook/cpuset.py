"""Sets of CPUs and NUMA nodes as Linux and libvirt write them: ``0-3,8``, and libvirt's ``^2``."""

import re

from launcher_hook.errors import shorten

# More than any kernel has (CONFIG_NR_CPUS is 8192 at most); a hostile "0-4000000000" stops here.
MAX_MEMBER = 65_535

_PART = re.compile(r"(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?")

CPUSET_PATTERN = "^{0}(,{0})*$".format(r"\^?[0-9]{1,5}(-[0-9]{1,5})?")
"""Such a list for an editor, which cannot count."""


def parse_cpuset(text: str) -> frozenset[int]:
    """Read a list of CPUs or NUMA nodes; an empty one has no member.

    A part with ``^`` takes members of the parts before it out (virBitmapParse).

    Raises:
        ValueError: It is no such list, or a number is over 65,535.
    """
    members: set[int] = set()
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
        if match[1]:
            members.difference_update(range(first, last + 1))
        else:
            members.update(range(first, last + 1))
    return frozenset(members)


def print_cpuset(members: frozenset[int]) -> str:
    """Write a list as Linux does: ascending, runs as ``first-last``."""
    runs: list[list[int]] = []
    for member in sorted(members):
        if runs and member == runs[-1][1] + 1:
            runs[-1][1] = member
        else:
            runs.append([member, member])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
