"""kill -9, full and read-only disks, clocks, signals, a slow /sys, many calls: device plugin."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from clocks import fake_clock
from hosttree import device_directory
from kubelet import COMMAND, WAIT_S, Kubelet, Plugin, waiting_kubelet
from pluginnode import GPUS, RESOURCE, SOCKET, VARIABLE, Node, seeds_node
from signalstorm import storm_of_signals
from slowfiles import holding
from smalldisk import small_disk

Note = Callable[[str, str, str, str], None]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, fanotify; CI is root")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return seeds_node(tmp_path)


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    """One that does not run yet."""
    with waiting_kubelet() as kubelet:
        kubelet.directory.mkdir()
        yield kubelet


def kill(plugin: Plugin) -> None:
    plugin.process.kill()
    plugin.process.wait()


def check_whole(kubelet: Kubelet) -> None:
    """Kubelet has every device, can allocate them all, and there is one socket of ours."""
    while True:
        endpoint = kubelet.wait_for_resource(RESOURCE, 4)
        try:
            (given,) = kubelet.allocate(endpoint, GPUS)
        except grpc.RpcError:
            # A kubelet that is told once more hangs up on the old channel, with what is in it.
            assert kubelet.endpoints.get(RESOURCE) is not endpoint
        else:
            break
    assert given.envs == {VARIABLE: ",".join(GPUS)}
    assert [p.name for p in kubelet.directory.glob("kubevirt-*")] == [SOCKET]


# kill -9 of the plugin


def test_killed_while_it_looks_at_the_node(node: Node, kubelet: Kubelet, withstood: Note) -> None:
    kubelet.start()
    with (
        holding(device_directory(node.sysfs, GPUS[0])) as held,
        node.plugin(kubelet=kubelet) as plugin,
    ):
        held.wait()
        kill(plugin)
        assert [path.name for path in kubelet.directory.iterdir()] == ["kubelet.sock"]
    with node.plugin(kubelet=kubelet):
        check_whole(kubelet)
    withstood("device plugin", "before bind", "kill -9", "nothing is left; the next one offers all")


def test_killed_with_its_socket_there_and_nobody_told(
    node: Node, kubelet: Kubelet, withstood: Note
) -> None:
    with node.plugin(kubelet=kubelet) as plugin:
        plugin.wait_for_log("offering 4")
        while not (kubelet.directory / SOCKET).exists():
            assert plugin.process.poll() is None
        kill(plugin)
    with node.plugin(kubelet=kubelet):
        kubelet.serve()
        check_whole(kubelet)
    withstood("device plugin", "after bind", "kill -9", "its socket is replaced; kubelet has all")


def test_killed_while_it_registers(node: Node, kubelet: Kubelet, withstood: Note) -> None:
    asked, go = threading.Event(), threading.Event()

    def refuse(_: Any) -> None:
        asked.set()
        go.wait(WAIT_S)

    kubelet.refuse = refuse
    kubelet.start()
    with node.plugin(kubelet=kubelet) as plugin:
        assert asked.wait(WAIT_S)
        kill(plugin)
    kubelet.refuse = lambda _: None
    with node.plugin(kubelet=kubelet):
        check_whole(kubelet)
        before = kubelet.endpoints[RESOURCE]
        go.set()  # what the dead one asked for is answered now, and leads to the new one's socket
        kubelet.wait_for(lambda: kubelet.endpoints.get(RESOURCE, before) is not before)
        check_whole(kubelet)
    withstood("device plugin", "in Register", "kill -9", "the next one registers; kubelet has all")


def test_killed_while_kubelet_follows_its_list(
    node: Node, kubelet: Kubelet, withstood: Note
) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet) as plugin:
        check_whole(kubelet)
        kill(plugin)
        kubelet.wait_for(lambda: RESOURCE not in kubelet.endpoints, "kubelet has not noticed")
    with node.plugin(kubelet=kubelet):
        check_whole(kubelet)
    withstood(
        "device plugin", "in ListAndWatch", "kill -9", "kubelet sees it; the next one offers all"
    )


def test_killed_in_an_allocate(node: Node, kubelet: Kubelet, withstood: Note) -> None:
    kubelet.start()
    with node.plugin("--rescan", "1h", kubelet=kubelet) as plugin:
        check_whole(kubelet)
        endpoint = kubelet.endpoints[RESOURCE]
        with holding(device_directory(node.sysfs, GPUS[0]), pid=plugin.pid) as held:
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(kubelet.allocate, endpoint, GPUS)
                held.wait()
                kill(plugin)
                with pytest.raises(grpc.RpcError) as caught:
                    call.result(WAIT_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        kubelet.wait_for(lambda: RESOURCE not in kubelet.endpoints)
    with node.plugin(kubelet=kubelet):
        check_whole(kubelet)
    withstood("device plugin", "in Allocate", "kill -9", "UNAVAILABLE; asked again, given whole")


# kill -9 of kubelet's registration server

KUBELET = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from kubelet import Kubelet
kubelet = Kubelet(Path(sys.argv[1]))
if sys.argv[3] == "Register":
    kubelet.refuse = lambda _: print("asked", flush=True) or time.sleep(600)
kubelet.start()
if sys.argv[3] == "ListAndWatch":
    kubelet.wait_for_resource(sys.argv[4])
    print("asked", flush=True)
if sys.argv[3] == "Allocate":
    kubelet.wait_for_resource(sys.argv[4])
    print("asked", flush=True)
    while True:
        kubelet.allocate(sys.argv[4], sys.argv[5:])
time.sleep(600)
"""


@pytest.mark.parametrize("step", ["Register", "ListAndWatch", "Allocate"])
def test_kubelet_is_killed(node: Node, kubelet: Kubelet, step: str, withstood: Note) -> None:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", KUBELET, str(kubelet.directory), tests, step, RESOURCE, *GPUS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        assert first.stdout is not None
        with node.plugin(kubelet=kubelet) as plugin:
            assert first.stdout.readline() == b"asked\n"
            first.kill()
            first.wait()
            assert (kubelet.directory / "kubelet.sock").exists()  # nobody is behind it
            kubelet.start()
            check_whole(kubelet)
            assert plugin.process.poll() is None
    withstood("kubelet", f"in {step}", "kill -9", "the next one is told, and has all")


# Disks, clocks, signals


def test_where_its_directory_is_full_or_read_only_it_goes_on_when_it_can(
    node: Node, withstood: Note
) -> None:
    with small_disk("size=64k,nr_inodes=3") as disk:
        kubelet = Kubelet(disk)
        kubelet.start()
        (disk / "filler").touch()
        with node.plugin(kubelet=kubelet) as plugin:
            plugin.wait_for_log("it cannot be bound")
            (disk / "filler").unlink()
            check_whole(kubelet)
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            assert kubelet.allocate(RESOURCE, GPUS)
            assert plugin.process.poll() is None
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            plugin.process.terminate()
            assert plugin.process.wait(WAIT_S) == 0
        kubelet.stop()
    withstood(
        "device plugin", "all", "full disk, then read-only", "said; served when there is room"
    )


def test_a_snapshot_on_a_full_disk_is_whole_or_not_there(node: Node, withstood: Note) -> None:
    with small_disk("size=4k") as disk:
        (disk / "filler").write_bytes(b"x" * 4096)
        command = [COMMAND, "discover", "--sysfs", str(node.sysfs), "--dev", str(node.dev),
                   "--snapshot", str(disk / "node.json")]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert [path.name for path in disk.iterdir()] == ["filler"]
    withstood("discover", "--snapshot", "full disk", "exit 2; no half file")


def test_a_clock_that_jumps_keeps_nobody_waiting(
    node: Node, kubelet: Kubelet, withstood: Note
) -> None:
    kubelet.start()
    with fake_clock() as clock:
        under = ("env", *(f"{name}={value}" for name, value in clock.variables.items()))
        with node.plugin("--rescan", "50ms", kubelet=kubelet, under=under) as plugin:
            check_whole(kubelet)
            for jump in ("2038-01-19 03:14:08", "1971-01-01 00:00:00"):
                clock.set(jump)
                (node.dev / "vfio/40").unlink()
                kubelet.wait_for(
                    lambda: kubelet.endpoints[RESOURCE].health().get(GPUS[0]) == "Unhealthy"
                )
                (node.dev / "vfio/40").touch()
                kubelet.wait_for(
                    lambda: set(kubelet.endpoints[RESOURCE].health().values()) == {"Healthy"}
                )
                kubelet.restart()
                check_whole(kubelet)
            plugin.process.terminate()
            assert plugin.process.wait(WAIT_S) == 0
    withstood("device plugin", "all", "clock to 2038, to 1971", "health, registration, end as ever")


def test_a_storm_of_signals_costs_no_registration(
    node: Node, kubelet: Kubelet, withstood: Note
) -> None:
    kubelet.start()
    with node.plugin("--rescan", "50ms", kubelet=kubelet) as plugin:
        with storm_of_signals(plugin.pid):
            for _ in range(5):
                check_whole(kubelet)
                kubelet.restart()
        check_whole(kubelet)
        plugin.process.terminate()
        assert plugin.process.wait(WAIT_S) == 0
    withstood(
        "device plugin", "5 kubelet restarts", "SIGSTOP, SIGCONT and others (EINTR)", "all told"
    )


# A slow /sys, many calls


def test_while_sys_does_not_answer_for_one_device_the_others_are_given(
    node: Node, kubelet: Kubelet, withstood: Note
) -> None:
    kubelet.start()
    with node.plugin("--rescan", "1h", kubelet=kubelet) as plugin:
        check_whole(kubelet)
        directory = device_directory(node.sysfs, GPUS[0])
        with holding(directory, pid=plugin.pid) as held, ThreadPoolExecutor(1) as pool:
            slow = pool.submit(kubelet.allocate, RESOURCE, GPUS[:1])
            held.wait()
            assert kubelet.allocate(RESOURCE, GPUS[1:])
            kubelet.restart()  # is told meanwhile
            kubelet.wait_for_resource(RESOURCE, 4)
            held.release()
            with pytest.raises(grpc.RpcError):
                slow.result(WAIT_S)  # the kubelet that asked has gone
        check_whole(kubelet)
    withstood(
        "device plugin", "in Allocate", "slow /sys", "others are given, a new kubelet is told"
    )


def test_while_sys_does_not_answer_a_rescan_what_was_offered_is_still_given(
    node: Node, kubelet: Kubelet, withstood: Note
) -> None:
    kubelet.start()
    with node.plugin("--rescan", "50ms", kubelet=kubelet) as plugin:
        check_whole(kubelet)
        with holding(device_directory(node.sysfs, GPUS[0]), pid=plugin.pid) as held:
            held.wait()
            assert kubelet.allocate(RESOURCE, GPUS[1:])
            held.release()
        check_whole(kubelet)
        plugin.process.terminate()
        assert plugin.process.wait(WAIT_S) == 0
    withstood("device plugin", "in a rescan", "slow /sys", "what was offered is given meanwhile")


def test_200_calls_at_once_are_all_given(node: Node, kubelet: Kubelet, withstood: Note) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet) as plugin:
        check_whole(kubelet)
        endpoint = kubelet.endpoints[RESOURCE]
        together = threading.Barrier(200)

        def call(_: int) -> Any:
            together.wait(WAIT_S)
            (given,) = kubelet.allocate(endpoint, GPUS)
            return given.envs

        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(call, range(200)))
        assert answers == [{VARIABLE: ",".join(GPUS)}] * 200
        assert kubelet.endpoints[RESOURCE] is endpoint  # its ListAndWatch is still open
        plugin.process.terminate()
        assert plugin.process.wait(WAIT_S) == 0
    withstood(
        "device plugin", "Allocate", "200 calls at once", "200 answers, the list still followed"
    )
