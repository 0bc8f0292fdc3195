"""The parts of `make e2e` that judge and read; tests/e2e/test_run.py runs the whole of it."""

import threading
import time
from pathlib import Path

import pytest
from apart import at
from e2e.agent import Schedule
from e2e.boot import QemuDiedError, QemuFailedError, TooSlowError, boot
from e2e.cases import CASES, SUITES, Boot, Case, choose_cases, judge
from e2e.claims import ClaimEntry, read_address, write_metadata
from e2e.machine import Image
from e2e.report import Report
from e2e.run import EXIT_CANNOT, EXIT_TOO_SLOW, run_again
from e2e.vm import (
    GuestFunction,
    parse_info_pci,
    read_linux,
    say_refusal,
    say_topology,
    seen_by_linux,
)

THREE = [
    Boot(name, {}, {"gpu": role}) for name, role in (("a", "gpu-a"), ("b", "gpu-a"), ("c", "nic"))
]

INFO_PCI = """\
  Bus  0, device   0, function 0:
    Host bridge: PCI device 8086:29c0
      id ""
  Bus  0, device  16, function 0:
    PCI bridge: PCI device 1b36:000c
      BUS 0.
      secondary bus 7.
      subordinate bus 7.
      id "pci.24"
  Bus  7, device   0, function 1:
    Audio controller: PCI device 8086:293e
      BAR0: 32 bit memory at 0xfe000000 [0xfe003fff].
      id "ua-pci-0000-21-00-1"
  Bus  0, device   8, function 0:
    VGA controller: PCI device 1234:1111
      BAR0: 32 bit memory at 0xffffffffffffffff [0x00000ffe].
      id "ua-gpu-early"
"""


def test_the_monitor_s_list_gives_each_device_its_way_in_the_guest() -> None:
    found = parse_info_pci(INFO_PCI)
    assert found == {
        "pci.24": GuestFunction("10.0", "1b36:000c"),
        "ua-pci-0000-21-00-1": GuestFunction("10.0/00.1", "8086:293e"),
    }


CONSOLE = (
    "guest-pci 0000:07:00.0 1234:11e8 node=-1 path=pci0000:00/0000:00:10.0/0000:07:00.0\r\n"
    "guest-pci 0000:fd:00.0 1234:1111 node=1 path=pci0000:fc/0000:fc:00.0/0000:fd:00.0\r\n"
    "guest-edu 0000:07:00.0 0xEDCBA987\r\nguest-nvme a text\r\nguest-done\r\n"
)


def test_where_linux_has_a_device_is_told_by_role() -> None:
    paths = {"10.0/00.0": "switched", "10.1/00.0": "nvme", "fc:00.0/00.0": "gpu-a"}
    assert seen_by_linux(CONSOLE, paths) == {
        "switched": at("pci0000:00/0000:00:10.0/0000:07:00.0", "-1"),
        "gpu-a": at("pci0000:fc/0000:fc:00.0/0000:fd:00.0", "1"),
    }


def test_what_linux_has_done_with_its_devices_is_told() -> None:
    assert read_linux(CONSOLE) == {
        "register written and read": "0xEDCBA987",
        "block read by DMA": "a text",
    }


def test_a_distance_that_a_guest_has_not_kept_is_named() -> None:
    host = {"a": at("pci0000:20/1/2", "0"), "b": at("pci0000:20/3/4", "0")}
    guest = {"a": at("pci0000:fc/1/2", "0"), "b": at("pci0000:f8/3/4", "1")}
    assert say_topology(host, host) == {
        "its NUMA nodes": "0: a b",
        "pairs": "PHB 1",
        "pairs that are another distance apart on the node": "none",
    }
    assert say_topology(host, guest) == {
        "its NUMA nodes": "0: a; 1: b",
        "pairs": "SYS 1",
        "pairs that are another distance apart on the node": "a and b: PHB -> SYS",
    }


def test_a_refusal_is_one_line_of_libvirt_s_and_qemu_s_words() -> None:
    errors = (
        "error: Failed to start domain 'vm'\n"
        "error: internal error: 2026-11-25T14:25:50.952108Z qemu-system-x86_64: not viable\n"
        "Please ensure it is.\n\n"
    )
    said = "internal error: qemu-system-x86_64: not viable Please ensure it is."
    assert say_refusal(errors) == said


def test_cases_run_at_once_only_if_they_share_no_function() -> None:
    order: list[str] = []
    gates = {case.name: threading.Event() for case in THREE}
    schedule = Schedule(THREE)

    def do(case: Case) -> None:
        order.append(f"{case.name} begins")
        assert gates[case.name].wait(60)
        order.append(f"{case.name} ends")

    workers = [threading.Thread(target=schedule.work, args=(do,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for name in ("c", "a", "b"):
        gates[name].set()
        while f"{name} ends" not in order:
            time.sleep(0.01)
    for worker in workers:
        worker.join()
    assert set(order[:2]) == {"a begins", "c begins"}
    assert order[2:] == ["c ends", "a ends", "b begins", "b ends"]


def test_the_judge_names_what_differs_what_is_missing_and_what_is_too_much() -> None:
    expect = {"a": "1", "b": "~x+y", "c": "3"}
    assert judge(expect, {"a": "1", "b": "says xxy here", "c": "3"}) == []
    assert judge(expect, {"a": "2", "b": "y", "d": "4"}) == [
        "a: '2', expected '1'",
        "b: 'y', expected '~x+y'",
        "c: 'nothing', expected '3'",
        "d: '4', expected 'nothing'",
    ]


def test_a_level_1_of_an_older_suite_is_asked_what_it_can_show() -> None:
    newest, older = ({case.name for case in choose_cases(suite, extra=True)} for suite in SUITES)
    assert newest == {case.name for case in CASES}
    assert older < newest
    assert [case.name for case in choose_cases(SUITES[0], "UEFI, root")] == ["UEFI, root-port"]


def test_what_is_too_long_for_ci_runs_where_it_is_asked_for() -> None:
    (extra,) = (case for case in CASES if case.is_extra)
    assert extra not in choose_cases(SUITES[0])
    assert extra in choose_cases(SUITES[0], extra=True)
    assert choose_cases(SUITES[0], extra.name) == (extra,)


def test_a_launcher_reads_each_claim_s_address_where_its_driver_wrote_it(tmp_path: Path) -> None:
    entries = [
        ClaimEntry("gpu0", "gpus", "0000:86:00.0"),
        ClaimEntry("disk", "hostDevices", "0000:3b:00.0"),
    ]
    write_metadata(tmp_path, entries)
    assert {e.alias: read_address(tmp_path, e) for e in entries} == {
        "ua-dra-gpu-gpu0": "0000:86:00.0",
        "ua-dra-hostdevice-disk": "0000:3b:00.0",
    }


def test_a_case_that_did_not_run_is_not_as_expected() -> None:
    report = Report()
    assert not report.all_as_expected
    assert report.faults(CASES[0]) == ["it did not run"]
    assert "0 of" in report.table()


def test_cases_have_names_of_their_own_and_every_boot_is_watched_to_its_end() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        if isinstance(case, Boot):
            assert {"allocated", "passes", "drivers after"} <= case.expect.keys()


@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        ("kill -ABRT $$", QemuDiedError, "SIGABRT: Assertion failed"),
        ("exit 1", QemuFailedError, "Assertion failed"),
    ],
)
def test_an_emulator_that_died_is_told_from_one_that_would_not_run(
    ending: str,
    error: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text(f"#!/bin/sh\necho Assertion failed\n{ending}\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(error, match=f"^{words}$"):
        list(boot(Image(tmp_path), tmp_path / "level1.cpio", tmp_path, limit_s=60))


@pytest.mark.parametrize(
    ("endings", "status"),
    [
        ([0], 0),
        ([1], 1),
        ([QemuDiedError("SIGABRT"), 0], 0),
        ([TooSlowError(), 1], 1),
        ([TooSlowError(), QemuDiedError("SIGABRT")], EXIT_CANNOT),
        ([QemuDiedError("SIGABRT"), TooSlowError()], EXIT_TOO_SLOW),
        ([QemuFailedError("no such machine")], EXIT_CANNOT),
    ],
)
def test_a_run_that_found_nothing_out_is_made_again_once_and_a_wrong_one_never(
    endings: list[int | Exception], status: int
) -> None:
    left = list(endings)

    def run() -> int:
        ending = left.pop(0)
        if isinstance(ending, Exception):
            raise ending
        return ending

    assert run_again(run, 2) == status
    assert not left
