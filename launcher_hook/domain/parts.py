"""The parts of a domain that decide whether a device can have an option."""

from collections.abc import Sequence
from contextlib import suppress

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.document import Element
from launcher_hook.domain.inspect import has_graphics, name_of
from launcher_hook.domain.numa import read_numa
from launcher_hook.model import HostSource, PresentHostdev
from launcher_hook.options import GuestParts


def read_parts(
    root: Element, present: Sequence[tuple[Element, PresentHostdev]], where: str
) -> GuestParts:
    """Read what options depend on.

    Raises:
        InputError: The guest's NUMA cells cannot be read.
    """
    ours = {element: hostdev.source for element, hostdev in present}
    orders: dict[int, str] = {}
    our_orders: dict[HostSource, int] = {}
    for boot in root.iterfind("./devices/*/boot"):
        device = boot.getparent()
        with suppress(ValueError):  # what is no number is the schema's business
            order = parse_number(boot.get("order", ""))
            if device in ours:
                our_orders[ours[device]] = order
            elif device is not None:
                orders.setdefault(order, name_of(device))
    return GuestParts(
        boot_orders=orders,
        our_boot_orders=our_orders,
        boots_by_kind=root.find("./os/boot") is not None,
        has_graphics=has_graphics(root),
        cells=frozenset(read_numa(root, where).cells),
    )
