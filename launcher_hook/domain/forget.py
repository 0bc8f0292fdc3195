"""Takes out of a domain where its passed-through devices are, as before the VM's first start."""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.document import Element, parse_domain, print_domain
from launcher_hook.domain.inspect import alias_of, guest_address, passed_hostdevs
from launcher_hook.domain.layout import take_out
from launcher_hook.errors import InputError
from launcher_hook.model import OUR_MODELS


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
                take_out(element)
    carriers, on_bus = _carriers(root), _on_buses(root)
    if emptied:  # the spare ports for hotplug come later than ours, and so above them
        lowest = min(emptied)
        ports = (i for i, c in carriers.items() if c.get("model") == "pcie-root-port")
        emptied += [index for index in ports if index > lowest]
    while emptied:
        bus = emptied.pop()
        if bus not in carriers or on_bus[bus]:
            continue
        controller = carriers.pop(bus)
        above = guest_address(controller, f"{where}:{controller.sourceline}: controller")
        take_out(controller)
        if above is not None:
            on_bus[above.bus] -= 1
            emptied.append(above.bus)
    xml = print_domain(tree, domain_xml)
    return domain_xml if xml == printed else xml


def _carriers(root: Element) -> dict[int, Element]:
    """The controllers that can carry our devices, by index."""
    found = {}
    for controller in root.iterfind("./devices/controller[@type='pci']"):
        if controller.get("model") in OUR_MODELS:
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
