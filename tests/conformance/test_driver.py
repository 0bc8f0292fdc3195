"""libvirt's own test domains and a launcher's, in two real libvirts: defined, read back, run."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cases import shared_domains
from corpus import read_sources
from libvirt_driver import (
    LibvirtDriver,
    LibvirtRefusedError,
    addresses,
    for_this_machine,
    place_of,
    vfio_devices,
)
from libvirt_trials import Trial, faults_of, trial
from lxml import etree
from nodes import hgx
from tables import write_table

from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError
from launcher_hook.model import Machine
from launcher_hook.render import Inputs
from launcher_hook.settings import Layout, Settings
from launcher_hook.sysfs import HostTree

FUNCTIONS = {
    1: "0000:a6:00.0",
    16: hgx().allocated,
    8: ",".join(f"0000:a6:00.{n}" for n in range(4))
    + ","
    + ",".join(f"0000:{bus:02x}:00.0" for bus in range(0xA8, 0xAC)),
}
MACHINES = {("x86_64", Machine.Q35), ("x86_64", Machine.I440FX), ("aarch64", Machine.VIRT)}


@dataclass
class Tally:
    """What one libvirt made of all the domains."""

    domains: int = 0
    not_defined: int = 0
    defined: int = 0
    compared: int = 0
    argv: int = 0
    not_argv: int = 0


@pytest.fixture(scope="session")
def report() -> Iterator[dict[tuple[str, str, int], Tally]]:
    tallies: dict[tuple[str, str, int], Tally] = {}
    yield tallies
    write_table(
        "driver",
        "Real libvirts: ours defined where the plain domain is",
        ["libvirt", "layout", "functions", "domains", "plain refused", "ours defined",
         "other devices compared, 0 moved", "argv as planned", "plain has no argv"],
        [
            [*key, t.domains, t.not_defined, t.defined, t.compared, t.argv, t.not_argv]
            for key, t in tallies.items()
        ],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("count", "layout"), [(1, "auto"), (8, "auto"), (8, "root-bus"), (16, "mirror")]
)
def test_a_real_libvirt_defines_ours_as_planned_and_moves_nothing_else(
    driver: LibvirtDriver,
    count: int,
    layout: Layout,
    report: dict[tuple[str, str, int], Tally],
    tmp_path: Path,
) -> None:
    version = ".".join(map(str, driver.version))
    tally = report.setdefault((version, layout, count), Tally())
    host = HostTree(hgx().build(tmp_path / "sys") if layout == "mirror" else None)
    trials = list(trials_of(files_for(version), FUNCTIONS[count], layout, host))
    tally.domains = len(trials)
    whole = driver.read_back_all([for_this_machine(t.inputs.domain_xml) for t in trials])
    references = driver.read_back_all([t.reference for t in trials])
    answers = driver.read_back_all([t.ours for t in trials])
    faults: list[str] = []
    defined: list[Trial] = []
    for t, plain, reference, answer in zip(trials, whole, references, answers, strict=True):
        if isinstance(plain, LibvirtRefusedError) or isinstance(reference, LibvirtRefusedError):
            tally.not_defined += 1
        elif isinstance(answer, LibvirtRefusedError):
            faults.append(f"{t.name}: {answer}")
        else:
            defined.append(t)
            tally.compared += len(addresses(reference))
            faults += faults_of(t, reference, answer)
    tally.defined = len(defined)
    faults += argv_faults(driver, defined, tally)
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults)


def files_for(version: str) -> list[Path]:
    """This libvirt's own corpus, and the launcher's domains; a newer one gets the newest corpus."""
    sources = {source.version: source for source in read_sources()}
    newest = max(sources, key=lambda text: [int(part) for part in text.split(".")])
    corpus = sources[version if version in sources else newest].domains()
    assert corpus or os.environ.get("CI") != "true", f"libvirt {version}: make conformance"
    return [*corpus, *shared_domains()]


def trials_of(
    files: Sequence[Path], functions: str, layout: Layout, host: HostTree
) -> Iterator[Trial]:
    for file in files:
        try:
            root = etree.parse(file).getroot()
        except etree.XMLSyntaxError:
            continue
        if root.tag != "domain":
            continue
        inputs = Inputs(
            domain_xml=file.read_bytes(),
            where=file.name,
            allocations=parse_allocations({"PCI_RESOURCE_X": functions}),
            host=host,
            settings=Settings(layout=layout),
        )
        try:
            t = trial(f"{file.parent.name}/{file.name}", inputs)
        except HookError:
            continue  # test_corpus.py counts these and says why
        arch = root.xpath("string(os/type/@arch)") or "x86_64"
        if (arch, t.rendered.decision.topology.machine) in MACHINES:
            yield t


# libvirt 12.8 makes no command with a function where the machine has no vfio; 11.3 does.
_NO_VFIO = "VFIO PCI device assignment is not supported by the host"


def argv_faults(driver: LibvirtDriver, trials: Sequence[Trial], tally: Tally) -> Iterator[str]:
    """One vfio-pci a function, on the planned bus and slot."""
    commands = driver.qemu_argv_all([t.ours for t in trials])
    refused = [t for t, words in zip(trials, commands, strict=True) if not isinstance(words, list)]
    plain = dict(
        zip(
            (t.name for t in refused),
            driver.qemu_argv_all([t.reference for t in refused]),
            strict=True,
        )
    )
    for t, words in zip(trials, commands, strict=True):
        if isinstance(words, list):
            found = {device["host"]: place_of(device) for device in vfio_devices(words)}
            if found == pci_only(t.planned_devices):
                tally.argv += 1
            else:
                yield f"{t.name}: the command has {found}, planned {t.planned_devices}"
        elif isinstance(plain[t.name], list) and _NO_VFIO not in str(words):
            yield f"{t.name}: no command with us: {words}"
        else:
            tally.not_argv += 1


def pci_only(planned: dict[str, tuple[str, str, bool]]) -> dict[str, tuple[str, str, bool]]:
    """Without mediated devices, whose source is a UUID."""
    return {source: place for source, place in planned.items() if ":" in source}
