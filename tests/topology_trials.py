"""What a layout made of a node, looked at in what libvirt read back and in the node's ``/sys``.

Distances are worked out a second time: see ``apart``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apart import Seen, changed_distances, on_host
from cases import CASES
from launcher_passes import next_pass
from libvirt_driver import LibvirtDriver, LibvirtRefusedError, moved
from libvirt_trials import Trial, faults_of, misplaced, trial
from lxml import etree
from nodes import Node

from launcher_hook.env import parse_allocations
from launcher_hook.render import Inputs
from launcher_hook.settings import BY_NODE, Layout, Settings
from launcher_hook.sysfs import HostTree

LAYOUTS: tuple[Layout, ...] = ("root-port", "numa", "mirror")

_NUMA = """
<domain>
  <vcpu>8</vcpu>
  <cpu><topology sockets="1" cores="8" threads="1"/>
    <numa>
      <cell id="0" cpus="0-3" memory="2097152" unit="KiB"/>
      <cell id="1" cpus="4-7" memory="2097152" unit="KiB"/>
    </numa>
  </cpu>
  <numatune>
    <memory mode="strict" nodeset="0,1"/>
    <memnode cellid="0" mode="strict" nodeset="0"/>
    <memnode cellid="1" mode="strict" nodeset="1"/>
  </numatune>
</domain>
"""


def two_cells() -> bytes:
    """A launcher's domain without passed-through devices, with two NUMA cells on nodes 0 and 1."""
    domain = etree.fromstring((CASES / "stock-sidecar" / "domain.xml").read_bytes())
    for hostdev in domain.findall("devices/hostdev"):
        hostdev.getparent().remove(hostdev)
    for tag in ("vcpu", "cpu", "numatune"):
        for old in domain.findall(tag):
            domain.remove(old)
    domain.extend(etree.fromstring(_NUMA))
    return etree.tostring(domain)


def topology_trial(node: Node, layout: Layout, root: Path, domain: bytes | None = None) -> Trial:
    """A node's allocation, rendered."""
    if not root.exists():
        node.build(root)
    inputs = Inputs(
        domain_xml=domain or two_cells(),
        where=node.name,
        allocations=parse_allocations({"PCI_RESOURCE_EXAMPLE": node.allocated}),
        host=HostTree(root),
        settings=Settings(layout=layout),
    )
    return trial(f"{node.name}, {layout}", inputs)


@dataclass(frozen=True)
class Outcome:
    """What a layout made of a node, in one libvirt; a list of faults each, empty is good.

    Attributes:
        refused: libvirt's words, if it would not define it.
        other: Others that moved, ours that are not where planned, a second render that differs.
        passes: What differs in a launcher's second and third pass.
        distances: Pairs that are another distance apart; the layout mirror promises none.
        nodes: Functions in another cell; the layouts numa and mirror promise none.
    """

    functions: int
    controllers: int
    refused: str = ""
    other: Sequence[str] = ()
    passes: Sequence[str] = ()
    distances: Sequence[str] = ()
    nodes: Sequence[str] = ()

    def faults(self, layout: Layout) -> list[str]:
        """What the layout has promised and not kept."""
        return [
            *filter(None, [self.refused]),
            *self.other,
            *self.passes,
            *(self.distances if layout == "mirror" else ()),
            *(self.nodes if layout in BY_NODE else ()),
        ]


def try_topology(node: Node, layout: Layout, libvirt: LibvirtDriver, root: Path) -> Outcome:
    """Render a node's allocation, define it, and look at what libvirt made of it."""
    t = topology_trial(node, layout, root)
    plan = t.rendered.decision.plan
    answer, reference = libvirt.read_back_all([t.ours, t.reference])
    assert isinstance(reference, bytes), reference
    size = (len(plan.placements), len(plan.controllers))
    if isinstance(answer, LibvirtRefusedError):
        return Outcome(*size, refused=str(answer))
    guest = in_guest(answer)
    host = {bdf: on_host(root, bdf) for bdf in guest}
    return Outcome(
        *size,
        other=faults_of(t, reference, answer),
        passes=list(_changes_over_passes(t, answer, libvirt)),
        distances=changed_distances(host, guest),
        nodes=changed_nodes(host, guest),
    )


def _changes_over_passes(first: Trial, answer: bytes, libvirt: LibvirtDriver) -> Iterator[str]:
    """Go on from libvirt's answer as a launcher does; only the third pass brings spare ports."""
    sent, planned = first.ours, in_guest(answer)
    for number, spare_ports in ((2, 0), (3, 3)):
        t = first.next(next_pass(sent, answer, spare_ports))
        (again,) = libvirt.read_back_all([t.ours])
        if isinstance(again, LibvirtRefusedError):
            yield f"{t.name}: pass {number}: {again}"
            return
        lines = [*moved(answer, again), *misplaced(t, again)]
        yield from (f"{t.name}: pass {number}: {line}" for line in lines)
        if in_guest(again) != planned:
            yield f"{t.name}: pass {number}: {in_guest(again)}, not {planned}"
        sent, answer = t.ours, again


def in_guest(xml: bytes) -> dict[str, Seen]:
    """Each passed-through function of a domain, by its host BDF."""
    devices = etree.fromstring(xml).find("devices")
    controllers = {int(c.get("index")): c for c in devices.findall("controller[@type='pci']")}
    found = {}
    for hostdev in devices.findall("hostdev[@type='pci']"):
        source = hostdev.find("source/address")
        bdf = "{:04x}:{:02x}:{:02x}.{:x}".format(*_numbers(source))
        steps: list[str] = []
        above = hostdev
        while True:
            _, bus, slot, function = _numbers(above.find("address"))
            steps.insert(0, f"{slot:02x}.{function}")
            above = controllers[bus]
            if above.get("model") in ("pcie-root", "pci-root", "pcie-expander-bus"):
                break
        node = above.findtext("target/node") or "-1"
        found[bdf] = Seen(node, f"bus {above.get('index')}", tuple(steps))
    return found


def _numbers(address: etree._Element) -> list[int]:
    return [int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]


def changed_nodes(host: dict[str, Seen], guest: dict[str, Seen]) -> list[str]:
    """Functions whose cell is not that of their node; here cell N is node N. Empty is good."""
    return [
        f"{bdf}: node {host[bdf].node} -> cell {seen.node}"
        for bdf, seen in guest.items()
        if host[bdf].node != seen.node
    ]
