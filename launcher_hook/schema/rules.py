"""What RELAX NG cannot say: rules over the whole domain.

libvirt refuses some of what these rules find (double use), silently drops some (an alias with a
dot), and lets some pass that QEMU refuses (a slot's second function beside multifunction='off') or
the guest never sees (function 1 of a slot without function 0).
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from launcher_hook.assign import is_user_alias
from launcher_hook.domain.address import read_address
from launcher_hook.domain.attached import function_sources
from launcher_hook.domain.document import first_child
from launcher_hook.domain.inspect import name_of
from launcher_hook.errors import InputError, shorten
from launcher_hook.hidden import FIX, describe_hidden, find_hidden
from launcher_hook.model import PORT_MODELS, Machine
from launcher_hook.pci import PciAddress
from launcher_hook.schema.fault import Element, Fault, element_name, fault_at, first_faults
from launcher_hook.schema.guest import Guest, Seat, read_guest

_V = TypeVar("_V")

# domain_addr.c: virDomainPCIAddressBusSetModel.  Buses on which only these may sit.
_ONLY_PORTS = {
    "pcie-expander-bus": ("pcie-root-port", "dmi-to-pci-bridge"),
    "pcie-switch-upstream-port": ("pcie-switch-downstream-port",),
}

_MOST_NAMED = 5  # devices in a message


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault whose path is looked for when it is asked for, and the devices that it is about."""

    rule: str
    place: Element
    what: str
    fix: str
    devices: tuple[Element, ...]
    attribute: str

    @property
    def fault(self) -> Fault:
        """What is wrong, and where."""
        return fault_at(self.place, self.what, self.fix, self.attribute, self.rule)


def rule_faults(root: Element) -> tuple[Fault, ...]:
    """What the rules have against a domain; each fault has its ``rule``.

    A number that cannot be read is the schema's business and passed over here.  ``what`` holds
    nothing that an edit elsewhere changes (aliases, places), so that the faults of two versions
    of a domain can be compared.
    """
    return first_faults((finding.fault for finding in rule_findings(root)), root)


def rule_findings(root: Element) -> tuple[Finding, ...]:
    """As `rule_faults`, but everything, and with the devices that each fault is about."""
    guest = read_guest(root)
    return tuple(finding for rule in _RULES for finding in rule(guest))


def _finding(
    rule: str, place: Element, what: str, fix: str, *devices: Element, attribute: str = ""
) -> Finding:
    return Finding(rule, place, what, fix, devices, attribute)


def _controller_index_twice(guest: Guest) -> Iterator[Finding]:
    for index, owners in guest.controllers.items():
        for owner in owners[1:]:
            what = f"PCI controller index {index} stands twice"
            fix = "give each controller an index of its own"
            pair = (owners[0], owner)
            yield _finding("controller-index-twice", owner, what, fix, *pair, attribute="index")


def _guest_domain(guest: Guest) -> Iterator[Finding]:
    for seat in guest.seats:
        if seat.address.domain:
            what = f"guest address {seat.address} has PCI domain {seat.address.domain:#06x}"
            fix = "write domain='0x0000', the only one that a guest has"
            place, attribute = seat.element, "domain"
            yield _finding("guest-domain", place, what, fix, seat.device, attribute=attribute)


def _guest_address_twice(guest: Guest) -> Iterator[Finding]:
    for seats in _twice((seat.address, seat) for seat in guest.seats):
        owners = [seat.device for seat in seats]
        what = f"guest address {seats[0].address} is given to {len(owners)} devices"
        names = ", ".join(map(name_of, owners[:_MOST_NAMED]))
        fix = f"give each of them an address of its own: {names}"
        yield _finding("guest-address-twice", seats[1].element, what, fix, *owners)


def _bus_without_controller(guest: Guest) -> Iterator[Finding]:
    seats: defaultdict[int, list[Seat]] = defaultdict(list)
    for seat in guest.seats:
        # Bus 0 is the machine's own: libvirt adds its controller.
        if seat.address.bus and not seat.address.domain:
            seats[seat.address.bus].append(seat)
    for bus, there in seats.items():
        if guest.bus_model(bus) is None:
            what = f"guest bus {bus:#04x} has no PCI controller with index {bus}"
            fix = _missing_controller_fix(guest, bus)
            place, devices = there[0].element, (seat.device for seat in there)
            yield _finding("bus-without-controller", place, what, fix, *devices, attribute="bus")


def _missing_controller_fix(guest: Guest, bus: int) -> str:
    if guest.machine is Machine.OTHER:
        return f"write a PCI controller with index='{bus}', or another bus"
    model = "pci-bridge" if guest.machine is Machine.I440FX else "pcie-root-port"
    fix = f"write <controller type='pci' index='{bus}' model='{model}'/>"
    return f"{fix}, or leave it to libvirt, which adds a plain {model} by itself"


def _slot_of_port(guest: Guest) -> Iterator[Finding]:
    for seat in guest.seats:
        model = guest.bus_model(seat.address.bus)
        if seat.address.slot and model in PORT_MODELS:
            what = f"slot {seat.address.slot:#04x} is on a {model}, which has slot 0x00 only"
            fix = "write slot='0x00', or the bus of another controller"
            yield _finding("slot-of-port", seat.element, what, fix, seat.device, attribute="slot")


def _not_a_port(guest: Guest) -> Iterator[Finding]:
    for seat in guest.seats:
        model = guest.bus_model(seat.address.bus) or ""
        own = seat.device.get("model") if seat.device.tag == "controller" else None
        if model in _ONLY_PORTS and own not in _ONLY_PORTS[model]:
            what = f"<{element_name(seat.device)}> at {seat.address} sits directly on a {model}"
            fix = f"put a {_ONLY_PORTS[model][0]} there and the device behind it"
            yield _finding("not-a-port", seat.element, what, fix, seat.device, attribute="bus")


def _no_function_zero(guest: Guest) -> Iterator[Finding]:
    for address in find_hidden((seat.address for seat in guest.seats), guest.machine):
        seats = guest.slots[address.slot_key]
        if any(map(_is_completed, seats)):
            continue
        owners = (seat.device for seat in seats)
        place, what = seats[0].element, describe_hidden(address)
        yield _finding("no-function-zero", place, what, FIX, *owners, attribute="function")


def _is_completed(seat: Seat) -> bool:
    """Whether libvirt puts function 0 beside it: the other parts of an ICH9 USB controller."""
    device = seat.device
    return device.get("type") == "usb" and device.get("model", "").startswith("ich9-")


def _multifunction_off(guest: Guest) -> Iterator[Finding]:
    """Where it is not said libvirt completes it (virDomainPCIAddressSetAllMulti)."""
    for seats in guest.slots.values():
        if all(seat.address.function == 0 for seat in seats):
            continue
        alone = [s for s in seats if s.address.function == 0 and s.multifunction == "off"]
        if alone:
            what = f"guest address {alone[0].address} says that it is its slot's only function"
            fix = "write multifunction='on' in it: QEMU starts no guest that has others there"
            owners = (seat.device for seat in seats)
            yield _finding("multifunction-off", alone[0].element, what, fix, *owners)


def _hostdev_alias(guest: Guest) -> Iterator[Finding]:
    for hostdev in guest.hostdevs():
        alias = first_child(hostdev, "alias")
        if alias is None or not alias.get("name"):
            what = "the hostdev has no alias, which crashes virt-launcher"
            fix = "add <alias name='ua-...'/>"
            yield _finding("alias-missing", hostdev, what, fix, hostdev)
        elif not is_user_alias(alias.get("name", "")):
            what = f"alias {shorten(alias.get('name'))} is none that libvirt keeps"
            fix = "write ua- and then letters, digits, _ or -"
            yield _finding("alias-form", alias, what, fix, hostdev, attribute="name")


def _alias_twice(guest: Guest) -> Iterator[Finding]:
    aliases = [
        (device, alias) for device in guest.devices for alias in device.iterchildren("alias")
    ]
    named = ((alias.get("name"), (device, alias)) for device, alias in aliases)
    for pairs in _twice((name, pair) for name, pair in named if name):
        alias = pairs[1][1]
        what = f"alias {shorten(alias.get('name'))} is given to {len(pairs)} devices"
        owners = [owner for owner, _ in pairs]
        fix = f"give each an alias of its own: {', '.join(map(name_of, owners[:_MOST_NAMED]))}"
        yield _finding("alias-twice", alias, what, fix, *owners, attribute="name")


def _source_twice(guest: Guest) -> Iterator[Finding]:
    for pairs in _twice(_sources(guest)):
        device, text = pairs[1]
        what = f"host device {text} is passed through {len(pairs)} times"
        owners = [owner for owner, _ in pairs]
        yield _finding("source-twice", device, what, "leave it in one of them", *owners)


def _sources(guest: Guest) -> Iterator[tuple[Hashable, tuple[Element, str]]]:
    shared: set[PciAddress] = set()  # an NVMe has a disk for each of its namespaces
    for taken in function_sources(guest.root):
        with suppress(InputError):
            address = read_address(taken.address, "")
            if not taken.is_shared or address not in shared:
                yield address, (taken.device, str(address))
            if taken.is_shared:
                shared.add(address)
    for hostdev in guest.hostdevs():
        element = hostdev.find("source/address")
        if element is None or hostdev.get("mode", "subsystem") != "subsystem":
            continue
        if hostdev.get("type") == "mdev":
            uuid = element.get("uuid", "").lower().replace("-", "")
            if uuid:
                yield uuid, (hostdev, element.get("uuid", "").lower())
        elif hostdev.get("type") == "pci":
            with suppress(InputError):
                address = read_address(element, "")
                yield address, (hostdev, str(address))


def _twice(pairs: Iterable[tuple[Hashable, _V]]) -> Iterator[list[_V]]:
    """The values of each key that stands more than once."""
    values: defaultdict[Hashable, list[_V]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return (same for same in values.values() if len(same) > 1)


_RULES: tuple[Callable[[Guest], Iterator[Finding]], ...] = (
    _controller_index_twice,
    _guest_domain,
    _guest_address_twice,
    _bus_without_controller,
    _slot_of_port,
    _not_a_port,
    _no_function_zero,
    _multifunction_off,
    _hostdev_alias,
    _alias_twice,
    _source_twice,
)
