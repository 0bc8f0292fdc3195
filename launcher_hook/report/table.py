"""A plan as a table: one line a device, or some, where a terminal is narrow."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.facts import describe_hole, device_facts, print_options

_COLUMNS = ("device", "alias", "host", "class", "name", "group", "numa", "guest", "options", "why")
_OPTIONS = _COLUMNS.index("options")

_NARROW = 60
"""Characters. Less is too little for the reason: it stands below its device then."""
_INDENT = "    "


def print_table(decision: Decision, names: PciNames, columns: int = 0) -> str:
    """One line a device; ``-`` is "not known", and there are options only where some are asked.

    Args:
        decision: The plan.
        names: Of devices.
        columns: How wide a line may be, as far as the reasons go; 0 for as wide as it gets.
    """
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for row, placement in zip(device_facts(decision, names), decision.plan.placements, strict=True):
        rows.append(
            (
                row["device"] or "-",
                row["alias"],
                row["host"],
                row["class"] or "-",
                row["name"] or "-",
                _text(row["iommu_group"]),
                _text(row["numa_node"]),
                row["guest"] or ("none" if placement.assignment.is_unassigned else "libvirt's"),
                print_options(row["options"]) or "-",
                f"{row['assigned']}; {row['placed']}",
            )
        )
    if len(rows) == 1:
        return "no devices\n" + describe_hole(decision)
    if not decision.plan.options:
        rows = [(*row[:_OPTIONS], *row[_OPTIONS + 1 :]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    facts = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        for row in rows
    ]
    reasons = [row[-1] for row in rows]
    return "".join(_lines(facts, reasons, columns)) + describe_hole(decision)


def _lines(facts: Sequence[str], reasons: Sequence[str], columns: int) -> Iterator[str]:
    """Each reason beside its facts, wrapped, or below them where there is no room for that."""
    indent = len(facts[0]) + 2
    longest = max(map(len, reasons))
    room = longest if columns == 0 else columns - indent
    if room >= min(longest, _NARROW):
        for fact, reason in zip(facts, reasons, strict=True):
            first, *more = wrap(reason, room, break_long_words=False)
            yield f"{fact}  {first}\n"
            yield from (f"{' ' * indent}{line}\n" for line in more)
        return
    room = max(columns - len(_INDENT), _NARROW)
    yield f"{facts[0].rstrip()}\n"
    for fact, reason in zip(facts[1:], reasons[1:], strict=True):
        yield f"{fact.rstrip()}\n"
        yield from (f"{_INDENT}{line}\n" for line in wrap(reason, room, break_long_words=False))


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
