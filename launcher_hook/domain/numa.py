"""The guest's NUMA cells, and which of the host's nodes and CPUs they are bound to."""

from launcher_hook.cpuset import CpuSet, parse_cpuset
from launcher_hook.domain.address import parse_number
from launcher_hook.domain.document import Element
from launcher_hook.errors import InputError
from launcher_hook.model import GuestNuma


def read_numa(root: Element, where: str = "domain XML") -> GuestNuma:
    """Read ``<cpu><numa>``, ``<numatune>`` and ``<cputune>``.

    Raises:
        InputError: A number or a set of numbers cannot be read; libvirt would refuse it too.
    """
    cells: dict[int, CpuSet] = {}
    for position, cell in enumerate(root.iterfind("./cpu/numa/cell")):
        number = _number(cell, "id", str(position), where)  # without ids they count from 0
        cells[number] = _members(cell, "cpus", where)
    memory_nodes = {
        _number(node, "cellid", "", where): _members(node, "nodeset", where)
        for node in root.iterfind("./numatune/memnode")
    }
    pins = {
        _number(pin, "vcpu", "", where): _members(pin, "cpuset", where)
        for pin in root.iterfind("./cputune/vcpupin")
    }
    return GuestNuma(cells, memory_nodes, pins)


def _number(element: Element, name: str, default: str, where: str) -> int:
    text = element.get(name, default)
    try:
        return parse_number(text)
    except ValueError as error:
        raise _fault(element, name, error, where) from None


def _members(element: Element, name: str, where: str) -> CpuSet:
    try:
        return parse_cpuset(element.get(name, ""))
    except ValueError as error:
        raise _fault(element, name, error, where) from None


def _fault(element: Element, name: str, error: ValueError, where: str) -> InputError:
    what, _, fix = str(error).partition("; ")
    place = f"{where}:{element.sourceline}: {element.tag!s}/@{name}"
    return InputError(place, what, fix or "write what libvirt takes")
