"""The whole of `make e2e`, as CI runs it: minutes, and root."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cases import SUITES, Case, choose_cases
from e2e.report import Report, read_events

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = choose_cases(SUITES[0])
RUN = [sys.executable, REPOSITORY / "tests/e2e/run.py"]
OUT = REPOSITORY / "build/e2e"


@pytest.fixture(scope="session")
def ran() -> "subprocess.CompletedProcess[bytes]":
    """One run for all; what it prints is seen as it comes."""
    return subprocess.run([*RUN, "--retry"], check=False)


# Two tries of 25 minutes, and an image.
@pytest.mark.timeout(3600)
def test_the_run_ends_well(ran: "subprocess.CompletedProcess[bytes]") -> None:
    assert ran.returncode == 0
    assert "**no**" not in (OUT / "report.md").read_text()
    assert (OUT / "level1.log").stat().st_size > 0
    assert list(OUT.glob("default_*.console"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, ran: "subprocess.CompletedProcess[bytes]") -> None:
    report = Report()
    for event in read_events(OUT / "events.jsonl"):
        report.add(event)
    assert report.faults(case) == []


def test_level_1_has_the_libvirt_and_the_qemu_of_the_compatibility_table(
    ran: "subprocess.CompletedProcess[bytes]",
) -> None:
    first = (OUT / "report.md").read_text().partition("\n")[0]
    libvirt = re.search(r"libvirt-daemon (\d+\.\d+\.\d+)", first)
    qemu = re.search(r"qemu-system-x86 1:(\d+\.\d+)", first)
    assert libvirt
    assert qemu
    row = re.escape(f"| libvirt, QEMU | {libvirt[1]}, {qemu[1]} |") + ".*`make e2e`"
    assert re.search(row, (REPOSITORY / "README.md").read_text())


def test_a_wrong_expectation_of_the_same_run_fails(
    ran: "subprocess.CompletedProcess[bytes]",
) -> None:
    wrong = ("GPU and its audio, root-port", "gpu-a-audio", "10.1/00.0 8086:293e")
    result = subprocess.run(
        [*RUN, "--events", OUT / "events.jsonl", "--expect", *wrong],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "WRONG  GPU and its audio, root-port" in result.stdout
    assert "gpu-a-audio: '10.0/00.1 8086:293e', expected '10.1/00.0 8086:293e'" in result.stdout
    assert f"{len(CASES) - 1} of {len(CASES)} as expected" in result.stdout
