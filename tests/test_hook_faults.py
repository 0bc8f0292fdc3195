"""What goes wrong around a hook sidecar, one test a line: start, calls, ends."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cases import CASES
from hosttree import build_host_tree, gpu, rebind, remove
from launcher import COMMAND, START_S, Sidecar, ask_define, ask_info, mutate, running_sidecar

NO_SYSFS = ("--sysfs", "/nonexistent")
CASE = CASES / "stock-sidecar"
DOMAIN = (CASE / "domain.xml").read_bytes()
VMI = (CASE / "vmi.json").read_bytes()
EXPECTED = (CASE / "expected.xml").read_bytes()

# Takes a few hundred milliseconds to answer: long enough to be under way when something happens.
ODD = " ".join(f'x{number}=""' for number in range(9_900))
SLOW = DOMAIN.replace(b"<hostdev ", b"<hostdev %b " % ODD.encode(), 1)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, or PID 1")


def cpu_ticks(pid: int) -> int:
    """CPU time of a process and its threads so far, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@contextmanager
def calling(sidecar: Sidecar, domain: bytes = SLOW) -> Iterator[list[bytes]]:
    """Have a call under way; its answer is there afterwards, if there was one."""
    answers: list[bytes] = []

    def call() -> None:
        try:
            answers.append(sidecar.define(domain, VMI))
        except grpc.RpcError:
            answers.clear()  # the server has gone

    thread = threading.Thread(target=call)
    idle_ticks = cpu_ticks(sidecar.pid)
    thread.start()
    # It has arrived when the server works on it; if it has ended already, the test still holds.
    while not answers and thread.is_alive() and cpu_ticks(sidecar.pid) < idle_ticks + 3:
        time.sleep(0.005)
    yield answers
    thread.join(START_S)


# Start


def test_whoever_sees_the_socket_gets_an_answer_and_nothing_else_is_ever_there() -> None:
    seen: set[str] = set()
    answered: list[str] = []
    with running_sidecar(*NO_SYSFS, wait=False) as sidecar:
        while not answered:
            assert sidecar.process.poll() is None, sidecar.log.read_text()
            seen.update(path.name for path in sidecar.directory.iterdir())
            if seen:
                answered.append(ask_info(sidecar.socket).name)
        sidecar.define(DOMAIN, VMI)
        seen.update(path.name for path in sidecar.directory.iterdir())
    assert seen == {"hook-sidecar-0.sock"}


@as_root
def test_the_launchers_user_can_connect() -> None:
    with running_sidecar(*NO_SYSFS) as sidecar:
        sidecar.info()
        sidecar.directory.parent.chmod(0o755)
        status = sidecar.socket.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (107, 107, 0o660)
        connect = "IO::Socket::UNIX->new(Peer => shift) or die $!"
        subprocess.run(
            ["perl", "-MIO::Socket::UNIX", "-e", connect, str(sidecar.socket)],
            user=107, group=107, extra_groups=[], check=True,
        )  # fmt: skip


@as_root
def test_as_root_that_may_not_give_the_socket_away_it_lets_everybody_in() -> None:
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    with running_sidecar(*NO_SYSFS, prefix=without) as sidecar:
        assert sidecar.define(DOMAIN, VMI) == EXPECTED
        assert sidecar.socket.stat().st_mode & 0o777 == 0o666
        assert sidecar.terminate() == 0
        assert list(sidecar.directory.iterdir()) == []


def test_what_is_in_the_sockets_place_and_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "hook-sidecar-0.sock").write_text("mine")
    done = subprocess.run(
        [COMMAND, "serve", "--socket-dir", str(tmp_path), *NO_SYSFS],
        env={**os.environ, "CONTAINER_NAME": "hook-sidecar-0"},
        capture_output=True, text=True, check=False, timeout=START_S,
    )  # fmt: skip
    assert done.returncode == 3
    assert "it is there and is no socket; take it away" in done.stderr
    assert (tmp_path / "hook-sidecar-0.sock").read_text() == "mine"


def test_told_to_go_while_it_loads_it_goes() -> None:
    with running_sidecar(*NO_SYSFS, wait=False) as sidecar:
        while signal.SIGTERM not in signals_of(sidecar.process.pid, "SigCgt"):
            assert sidecar.process.poll() is None
        assert sidecar.terminate() == 0
        assert list(sidecar.directory.iterdir()) == []


@as_root
def test_as_pid_1_told_to_go_before_anything_is_loaded_it_goes() -> None:
    with running_sidecar(*NO_SYSFS, prefix=("unshare", "--pid", "--fork"), wait=False) as sidecar:
        while not (
            Path(f"/proc/{sidecar.pid}/exe").resolve().name.startswith("python")  # not unshare
            and signal.SIGTERM in signals_of(sidecar.pid, "SigBlk")
        ):
            assert sidecar.process.poll() is None, "it never kept its signals"
        # A slow machine may have loaded more by now: that it goes is what counts.
        os.kill(sidecar.pid, signal.SIGTERM)
        assert sidecar.process.wait(START_S) == 0
        assert list(sidecar.directory.iterdir()) == []


def signals_of(pid: int, which: str) -> set[int]:
    """What a process has caught (SigCgt) or blocked (SigBlk)."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition(f"{which}:")[2].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


# Calls


def test_the_node_is_read_anew_on_each_call(tmp_path: Path) -> None:
    cards = [("0000:86:00.0", 1), ("0000:af:00.0", 2)]
    root = build_host_tree(
        tmp_path / "sys",
        [function for bdf, group in cards for function in gpu(bdf, group=group)],
    )
    with running_sidecar("--sysfs", root) as sidecar:
        whole = sidecar.define(DOMAIN, VMI)
        rebind(root, "0000:86:00.1", "snd_hda_intel")
        with pytest.raises(grpc.RpcError, match="0000:86:00.1.*snd_hda_intel"):
            sidecar.define(DOMAIN, VMI)
        rebind(root, "0000:86:00.1", "vfio-pci")
        assert sidecar.define(DOMAIN, VMI) == whole
        remove(root, "0000:af:00.0")
        with pytest.raises(grpc.RpcError, match="0000:af:00.0.*the node has no such function"):
            sidecar.define(DOMAIN, VMI)


def test_clients_that_go_away_in_the_middle_of_a_call_do_no_harm() -> None:
    with running_sidecar(*NO_SYSFS) as sidecar:
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                ask_define(sidecar.socket, SLOW, VMI, timeout_s=0.05)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert sidecar.define(DOMAIN, VMI) == EXPECTED


def test_two_slow_calls_at_once_are_both_answered() -> None:
    with running_sidecar(*NO_SYSFS) as sidecar, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: sidecar.define(SLOW, VMI), range(2)))
        assert answers[0] == answers[1]
        assert answers[0].count(b"<hostdev") == 2


def test_an_answer_that_the_launcher_would_not_take_is_refused() -> None:
    many = {
        f"PCI_RESOURCE_{n}": ",".join(f"{n:04x}:{i >> 5:02x}:{i & 31:02x}.0" for i in range(7000))
        for n in range(3)
    }
    mainframe = (CASES / "s390x" / "domain.xml").read_bytes()  # places its devices itself
    with running_sidecar(*NO_SYSFS, variables=many) as sidecar:
        with pytest.raises(grpc.RpcError, match="bytes with its devices, and the launcher takes"):
            sidecar.define(mainframe)
        with pytest.raises(grpc.RpcError, match="the guest has no free bus for it"):
            sidecar.define(DOMAIN, VMI)


def test_a_message_that_cannot_be_read_is_refused_with_what_is_wrong() -> None:
    with running_sidecar(*NO_SYSFS) as sidecar:
        with grpc.insecure_channel(f"unix:{sidecar.socket}") as channel:
            call = channel.unary_unary("/kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain")
            with pytest.raises(
                grpc.RpcError, match="field 1 is broken off; call it with"
            ) as caught:
                call(b"\x0a\x7fxx", timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert sidecar.define(DOMAIN, VMI) == EXPECTED


# Ends


@pytest.mark.parametrize("how", ["SIGTERM", "Shutdown"])
def test_a_call_under_way_is_finished_before_the_end(how: str) -> None:
    with running_sidecar(*NO_SYSFS) as sidecar:
        with calling(sidecar) as answers:
            if how == "SIGTERM":
                assert sidecar.terminate() == 0
            else:
                sidecar.shut_down()
        assert sidecar.process.wait(START_S) == 0
        assert len(answers) == 1
        assert answers[0].count(b"<hostdev") == 2
        assert list(sidecar.directory.iterdir()) == []


@pytest.mark.parametrize("how", ["SIGTERM", "Shutdown"])
@as_root
def test_as_pid_1_of_a_container_it_ends_too(how: str) -> None:
    with running_sidecar(*NO_SYSFS, prefix=("unshare", "--pid", "--fork")) as sidecar:
        pid = sidecar.pid
        namespaced = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split("\n")[0]
        assert namespaced.split()[-1] == "1"
        if how == "SIGTERM":
            os.kill(pid, signal.SIGTERM)
        else:
            sidecar.shut_down()
        assert sidecar.process.wait(START_S) == 0
        assert list(sidecar.directory.iterdir()) == []


def test_killed_in_the_middle_of_a_call_it_comes_back_on_the_same_path() -> None:
    with running_sidecar(*NO_SYSFS) as first:
        with calling(first):
            first.process.kill()
            first.process.wait()
        stale = first.socket.stat().st_mtime_ns
        with running_sidecar(*NO_SYSFS, directory=first.directory, stale=stale):
            assert ask_define(first.socket, DOMAIN, VMI) == EXPECTED
            assert [path.name for path in first.directory.iterdir()] == ["hook-sidecar-0.sock"]


def test_asked_for_the_plugin_api_only_it_has_no_other_socket(tmp_path: Path) -> None:
    plugin = tmp_path / "x.sock"
    process = subprocess.Popen([COMMAND, "serve", *NO_SYSFS, "--plugin-socket", str(plugin)])
    try:
        while not plugin.exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert mutate(plugin, DOMAIN, VMI) == EXPECTED
        process.terminate()
        assert process.wait(START_S) == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.wait()


def test_the_plugin_socket_goes_too(tmp_path: Path) -> None:
    plugin = tmp_path / "x.sock"
    with running_sidecar(*NO_SYSFS, "--plugin-socket", plugin) as sidecar:
        assert plugin.is_socket()
        assert sidecar.terminate() == 0
        assert not plugin.exists()


def test_where_one_of_two_sockets_cannot_be_had_neither_stays(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "serve", "--socket-dir", "/nonexistent", *NO_SYSFS,
         "--plugin-socket", str(tmp_path / "x.sock")],
        capture_output=True, text=True, check=False, timeout=START_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no such directory" in done.stderr
    assert list(tmp_path.iterdir()) == []
