"""What we render, in the hands of libvirt's own qemu driver: defined, read back, made a command."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from cases import case_names, read_case, shared_domains, vmi_of
from launcher_passes import next_pass
from libvirt_driver import (
    LibvirtDriver,
    LibvirtRefusedError,
    addresses,
    moved,
    place_of,
    vfio_devices,
)
from libvirt_trials import Trial, faults_of, misplaced, places, trial

from launcher_hook.env import parse_allocations
from launcher_hook.model import Machine
from launcher_hook.render import Inputs
from launcher_hook.settings import Layout, Settings

# libvirt has no word for what these bring to see that it survives; 9.0 forgets the display of a
# PCI hostdev and its driver's iommufd, which newer ones keep.
_NOT_FOR_THIS_LIBVIRT = (
    "foreign-content", "iommufd", "iommufd-of-claim", "kept-parts", "vgpu-function",
)  # fmt: skip

_SLOTS = {
    "one": ["0000:a6:00.0"],
    "eight": [f"0000:{bus:02x}:00.0" for bus in range(0xA0, 0xA8)],
    "eight-in-a-slot": [f"0000:a6:00.{function}" for function in range(8)],
}


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
            assert reference.lacks_qemu, f"{t.name} without us: {reference}"
            continue
        if isinstance(answer, LibvirtRefusedError):
            faults.append(f"{t.name}: {answer}")
            continue
        defined += 1
        compared += len(addresses(reference))
        faults += faults_of(t, reference, answer)
    assert not faults, "\n".join(faults)
    return f"{len(trials)} domains, {defined} defined, {compared} other devices, 0 moved"


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
        trials = [t.next(xml) for t, xml in zip(trials, nexts, strict=True)]
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


@pytest.mark.parametrize(
    "name",
    ["readme", "readme-root-bus", "companions", "functions-of-one-slot", "i440fx", "pins",
     "sriov-interfaces", "second-pass"],
)  # fmt: skip
def test_the_qemu_command_has_each_function_on_the_planned_bus(
    name: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    t = trial(name, read_case(name, tmp_path))
    devices = vfio_devices(libvirt.qemu_argv(t.ours))
    assert {d["host"]: place_of(d) for d in devices} == t.planned_devices
    assert len(devices) == len(t.planned_devices)
