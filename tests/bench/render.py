"""`make bench`: what a render costs, as a ratio to the floor that any renderer pays.

The floor: parse the rendered domain with lxml, validate each of its hostdevs and root ports as a
fragment, print it. Both run in turn, in this process, so that a noisy machine slows both.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

from lxml import etree

sys.path.insert(0, str(Path(__file__).parent.parent))

from cases import CASES, SHARED_DOMAINS

from launcher_hook.env import parse_allocations
from launcher_hook.model import (
    Assignment,
    GuestNuma,
    GuestTopology,
    HostFacts,
    HostFunction,
    Machine,
)
from launcher_hook.pci import PciAddress
from launcher_hook.plan import plan_guest
from launcher_hook.render import Inputs, render_domain
from launcher_hook.schema import SchemaSet, load_schemas
from launcher_hook.settings import Settings

# Functions, and the host slots they sit in: one a slot, or slots of eight.
SIZES = {
    1: ["0000:86:00.0"],
    8: [f"0000:{bus:02x}:00.0" for bus in range(0x80, 0x88)],
    64: [f"0000:{bus:02x}:00.{f}" for bus in range(0x80, 0x88) for f in range(8)],
    256: [f"0000:{bus:02x}:00.{f}" for bus in range(0x80, 0xA0) for f in range(8)],
}
GOAL_RATIO, GOAL_MS = 3.0, 2.0  # at 8 functions
MUST_MS = 5.0  # for planning 64 functions on a mirrored tree


def main() -> int:
    schemas = load_schemas()
    file = SHARED_DOMAINS / "v-gpu-1.xml"
    domain = (file if file.exists() else CASES / "stock-sidecar" / "domain.xml").read_bytes()
    print(f"one domain of {len(domain)} bytes, checked against {schemas.name}; milliseconds")
    print("functions   render median    p95   floor median    p95   ratio")
    medians = {}
    for count, functions in SIZES.items():
        allocations = parse_allocations({"PCI_RESOURCE_BENCH": ",".join(functions)})
        inputs = Inputs(domain_xml=domain, allocations=allocations)
        rendered = render_domain(inputs, schemas).xml
        ours, floor = in_turn(
            lambda inputs=inputs: render_domain(inputs, schemas),  # type: ignore[misc]
            lambda rendered=rendered: pay_the_floor(rendered, schemas),  # type: ignore[misc]
            rounds=max(20, 1600 // count),
        )
        medians[count] = median(ours)
        print(
            f"{count:9}   {median(ours):13.2f} {p95(ours):6.2f}   {median(floor):12.2f} "
            f"{p95(floor):6.2f}   {median(ours) / median(floor):5.2f}"
        )
        if count == 8:
            at_8 = (median(ours) / median(floor), median(ours))
    mirror_ms = plan_mirrored(64)
    growth = medians[256] / medians[8]
    print(
        f"at 8 functions: ratio {at_8[0]:.2f} (goal {GOAL_RATIO:g}), "
        f"{at_8[1]:.2f} ms (goal {GOAL_MS:g}); "
        f"8 to 256 functions: {growth:.1f} times the time for 32 times the functions"
    )
    print(f"planning 64 functions on a mirrored tree: {mirror_ms:.1f} ms median (must {MUST_MS:g})")
    return 0


def plan_mirrored(count: int) -> float:
    """Milliseconds to plan functions on 4 root complexes with two switches of 8 ports each."""
    functions = {}
    for n in range(count):
        root, switch, port = n // 16, n // 8, n % 8
        bridges = (
            PciAddress(root, 0, switch % 2, 0),
            PciAddress(root, 1 + switch, 0, 0),
            PciAddress(root, 20 + switch, port, 0),
        )
        address = PciAddress(root, 40 + n, 0, 0)
        functions[address] = HostFunction(address, numa_node=root // 2, bridges=bridges)
    assigned = [Assignment(address, f"ua-{n}", "bench") for n, address in enumerate(functions)]
    nodes = {0: frozenset({0}), 1: frozenset({1})}
    topology = GuestTopology(
        Machine.Q35, "q35", {}, {}, waiting=8, waiting_on_root=0, numa=GuestNuma(nodes, nodes)
    )
    settings, facts = Settings(layout="mirror", strict=True), HostFacts(True, functions)
    ours, _ = in_turn(
        lambda: plan_guest(assigned, topology, settings, facts), lambda: None, rounds=200
    )
    return median(ours)


def pay_the_floor(xml: bytes, schemas: SchemaSet) -> bytes:
    root = etree.fromstring(xml)
    for hostdev in root.iterfind("./devices/hostdev"):
        schemas.fragment_faults(hostdev, "hostdev")
    for controller in root.iterfind("./devices/controller[@model='pcie-root-port']"):
        schemas.fragment_faults(controller, "controller")
    return etree.tostring(root)


def in_turn(
    ours: Callable[[], object], floor: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    for _ in range(3):
        ours()
        floor()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for which, run in enumerate((ours, floor)):
            start = time.perf_counter()
            run()
            times[which].append((time.perf_counter() - start) * 1000)
    return times


def p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


if __name__ == "__main__":
    sys.exit(main())
