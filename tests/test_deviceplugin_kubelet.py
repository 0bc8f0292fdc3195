"""A kubelet that comes late, goes, comes back, refuses; sockets that are deleted. Real ones all."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubelet import CHECKPOINT, Kubelet, running_plugin, waiting_kubelet
from pluginnode import GPUS, RESOURCE, SOCKET, Node, seeds_node

from launcher_hook.deviceplugin.registration import BackOff

ALLOCATIONS, RESTARTS = 500, 40  # `make bench` does 10,000 and 1,000


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return seeds_node(tmp_path)


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    """One that does not run yet, and whose directory is not there."""
    with waiting_kubelet() as kubelet:
        yield kubelet


def test_kubelet_may_start_later_than_the_plugin(node: Node, kubelet: Kubelet) -> None:
    kubelet.directory.mkdir()
    with node.plugin(kubelet=kubelet) as plugin:
        plugin.wait_for_log("offering 4")
        kubelet.start()
        kubelet.wait_for_resource(RESOURCE, 4)


def test_kubelets_directory_may_come_later_and_be_made_anew(node: Node, kubelet: Kubelet) -> None:
    with node.plugin(kubelet=kubelet) as plugin:
        plugin.wait_for_log("there is no such directory; mount it")
        kubelet.start()
        kubelet.wait_for_resource(RESOURCE, 4)
        kubelet.stop()
        shutil.rmtree(kubelet.directory)
        plugin.wait_for_log("kubelet's socket is gone")
        kubelet.start()
        kubelet.wait_for_resource(RESOURCE, 4)


def test_a_kubelet_that_restarts_deletes_our_socket_and_is_told_again(
    node: Node, kubelet: Kubelet
) -> None:
    kubelet.start()
    (kubelet.directory / CHECKPOINT).write_text("{}")
    with node.plugin(kubelet=kubelet) as plugin:
        kubelet.wait_for_resource(RESOURCE, 4)
        for count in range(2, 12):
            kubelet.restart()
            kubelet.wait_for_resource(RESOURCE, 4)
            assert len(kubelet.registrations) == count
            assert kubelet.allocate(RESOURCE, GPUS)
        assert plugin.sockets() == [CHECKPOINT, SOCKET]


def test_a_kubelet_that_only_remakes_its_socket_is_told_again(node: Node, kubelet: Kubelet) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet):
        kubelet.wait_for_resource(RESOURCE, 4)
        kubelet.stop()
        kubelet.serve()
        kubelet.wait_for_resource(RESOURCE, 4)
        assert kubelet.allocate(RESOURCE, GPUS)


def test_our_socket_alone_is_deleted(node: Node, kubelet: Kubelet) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet):
        before = None
        for _ in range(4):
            kubelet.wait_for(
                lambda before=before: kubelet.endpoints.get(RESOURCE, before) is not before
            )
            before = kubelet.wait_for_resource(RESOURCE, 4)
            assert kubelet.allocate(RESOURCE, GPUS)
            (kubelet.directory / SOCKET).unlink()


def test_a_kubelet_that_refuses_is_asked_again_and_its_reason_is_in_the_log(
    node: Node, kubelet: Kubelet
) -> None:
    kubelet.refuse = lambda request: f"{request.resource_name} is not to my taste"
    kubelet.start()
    with node.plugin(kubelet=kubelet) as plugin:
        plugin.wait_for_log(f"{RESOURCE} is not to my taste; see what kubelet's log says of it")
        kubelet.wait_for(lambda: len(kubelet.registrations) > 3)
        kubelet.refuse = lambda _: None
        kubelet.wait_for_resource(RESOURCE, 4)
        lines = plugin.log.read_text().splitlines()
        assert sum("not to my taste" in line for line in lines) == 1  # not at each try


def test_a_kubelet_that_takes_longer_to_refuse_than_we_wait_is_asked_again_too(
    node: Node, kubelet: Kubelet
) -> None:
    def refuse(_: object) -> str | None:
        time.sleep(0.1)  # ten times the first wait
        return "not yet" if len(kubelet.registrations) < 3 else None

    kubelet.refuse = refuse
    kubelet.start()
    with node.plugin("--rescan", "1h", kubelet=kubelet):
        kubelet.wait_for_resource(RESOURCE, 4)


def test_one_resource_that_is_refused_does_not_keep_the_others_back(
    tmp_path: Path, kubelet: Kubelet
) -> None:
    node = seeds_node(tmp_path)
    config = tmp_path / "c.yaml"
    config.write_text(
        "selectors: [{resourceName: a.com/one, address: '0000:04:00.0'},"
        "{resourceName: b.com/two, address: '0000:05:00.0'}]"
    )
    kubelet.refuse = lambda request: "no" if request.resource_name == "a.com/one" else None
    kubelet.start()
    with node.plugin("--config", config, kubelet=kubelet):
        kubelet.wait_for_resource("b.com/two", 1)
        kubelet.wait_for(lambda: kubelet.registrations.count("a.com/one") > 2)
        assert kubelet.allocate("b.com/two", ["0000:05:00.0"])


def test_a_successor_takes_over_when_its_predecessor_is_killed(
    node: Node, kubelet: Kubelet
) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet) as first:
        kubelet.wait_for_resource(RESOURCE, 4)
        with node.plugin(kubelet=kubelet) as second:
            second.wait_for_log("another server is alive on it")
            assert kubelet.allocate(RESOURCE, GPUS)
            first.process.kill()
            first.process.wait()
            kubelet.wait_for(lambda: len(kubelet.registrations) > 1)
            kubelet.wait_for_resource(RESOURCE, 4)
            assert kubelet.allocate(RESOURCE, GPUS)


def test_another_server_that_has_taken_our_name_keeps_it(node: Node, kubelet: Kubelet) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet) as plugin:
        kubelet.wait_for_resource(RESOURCE, 4)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"{kubelet.directory}/other")
            other.listen()
            (kubelet.directory / "other").rename(kubelet.directory / SOCKET)
            inode = (kubelet.directory / SOCKET).stat().st_ino
            plugin.wait_for_log("another server is alive on it; stop that one")
            assert (kubelet.directory / SOCKET).stat().st_ino == inode
        (kubelet.directory / SOCKET).unlink()
        kubelet.wait_for_resource(RESOURCE, 4)
        assert kubelet.allocate(RESOURCE, GPUS)


@pytest.mark.parametrize("what", ["instances", "watches"])
def test_without_inotify_it_looks_every_second(node: Node, kubelet: Kubelet, what: str) -> None:
    none_left = f'echo 0 > /proc/sys/user/max_inotify_{what} && exec "$@"'
    under = ("unshare", "--user", "--map-root-user", "sh", "-c", none_left, "sh")
    kubelet.start()
    with node.plugin("--rescan", "1h", kubelet=kubelet, under=under) as plugin:
        plugin.wait_for_log("looking every second instead")
        kubelet.wait_for_resource(RESOURCE, 4)
        kubelet.restart()
        kubelet.wait_for_resource(RESOURCE, 4)
        assert kubelet.allocate(RESOURCE, GPUS)


def test_nothing_leaks_over_many_allocations_and_restarts(node: Node, kubelet: Kubelet) -> None:
    kubelet.start()
    with node.plugin(kubelet=kubelet) as plugin:
        kubelet.wait_for_resource(RESOURCE, 4)
        plugin.settle()
        descriptors, threads = plugin.descriptors(), plugin.threads()
        for _ in range(ALLOCATIONS):
            kubelet.allocate(RESOURCE, GPUS[:2], GPUS[2:])
        for _ in range(RESTARTS):
            kubelet.restart()
            kubelet.wait_for_resource(RESOURCE, 4)
        plugin.settle()
        assert plugin.sockets() == [SOCKET]
        # A thread more or less: gRPC's own come and go, a server's workers come with its calls.
        assert plugin.descriptors() <= descriptors + 2
        assert plugin.threads() <= threads + 2


def test_the_back_off_grows_from_a_moment_to_half_a_minute() -> None:
    back_off = BackOff()
    waits = [back_off.next_s() for _ in range(20)]
    assert waits[0] == 0.01
    assert waits == sorted(waits)
    assert waits[-1] == 30
    back_off.reset()
    assert back_off.next_s() == 0.01


def test_a_plugin_with_nothing_to_offer_registers_nothing_and_waits(
    tmp_path: Path, kubelet: Kubelet
) -> None:
    kubelet.start()
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    with running_plugin(
        tmp_path / "sys", tmp_path / "dev", "--rescan", "100ms", kubelet=kubelet
    ) as plugin:
        plugin.wait_for_log("kubelet is there")
        assert kubelet.registrations == []
        seeds_node(tmp_path)
        kubelet.wait_for_resource("nvidia.com/1f08", 4)
