"""A domain as a libvirt gets it, with us and without, and what is to be seen in its answer."""

from dataclasses import dataclass, replace

from libvirt_driver import for_this_machine, moved, without_pci_hostdevs
from lxml import etree

from launcher_hook.model import Machine
from launcher_hook.render import Inputs, Rendered, render_domain
from launcher_hook.schema import load_schemas


@dataclass(frozen=True)
class Trial:
    """What goes in. The reference of "nothing moves" is the same domain without PCI hostdevs."""

    name: str
    inputs: Inputs
    rendered: Rendered

    @property
    def ours(self) -> bytes:
        return for_this_machine(self.rendered.xml)

    @property
    def reference(self) -> bytes:
        return without_pci_hostdevs(for_this_machine(self.inputs.domain_xml))

    @property
    def planned_devices(self) -> dict[str, tuple[str, str, bool]]:
        """Bus, address and multifunction in QEMU's words, by the host function's address."""
        root = "pci.0" if self.rendered.decision.topology.machine is Machine.I440FX else "pcie.0"
        planned = {}
        for placement in self.rendered.decision.plan.placements:
            if placement.assignment.is_unassigned:
                continue  # libvirt binds it, and QEMU is not told of it
            place = placement.guest_address
            assert place is not None
            bus = f"pci.{place.bus}" if place.bus else root
            addr = f"0x{place.slot:x}" + (f".0x{place.function:x}" if place.function else "")
            planned[str(placement.assignment.source)] = (bus, addr, placement.multifunction)
        return planned

    def next(self, domain_xml: bytes) -> "Trial":
        """The same with what the next pass brings."""
        return trial(self.name, replace(self.inputs, domain_xml=domain_xml))


def trial(name: str, inputs: Inputs) -> Trial:
    return Trial(name, inputs, render_domain(inputs, load_schemas()))


def faults_of(t: Trial, reference: bytes, answer: bytes) -> list[str]:
    """What does not hold in libvirt's read-back of ours.

    Our devices are where planned, the others where they are without us, and rendering the
    read-back changes no byte; where libvirt has no driver models (9.0), nothing but these.
    """
    faults = [f"{t.name}: {line}" for line in (*moved(reference, answer), *misplaced(t, answer))]
    again = t.next(answer).rendered.xml
    if again != answer and (_MODEL in answer or _without_model(again) != _without_model(answer)):
        faults.append(f"{t.name}: rendering what libvirt read back changes it")
    return faults


_MODEL = b"<driver name='vfio' model='vfio-pci'"


def _without_model(xml: bytes) -> str:
    domain = etree.fromstring(xml)
    for driver in domain.iterfind("devices/hostdev/driver[@model]"):
        del driver.attrib["model"]
    return etree.canonicalize(domain, strip_text=True)


def misplaced(t: Trial, answer: bytes) -> list[str]:
    """Our devices whose address in libvirt's answer is not the planned one."""
    found = {}
    for hostdev in etree.fromstring(answer).iterfind("devices/hostdev"):
        alias, address = hostdev.find("alias"), hostdev.find("address")
        if alias is not None and address is not None:
            parts = [int(address.get(key, "0"), 0) for key in ("bus", "slot", "function")]
            multifunction = address.get("multifunction") == "on"
            found[alias.get("name")] = (parts, multifunction)
    lines = []
    for placement in t.rendered.decision.plan.placements:
        place = placement.guest_address
        if place is not None:
            planned = ([place.bus, place.slot, place.function], placement.multifunction)
            got = found.get(placement.assignment.alias)
            if got != planned:
                lines.append(f"{placement.assignment.alias} planned at {planned}, is at {got}")
    return lines


def places(t: Trial) -> dict[str, str]:
    """Guest address and multifunction of each device of ours, by host source."""
    return {
        str(p.assignment.source): f"{p.guest_address} {p.multifunction}"
        for p in t.rendered.decision.plan.placements
    }
