"""A plan as a table: one line a device."""

from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.facts import describe_hole, device_facts, print_options

_COLUMNS = ("device", "alias", "host", "class", "name", "group", "numa", "guest", "options", "why")
_OPTIONS = _COLUMNS.index("options")


def print_table(decision: Decision, names: PciNames) -> str:
    """One line a device; ``-`` is "not known", and there are options only where some are asked."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for row in device_facts(decision, names):
        rows.append(
            (
                row["device"] or "-",
                row["alias"],
                row["host"],
                row["class"] or "-",
                row["name"] or "-",
                _text(row["iommu_group"]),
                _text(row["numa_node"]),
                row["guest"] or "libvirt's",
                print_options(row["options"]) or "-",
                f"{row['assigned']}; {row['placed']}",
            )
        )
    if len(rows) == 1:
        return "no devices\n" + describe_hole(decision)
    if not decision.plan.options:
        rows = [(*row[:_OPTIONS], *row[_OPTIONS + 1 :]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = (
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]))
        for row in rows
    )
    return "\n".join(lines) + "\n" + describe_hole(decision)


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
