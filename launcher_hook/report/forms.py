"""Prints a plan in the form that was asked for, and loads no other."""

from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision


def print_plan(form: str, decision: Decision, names: PciNames) -> str:
    """Print a plan as ``table``, ``tree``, ``json``, ``dot`` or ``svg``."""
    match form:
        case "tree":
            from shutil import get_terminal_size

            from launcher_hook.report.tree import print_tree

            return print_tree(decision, names, get_terminal_size().columns)
        case "json":
            from launcher_hook.report.document import print_json

            return print_json(decision, names)
        case "dot":
            from launcher_hook.report.dot import print_dot

            return print_dot(decision, names)
        case "svg":
            from launcher_hook.report.svg import print_svg

            return print_svg(decision, names)
        case _:
            from shutil import get_terminal_size

            from launcher_hook.report.table import print_table

            # Into a pipe a line a device, for grep, unless COLUMNS says otherwise.
            return print_table(decision, names, get_terminal_size((0, 0)).columns)
