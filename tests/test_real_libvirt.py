"""What we render, in the hands of libvirt's own qemu driver: defined, read back, made a command.

The reference of "nothing moves" is the same domain with no PCI or mediated hostdev in it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cases import case_names, read_case, shared_domains, vmi_of
from launcher_passes import next_pass
from libvirt_driver import (
    LibvirtDriver,
    LibvirtRefusedError,
    addresses,
    for_this_machine,
    moved,
    without_pci_hostdevs,
)
from lxml import etree

from launcher_hook.env import parse_allocations
from launcher_hook.model import Layout, Machine, Settings
from launcher_hook.render import Inputs, Rendered, render_domain
from launcher_hook.schema import load_schemas

# Refusals of the document that is the same without us: this machine has no such QEMU.
_NO_QEMU = re.compile(
    r"No emulator found for arch|Cannot check QEMU binary /usr/bin/qemu-system-(aarch64|s390x)"
)

# libvirt has no word for what these bring to see that it survives; 9.0 forgets the display of a
# PCI hostdev, which newer ones keep.
_NOT_FOR_THIS_LIBVIRT = ("foreign-content", "kept-parts", "vgpu-function")

_SLOTS = {
    "one": ["0000:a6:00.0"],
    "eight": [f"0000:{bus:02x}:00.0" for bus in range(0xA0, 0xA8)],
    "eight-in-a-slot": [f"0000:a6:00.{function}" for function in range(8)],
}


@dataclass(frozen=True)
class Trial:
    """A domain as libvirt gets it, with us and without."""

    name: str
    inputs: Inputs
    rendered: Rendered

    @property
    def ours(self) -> bytes:
        return for_this_machine(self.rendered.xml)

    @property
    def reference(self) -> bytes:
        return without_pci_hostdevs(for_this_machine(self.inputs.domain_xml))


def trial(name: str, inputs: Inputs) -> Trial:
    return Trial(name, inputs, render_domain(inputs, load_schemas()))


def launcher_trials(functions: Sequence[str], layout: Layout) -> list[Trial]:
    trials = []
    for file in shared_domains():
        inputs = Inputs(
            domain_xml=file.read_bytes(),
            where=file.name,
            vmi=vmi_of(file),
            allocations=parse_allocations({"PCI_RESOURCE_EXAMPLE": ",".join(functions)}),
            settings=Settings(layout=layout),
        )
        trials.append(trial(file.stem, inputs))
    return trials


def case_trials(scratch: Path) -> list[Trial]:
    names = [name for name in case_names() if not name.startswith("refused-")]
    trials = []
    for name in names:
        inputs = read_case(name, scratch / name)
        if name not in _NOT_FOR_THIS_LIBVIRT:
            trials.append(trial(name, inputs))
    return trials


def check_trials(trials: Sequence[Trial], libvirt: LibvirtDriver) -> str:
    """Define every trial; the summary counts devices that were compared."""
    references = libvirt.read_back_all([t.reference for t in trials])
    answers = libvirt.read_back_all([t.ours for t in trials])
    compared = defined = 0
    faults = []
    for t, reference, answer in zip(trials, references, answers, strict=True):
        if isinstance(reference, LibvirtRefusedError):
            assert _NO_QEMU.match(str(reference)), f"{t.name} without us: {reference}"
            continue
        if isinstance(answer, LibvirtRefusedError):
            faults.append(f"{t.name}: {answer}")
            continue
        defined += 1
        compared += len(addresses(reference))
        faults += [f"{t.name}: {line}" for line in moved(reference, answer)]
        faults += [f"{t.name}: {line}" for line in misplaced(t, answer)]
        again = render_domain(replace(t.inputs, domain_xml=answer), load_schemas()).xml
        if again != answer:
            faults.append(f"{t.name}: rendering what libvirt read back changes it")
    assert not faults, "\n".join(faults)
    return f"{len(trials)} domains, {defined} defined, {compared} other devices, 0 moved"


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


@pytest.mark.parametrize("layout", ["auto", "root-bus"])
@pytest.mark.parametrize("functions", _SLOTS.values(), ids=_SLOTS.keys())
def test_launcher_domains_are_defined_as_planned_and_nothing_else_moves(
    functions: list[str], layout: Layout, libvirt: LibvirtDriver
) -> None:
    print(check_trials(launcher_trials(functions, layout), libvirt))


def test_our_cases_are_defined_as_planned_and_nothing_else_moves(
    libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    print(check_trials(case_trials(tmp_path), libvirt))


@pytest.mark.parametrize("layout", ["auto", "root-bus"])
def test_nothing_changes_over_a_launchers_three_passes(
    layout: Layout, libvirt: LibvirtDriver
) -> None:
    first = [
        t
        for t in launcher_trials(["0000:a6:00.0", "0000:a6:00.1", "0000:a7:00.0"], layout)
        if not t.name.startswith(("p2-", "p3-"))
        and t.rendered.decision.topology.machine is Machine.Q35
    ]
    with_us, without_us = [t.ours for t in first], [t.reference for t in first]
    trials = first
    for spare_ports in (0, 3, None):
        ours = [must_define(answer) for answer in libvirt.read_back_all(with_us)]
        reference = [must_define(answer) for answer in libvirt.read_back_all(without_us)]
        for t, one, other in zip(trials, ours, reference, strict=True):
            assert misplaced(t, one) == []
            assert moved(other, one) == []
        if spare_ports is None:
            break
        nexts = [
            next_pass(sent, answer, spare_ports) for sent, answer in zip(with_us, ours, strict=True)
        ]
        trials = [
            trial(t.name, replace(t.inputs, domain_xml=xml))
            for t, xml in zip(trials, nexts, strict=True)
        ]
        for t, earlier in zip(trials, first, strict=True):
            assert places(t) == places(earlier), t.name
        with_us = [t.ours for t in trials]
        without_us = [
            next_pass(sent, answer, spare_ports)
            for sent, answer in zip(without_us, reference, strict=True)
        ]
    print(f"{len(first)} domains, three passes")


def must_define(answer: bytes | LibvirtRefusedError) -> bytes:
    assert isinstance(answer, bytes), answer
    return answer


def places(t: Trial) -> dict[str, str]:
    """Guest address and multifunction of each device of ours, by host source."""
    return {
        str(p.assignment.source): f"{p.guest_address} {p.multifunction}"
        for p in t.rendered.decision.plan.placements
    }


@pytest.mark.parametrize(
    "name",
    ["readme", "readme-root-bus", "companions", "functions-of-one-slot", "i440fx", "pins",
     "sriov-interfaces", "second-pass"],
)  # fmt: skip
def test_the_qemu_command_has_each_function_on_the_planned_bus(
    name: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    t = trial(name, read_case(name, tmp_path))
    arguments = libvirt.qemu_argv(t.ours)
    devices = [json.loads(a) for a in arguments if a.startswith('{"driver":"vfio-pci"')]
    machine = t.rendered.decision.topology.machine
    root = "pci.0" if machine is Machine.I440FX else "pcie.0"
    planned = {}
    for placement in t.rendered.decision.plan.placements:
        place = placement.guest_address
        assert place is not None
        bus = f"pci.{place.bus}" if place.bus else root
        addr = f"0x{place.slot:x}" + (f".0x{place.function:x}" if place.function else "")
        planned[str(placement.assignment.source)] = (bus, addr, placement.multifunction)
    found = {d["host"]: (d["bus"], d["addr"], d.get("multifunction", False)) for d in devices}
    assert found == planned
    assert len(devices) == len(planned)
