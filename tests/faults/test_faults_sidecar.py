"""kill -9, full and read-only disks, clocks, signals, a slow /sys and many clients: the sidecar."""

import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cases import CASES
from clocks import fake_clock
from fuzz.server import MOST_BYTES, image_environment
from hosttree import build_host_tree, device_directory, gpu
from launcher import COMMAND, START_S, Launcher, Sidecar, ask_define, running_sidecar
from processmemory import peak_bytes
from signalstorm import storm_of_signals
from slowfiles import holding
from smalldisk import small_disk

Note = Callable[[str, str, str, str], None]

NO_SYSFS = ("--sysfs", "/nonexistent")
CASE = CASES / "stock-sidecar"
DOMAIN, VMI, EXPECTED = (
    (CASE / name).read_bytes() for name in ("domain.xml", "vmi.json", "expected.xml")
)
BUSY = "0000:86:00.0"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, fanotify; CI is root")


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    cards = ((BUSY, 42), ("0000:af:00.0", 43))
    return build_host_tree(
        tmp_path / "sys", [f for bdf, group in cards for f in gpu(bdf, group=group)]
    )


@contextmanager
def under_way(sidecar: Sidecar) -> Iterator[list[bytes | grpc.StatusCode]]:
    """A call, whose answer or status is there afterwards."""
    answers: list[bytes | grpc.StatusCode] = []

    def call() -> None:
        try:
            answers.append(sidecar.define(DOMAIN, VMI))
        except grpc.RpcError as error:
            answers.append(error.code())

    thread = threading.Thread(target=call)
    thread.start()
    yield answers
    thread.join(START_S)


# kill -9 at every step of a boot


def test_killed_before_its_socket_is_there_it_leaves_nothing(sysfs: Path, withstood: Note) -> None:
    with running_sidecar("--sysfs", sysfs, wait=False) as first:
        while not Path(f"/proc/{first.process.pid}/maps").read_text().count("lxml"):
            assert not first.socket.exists()
        first.kill()
        assert list(first.directory.iterdir()) == []
        with running_sidecar(*NO_SYSFS, directory=first.directory) as second:
            assert second.define(DOMAIN, VMI) == EXPECTED
    withstood("sidecar", "while it loads", "kill -9", "nothing is left; the next one serves")


@pytest.mark.parametrize("step", ["bound", "asked for Info", "between two passes"])
def test_killed_with_its_socket_there_the_next_one_takes_its_place(
    step: str, withstood: Note
) -> None:
    answer = DOMAIN
    with running_sidecar(*NO_SYSFS) as first:
        if step != "bound":
            launcher = Launcher(first.directory.parent)
            launcher.collect(1)
            assert len(launcher.hooks) == 1
        if step == "between two passes":
            answer = first.define(DOMAIN, VMI)
            assert answer == EXPECTED
        stale = first.kill()
        with pytest.raises(grpc.RpcError) as caught:
            ask_define(first.socket, DOMAIN, VMI)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # at once, and not in a minute
        with running_sidecar(*NO_SYSFS, directory=first.directory, stale=stale) as second:
            assert second.define(answer, VMI) == EXPECTED
            assert [path.name for path in first.directory.iterdir()] == [second.socket.name]
            assert second.terminate() == 0
        assert list(first.directory.iterdir()) == []
    withstood("sidecar", step, "kill -9", "UNAVAILABLE; the next one answers the same bytes")


def test_killed_in_a_call_the_call_fails_and_the_next_one_answers_it(
    sysfs: Path, withstood: Note
) -> None:
    with running_sidecar("--sysfs", sysfs) as first:
        expected = first.define(DOMAIN, VMI)
        with holding(device_directory(sysfs, BUSY), pid=first.pid) as held, under_way(first) as got:
            held.wait()
            stale = first.kill()
        assert got == [grpc.StatusCode.UNAVAILABLE]
        with running_sidecar("--sysfs", sysfs, directory=first.directory, stale=stale) as second:
            assert second.define(DOMAIN, VMI) == expected
    withstood("sidecar", "in OnDefineDomain", "kill -9", "UNAVAILABLE; asked again, the same bytes")


def test_killed_after_shutdown_it_has_taken_its_socket_away(sysfs: Path, withstood: Note) -> None:
    with running_sidecar("--sysfs", sysfs) as sidecar:
        with holding(device_directory(sysfs, BUSY), pid=sidecar.pid) as held, under_way(sidecar):
            held.wait()
            sidecar.shut_down()
            while sidecar.socket.exists():
                time.sleep(0.01)
            sidecar.process.kill()
            sidecar.process.wait()
        assert list(sidecar.directory.iterdir()) == []
    withstood("sidecar", "in Shutdown", "kill -9", "its socket is gone before")


# Disks


def serve(directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, "serve", "--socket-dir", str(directory), *NO_SYSFS],
        capture_output=True, text=True, check=False, timeout=START_S,
    )  # fmt: skip


def test_on_a_full_or_read_only_disk_it_says_so_and_ends(withstood: Note) -> None:
    with small_disk("size=64k,nr_inodes=2") as disk:
        (disk / "filler").touch()
        done = serve(disk)
        assert (done.returncode, [path.name for path in disk.iterdir()]) == (2, ["filler"])
        assert "give a directory that is writable" in done.stderr
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = serve(disk)
        assert (done.returncode, list(disk.iterdir())) == (2, [])
        assert "give a directory that is writable" in done.stderr
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        with running_sidecar(*NO_SYSFS, directory=disk) as sidecar:
            assert sidecar.define(DOMAIN, VMI) == EXPECTED
    withstood(
        "sidecar", "start", "full disk, read-only directory", "exit 2 and what to do; no socket"
    )


def test_what_takes_its_log_being_full_costs_no_answer(withstood: Note) -> None:
    with (
        small_disk("size=4k") as disk,
        tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as hooks,
    ):
        log = disk / "log"
        log.write_bytes(b"x" * 4096)
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                [COMMAND, "serve", "--socket-dir", hooks, *NO_SYSFS],
                stderr=stderr, env={**os.environ, "CONTAINER_NAME": "hook-sidecar-0"},
            )  # fmt: skip
            sidecar = Sidecar(process, Path(hooks), log)  # type: ignore[arg-type]
            try:
                sidecar.wait_for_socket()
                assert sidecar.define(DOMAIN, VMI) == EXPECTED
                with pytest.raises(grpc.RpcError, match="it is empty"):
                    sidecar.define(b"", VMI)
                assert sidecar.terminate() == 0
            finally:
                process.kill()
                process.wait()
    withstood("sidecar", "calls and end", "log on a full disk", "every answer, exit 0")


def test_a_full_disk_leaves_a_rendered_file_as_it_was(withstood: Note) -> None:
    with small_disk("size=8k") as disk:
        target = disk / "vm.xml"
        target.write_bytes(b"before")
        (disk / "filler").write_bytes(b"x" * 4096)
        command = [COMMAND, "render", "--domain", str(CASE / "domain.xml"), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
        assert done.returncode == 2
        assert "it cannot be written: No space left on device" in done.stderr
        assert target.read_bytes() == b"before"
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "vm.xml"]
    withstood("render", "-o", "full disk", "exit 2; the old file whole, no other")


# Clocks


def test_a_clock_that_jumps_changes_nothing(withstood: Note) -> None:
    with fake_clock() as clock, running_sidecar(*NO_SYSFS, variables=clock.variables) as sidecar:
        for jump in ("2038-01-19 03:14:08", "1971-01-01 00:00:00", "2026-01-01 00:00:00"):
            clock.set(jump)
            assert sidecar.define(DOMAIN, VMI) == EXPECTED
            assert sidecar.events()[-1]["timestamp"][:4] == jump[:4]  # it has seen it
        assert sidecar.terminate() == 0
    withstood("sidecar", "calls and end", "clock to 2038, to 1971", "the same bytes, exit 0")


@pytest.mark.parametrize("seconds", ["1", "900000000"])
def test_a_machine_just_up_or_up_for_30_years_is_one_like_any_other(
    seconds: str, withstood: Note
) -> None:
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    offset = str(int(float(seconds) - now)) if seconds == "1" else seconds
    prefix = ("unshare", "--time", "--fork", "--monotonic", offset, "--boottime", offset)
    with running_sidecar(*NO_SYSFS, prefix=prefix) as sidecar:
        assert sidecar.define(DOMAIN, VMI) == EXPECTED
        os.kill(sidecar.pid, signal.SIGTERM)
        assert sidecar.process.wait(START_S) == 0
    withstood("sidecar", "all", f"monotonic clock at {seconds} s", "the same bytes, exit 0")


# Signals


def test_a_storm_of_signals_costs_no_answer(withstood: Note) -> None:
    with running_sidecar(*NO_SYSFS) as sidecar:
        with storm_of_signals(sidecar.pid):
            answers = [sidecar.define(DOMAIN, VMI) for _ in range(30)]
        assert answers == [EXPECTED] * 30
        assert sidecar.terminate() == 0
    withstood(
        "sidecar", "30 calls", "SIGSTOP, SIGCONT and others all the time (EINTR)", "30 answers"
    )


# A slow /sys


def test_while_sys_does_not_answer_info_does_and_the_call_is_answered_later(
    sysfs: Path, withstood: Note
) -> None:
    with running_sidecar("--sysfs", sysfs) as sidecar:
        expected = sidecar.define(DOMAIN, VMI)
        with holding(device_directory(sysfs, BUSY), pid=sidecar.pid) as held:
            with under_way(sidecar) as got:
                held.wait()
                assert sidecar.info().name == "hook-sidecar-0"
                held.release()
            assert got == [expected]
    withstood("sidecar", "in OnDefineDomain", "slow /sys", "Info at once; the same bytes later")


@pytest.mark.parametrize("how", ["SIGTERM", "Shutdown"])
def test_while_sys_does_not_answer_it_ends_all_the_same(
    sysfs: Path, how: str, withstood: Note
) -> None:
    with running_sidecar("--sysfs", sysfs) as sidecar:
        with holding(device_directory(sysfs, BUSY), pid=sidecar.pid) as held, under_way(sidecar):
            held.wait()
            if how == "SIGTERM":
                os.kill(sidecar.pid, signal.SIGTERM)
            else:
                sidecar.shut_down()
            while sidecar.socket.exists():
                time.sleep(0.01)
            time.sleep(2)  # its grace; then the kernel ends it as soon as it lets go of it
            held.release()
            assert sidecar.process.wait(START_S) == 0
        assert list(sidecar.directory.iterdir()) == []
    withstood("sidecar", "in OnDefineDomain", f"slow /sys, then {how}", "exit 0, no socket")


# Clients


def test_200_clients_at_once_are_all_answered_within_its_memory(withstood: Note) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with running_sidecar(*NO_SYSFS, variables=image_environment()) as sidecar:
        together = threading.Barrier(200)

        def call(_: int) -> bytes:
            together.wait(START_S)
            return ask_define(sidecar.socket, DOMAIN, VMI, timeout_s=START_S)

        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(call, range(200)))
        assert answers == [EXPECTED] * 200
        peak = peak_bytes(sidecar.pid)
        assert peak < MOST_BYTES
        assert sidecar.terminate() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    withstood(
        "sidecar", "OnDefineDomain", "200 clients at once", f"200 answers; peak {peak / 1e6:.0f} MB"
    )
