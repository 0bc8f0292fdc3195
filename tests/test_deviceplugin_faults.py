"""Bad nodes, bad directories, bad options: a message each, and the rest goes on."""

import os
import resource
import signal
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import grpc
import pytest
import yaml
from hosttree import build_host_tree, device_directory, gpu, rebind, write_attribute
from kubelet import COMMAND, Kubelet, make_nodes, running_plugin
from pluginnode import GPUS, PCI_IDS, RESOURCE, Node, seeds_node
from processmemory import peak_bytes
from smalldisk import small_disk
from test_deviceplugin import healthy, wait_for_health

MANIFESTS = Path(__file__).parent.parent / "sidecar-image/manifests"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return seeds_node(tmp_path)


def break_class(node: Node) -> None:
    write_attribute(node.sysfs, GPUS[0], "class", b"")


def break_vendor(node: Node) -> None:
    write_attribute(node.sysfs, GPUS[0], "vendor", b"")


def unreadable_vendor(node: Node) -> None:
    path = device_directory(node.sysfs, GPUS[0]) / "vendor"
    path.unlink()
    path.mkdir()


def no_driver(node: Node) -> None:
    rebind(node.sysfs, GPUS[0], "")


def no_group(node: Node) -> None:
    (device_directory(node.sysfs, GPUS[0]) / "iommu_group").unlink()


def dangling(node: Node) -> None:
    device_directory(node.sysfs, GPUS[0]).rename(node.sysfs / "gone")


def not_an_address(node: Node) -> None:
    dangling(node)
    (node.sysfs / "bus/pci/devices/0000:04:00.9").symlink_to("/nonexistent")
    (node.sysfs / "bus/pci/devices/whatever").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_vendor, "0000:04:00.0 is not offered: its vendor cannot be read"),
        (unreadable_vendor, "0000:04:00.0 is not offered: its vendor cannot be read"),
        (break_class, "0000:04:00.0 is not offered: no selector matches it, and its class cannot"),
        (no_driver, "0000:04:00.0 is not offered: bound to no driver; bind it to vfio-pci"),
        (no_group, "0000:04:00.0 is not offered: in no IOMMU group; turn the IOMMU on"),
        (dangling, "offering 3"),
        (not_an_address, "offering 3"),
    ],
)
def test_a_damaged_device_hides_no_other(node: Node, damage: object, message: str) -> None:
    damage(node)  # type: ignore[operator]
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 3)
        wait_for_health(plugin, healthy(*GPUS[1:]))
        plugin.wait_for_log(message)
        assert plugin.kubelet.allocate(RESOURCE, GPUS[1:])


# Reading it at offset 0 is the one way to EIO that a plain file system has.
EIO_FILE = "/proc/self/mem"


def fail_to_answer(node: Node, bdf: str, attribute: str) -> None:
    path = device_directory(node.sysfs, bdf) / attribute
    path.unlink(missing_ok=True)
    path.symlink_to(EIO_FILE)


@pytest.mark.parametrize("attribute", ["vendor", "class", "config"])
def test_a_device_that_fails_to_answer_stays_in_the_list_unhealthy(
    node: Node, attribute: str
) -> None:
    write_attribute(node.sysfs, GPUS[0], "config", bytes(64))
    original = (device_directory(node.sysfs, GPUS[0]) / attribute).read_bytes()
    with node.plugin("--rescan", "100ms") as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        fail_to_answer(node, GPUS[0], attribute)
        wait_for_health(plugin, healthy(*GPUS) | {GPUS[0]: "Unhealthy"})
        plugin.wait_for_log("cannot be read")
        with pytest.raises(grpc.RpcError) as caught:
            plugin.kubelet.allocate(RESOURCE, [GPUS[0]])
        assert "cannot be read" in caught.value.details()
        (device_directory(node.sysfs, GPUS[0]) / attribute).unlink()
        write_attribute(node.sysfs, GPUS[0], attribute, original)
        wait_for_health(plugin, healthy(*GPUS))


def test_without_descriptors_the_list_stays_as_it_was(node: Node) -> None:
    """What cannot be opened for want of a descriptor is no fact about the node."""
    with node.plugin("--rescan", "50ms", "--metrics", "127.0.0.1:0") as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        plugin.settle()
        limits = resource.prlimit(plugin.pid, resource.RLIMIT_NOFILE)
        lists = plugin.kubelet.endpoints[RESOURCE].lists
        used = {int(fd.name) for fd in Path(f"/proc/{plugin.pid}/fd").iterdir()}
        lowest_free = next(fd for fd in count() if fd not in used)
        resource.prlimit(plugin.pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        plugin.wait_for_log("Too many open files")
        resource.prlimit(plugin.pid, resource.RLIMIT_NOFILE, limits)
        assert RESOURCE in plugin.kubelet.endpoints, plugin.log.read_text()
        assert plugin.kubelet.allocate(RESOURCE, GPUS)
        assert plugin.kubelet.endpoints[RESOURCE].lists == lists
        assert plugin.kubelet.endpoints[RESOURCE].health() == healthy(*GPUS)


def test_a_node_without_numa_has_no_topology(tmp_path: Path) -> None:
    sysfs = build_host_tree(tmp_path / "sys", gpu(GPUS[0], group=40, numa=None)[:1])
    with running_plugin(sysfs, make_nodes(tmp_path / "dev", [40])) as plugin:
        endpoint = plugin.kubelet.wait_for_resource("nvidia.com/1f08", 1)
        assert endpoint.numa() == {GPUS[0]: []}


def test_without_pci_the_plugin_says_so_and_waits(tmp_path: Path) -> None:
    with running_plugin(tmp_path / "sys", tmp_path / "dev", "--rescan", "100ms") as plugin:
        plugin.wait_for_log("there is no bus/pci/devices below its /sys")
        seeds_node(tmp_path)
        plugin.kubelet.wait_for_resource("nvidia.com/1f08", 4)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00" * 100, b"10de  NVIDIA\n1f08 not indented\n", b"10de\n\t1f08\n"],
)
def test_a_broken_pci_ids_leaves_names_by_number_and_a_warning(node: Node, content: bytes) -> None:
    node.names.write_bytes(content)
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource("nvidia.com/1f08", 4)
        plugin.wait_for_log("pci.ids has no name for 10de:1f08")


def test_a_name_that_is_too_long_is_not_offered_and_says_how_to_name_it(node: Node) -> None:
    node.names.write_text(PCI_IDS.replace("TU106", "T" * 64))
    with node.plugin() as plugin:
        plugin.wait_for_log("63 are allowed; write e.g. nvidia.com/TTT")
        assert plugin.kubelet.registrations == []


def test_a_device_that_two_selectors_match_goes_to_the_first(node: Node, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "selectors: [{resourceName: a.com/one, address: '0000:04:00.0'},"
        "{resourceName: a.com/all, vendor: '10de:1f08'}]"
    )
    with node.plugin("--config", config) as plugin:
        plugin.kubelet.wait_for_resource("a.com/one", 1)
        plugin.kubelet.wait_for_resource("a.com/all", 3)
        plugin.wait_for_log("0000:04:00.0 is matched by")


def test_a_path_that_would_be_too_long_for_a_socket_is_made_shorter(tmp_path: Path) -> None:
    node = seeds_node(tmp_path)
    node.names.write_text(PCI_IDS.replace("TU106", "T" * 20))
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        kubelet = Kubelet(Path(scratch) / ("k" * (70 - len(scratch))))
        kubelet.start()
        with node.plugin(kubelet=kubelet):
            resource = f"nvidia.com/{'T' * 20}_GEFORCE_RTX_2060_REV__A"
            endpoint = kubelet.wait_for_resource(resource, 4)
            assert len(f"{kubelet.directory}/{endpoint.socket}") <= 107
            assert kubelet.allocate(resource, GPUS)
        kubelet.stop()


def test_a_directory_that_no_socket_fits_in_is_said(node: Node) -> None:
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        deep = Path(scratch) / ("k" * 100)
        deep.mkdir()
        with node.plugin(kubelet=Kubelet(deep)) as plugin:
            plugin.wait_for_log("give a path of at most 107 bytes")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system; CI is root")
def test_a_full_directory_is_said_and_served_when_it_has_room(node: Node) -> None:
    with small_disk("size=64k,nr_inodes=4") as disk:
        kubelet = Kubelet(disk / "k")
        kubelet.start()
        filler = disk / "filler"
        filler.touch()
        with node.plugin(kubelet=kubelet) as plugin:
            plugin.wait_for_log("it cannot be bound")
            filler.unlink()
            (kubelet.directory / "x").mkdir()  # something changes: it tries at once
            (kubelet.directory / "x").rmdir()
            kubelet.restart()
            kubelet.wait_for_resource(RESOURCE, 4)
        kubelet.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system; CI is root")
def test_a_read_only_directory_is_said_and_served_when_it_can_be_written(node: Node) -> None:
    with small_disk("size=64k") as disk:
        kubelet = Kubelet(disk)
        kubelet.start()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with node.plugin(kubelet=kubelet) as plugin:
            plugin.wait_for_log("it cannot be bound")
            plugin.wait_for_log("give a directory that is writable")
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            kubelet.restart()
            kubelet.wait_for_resource(RESOURCE, 4)
        kubelet.stop()


def test_something_else_in_the_sockets_place_is_said_and_not_touched(node: Node) -> None:
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        kubelet = Kubelet(Path(scratch))
        kubelet.start()
        other = Path(scratch) / "kubevirt-TU106_GEFORCE_RTX_2060_REV__A.sock"
        other.mkdir()
        with node.plugin(kubelet=kubelet) as plugin:
            plugin.wait_for_log("it is there and is no socket; take it away")
            other.rmdir()
            kubelet.wait_for_resource(RESOURCE, 4)
        kubelet.stop()


def test_a_signal_while_kubelet_does_not_answer_ends_it_all_the_same(node: Node) -> None:
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        import socket

        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(f"{scratch}/kubelet.sock")
            deaf.listen(1)
            with node.plugin(kubelet=Kubelet(Path(scratch))) as plugin:
                deaf.settimeout(60)
                connection, _ = deaf.accept()  # it dials, and gets no answer
                plugin.process.send_signal(signal.SIGTERM)
                assert plugin.process.wait(60) == 0
                assert plugin.sockets() == []
                connection.close()


def test_requests_as_large_as_are_taken_stay_within_its_memory(node: Node) -> None:
    daemon_set = yaml.safe_load((MANIFESTS / "device-plugin/daemonset.yaml").read_text())
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "128Mi"
    many = [f"{number:07x}" for number in range(100_000)]  # nine bytes each
    with node.plugin() as plugin:
        kubelet = plugin.kubelet
        kubelet.wait_for_resource(RESOURCE, len(GPUS))
        with pytest.raises(grpc.RpcError, match="is not offered"):
            kubelet.allocate(RESOURCE, many)
        assert len(kubelet.prefer(RESOURCE, many, [], 8)) == 8
        with pytest.raises(grpc.RpcError, match="larger than max"):
            kubelet.allocate(RESOURCE, many, many)
        assert kubelet.allocate(RESOURCE, GPUS)
        assert peak_bytes(plugin.pid) < 100 << 20


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--config", "/nonexistent"], 2, "it cannot be read"),
        (["--pci-ids", "/nonexistent"], 2, "it cannot be read"),
        (["--vendor", "1af4"], 2, "no domain is known for its resources"),
        (["--class", "3"], 2, "'3' is no class"),
        (["--rescan", "soon"], 2, "'soon' is no time from 50ms to 24h; write e.g. 30s"),
        (["--rescan", "0"], 2, "'0' is no time"),
        (["--metrics", "here"], 2, "'here' is not HOST:PORT; write e.g. :9100"),
        (["--metrics", "[::1:9100"], 2, "is not HOST:PORT"),
        (["--metrics", "203.0.113.1:1"], 2, "it cannot be listened on"),
        (["--sysfs", "/proc/version"], 2, "it is no snapshot of a node; give the root of a /sys"),
    ],
)
def test_what_it_cannot_start_with_is_said(arguments: list[str], status: int, message: str) -> None:
    done = subprocess.run(
        [COMMAND, "device-plugin", "--kubelet-dir", "/nonexistent", *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status
    assert message in done.stderr
