"""Takes out of a domain where its passed-through devices are, as before the VM's first start."""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.document import Element, parse_domain, print_domain
from launcher_hook.domain.inspect import alias_of, guest_address, passed_hostdevs
from launcher_hook.errors import InputError

_CARRIERS = (
    "pcie-root-port",
    "pcie-switch-downstream-port",
    "pcie-switch-upstream-port",
    "pcie-expander-bus",
)


def forget_places(
    domain_xml: bytes, where: str = "domain XML", placed: Collection[str] = ()
) -> bytes:
    """Forget the guest addresses of passed-through devices, and the controllers for them alone.

    A domain of a started VM has an address for everything, and an address that a device has is
    kept. virt-launcher makes the domain anew at each start: then none has but what the VMI says.

    Args:
        domain_xml: The domain.
        where: Its name in messages.
        placed: Aliases of devices whose address the VMI says.

    Raises:
        InputError: The document or an address in it cannot be read.
    """
    tree = parse_domain(domain_xml, where)
    root = tree.getroot()
    printed = print_domain(tree, domain_xml)
    emptied = []
    for hostdev in passed_hostdevs(root):
        if alias_of(hostdev) in placed:
            continue
        address = guest_address(hostdev, f"{where}:{hostdev.sourceline}: hostdev")
        if address is not None:
            emptied.append(address.bus)
            for element in hostdev.findall("./address"):
                _take_out(element)
    while emptied:
        bus = emptied.pop()
        controller = _carriers(root).get(bus)
        if controller is not None and not _on_buses(root)[bus]:
            above = guest_address(controller, f"{where}:{controller.sourceline}: controller")
            _take_out(controller)
            if above is not None:
                emptied.append(above.bus)
    xml = print_domain(tree, domain_xml)
    return domain_xml if xml == printed else xml


def _carriers(root: Element) -> dict[int, Element]:
    """The controllers that can carry our devices, by index."""
    found = {}
    for controller in root.iterfind("./devices/controller[@type='pci']"):
        if controller.get("model") in _CARRIERS:
            with suppress(ValueError):
                found[parse_number(controller.get("index", ""))] = controller
    return found


def _on_buses(root: Element) -> Counter[int]:
    """How many devices are on each guest bus."""
    found: Counter[int] = Counter()
    for device in root.iterfind("./devices/*"):
        with suppress(InputError):  # it is refused with its place when it is planned for
            address = guest_address(device, str(device.tag))
            if address is not None:
                found[address.bus] += 1
    return found


def _take_out(element: Element) -> None:
    """Remove an element and the white space that set it on its line."""
    parent, previous = element.getparent(), element.getprevious()
    if parent is None:
        return
    if element.getnext() is None:  # the closing tag's indentation moves before it
        if previous is not None:
            previous.tail = element.tail
        else:
            parent.text = element.tail
    elif element.tail and element.tail.strip():  # text is nobody's to take out
        if previous is not None:
            previous.tail = (previous.tail or "") + element.tail
        else:
            parent.text = (parent.text or "") + element.tail
    parent.remove(element)
