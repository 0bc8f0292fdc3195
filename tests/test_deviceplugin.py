"""The device plugin as a process, against a kubelet on a real socket and a node on disk.

The test changes the node while the plugin runs; its rescan is short, since nothing tells a process
of a change in a plain directory that stands for ``/sys``.
"""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from hosttree import (
    HostDevice,
    add_mdev,
    build_host_tree,
    device_directory,
    gpu,
    rebind,
    remove,
    remove_mdev,
    write_attribute,
)
from kubelet import Plugin, make_nodes, running_plugin
from pluginnode import GPUS, RESOURCE, SOCKET, VARIABLE, Node, seeds_node

from launcher_hook.deviceplugin.service import MOST_STREAMS

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
QUICK = ("--rescan", "100ms")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return seeds_node(tmp_path)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    """One that only answers."""
    with seeds_node(tmp_path_factory.mktemp("node")).plugin() as running:
        running.kubelet.wait_for_resource(RESOURCE, 4)
        yield running


def wait_for_health(plugin: Plugin, expected: dict[str, str], resource: str = RESOURCE) -> None:
    def same() -> bool:
        endpoint = plugin.kubelet.endpoints.get(resource)
        return endpoint is not None and endpoint.lists > 0 and endpoint.health() == expected

    plugin.kubelet.wait_for(same, f"not {expected}: {plugin.log.read_text()}")


def healthy(*ids: str) -> dict[str, str]:
    return dict.fromkeys(ids, "Healthy")


def test_the_seeds_four_gpus_are_a_capacity_of_four(plugin: Plugin) -> None:
    endpoint = plugin.kubelet.endpoints[RESOURCE]
    assert endpoint.health() == healthy(*GPUS)
    assert list(endpoint.devices) == list(GPUS)
    assert endpoint.socket == SOCKET
    assert plugin.sockets() == [SOCKET]


def test_topology_is_said_where_the_node_knows_it(plugin: Plugin) -> None:
    numa = plugin.kubelet.endpoints[RESOURCE].numa()
    assert numa == dict(zip(GPUS, ([], [0], [1], [1]), strict=True))


def test_allocate_of_two_fills_the_variable_that_the_hook_reads(plugin: Plugin) -> None:
    (container,) = plugin.kubelet.allocate(RESOURCE, ["0000:af:00.0", "0000:86:00.0"])
    assert container.envs == {VARIABLE: "0000:86:00.0,0000:af:00.0"}
    specs = [(spec.host_path, spec.container_path, spec.permissions) for spec in container.devices]
    assert specs == [
        (path, path, "mrw") for path in ("/dev/vfio/vfio", "/dev/vfio/42", "/dev/vfio/43")
    ]
    assert not container.mounts
    assert not container.annotations


def test_several_containers_of_a_pod_get_each_their_own(plugin: Plugin) -> None:
    first, second = plugin.kubelet.allocate(RESOURCE, GPUS[:3], GPUS[3:])
    assert first.envs == {VARIABLE: ",".join(GPUS[:3])}
    assert second.envs == {VARIABLE: GPUS[3]}


def test_an_id_that_is_not_offered_fails_the_call_and_is_named(plugin: Plugin) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        plugin.kubelet.allocate(RESOURCE, ["0000:04:00.0"], ["0000:99:00.0"])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'0000:99:00.0' is not offered" in caught.value.details()
    assert plugin.kubelet.allocate(RESOURCE, ["0000:04:00.0"])


def test_the_preferred_devices_are_of_one_numa_node(plugin: Plugin) -> None:
    assert plugin.kubelet.endpoints[RESOURCE].options.get_preferred_allocation_available
    assert plugin.kubelet.prefer(RESOURCE, GPUS, [], 2) == ["0000:86:00.0", "0000:af:00.0"]
    assert plugin.kubelet.prefer(RESOURCE, GPUS, ["0000:86:00.0"], 1) == ["0000:86:00.0"]


def test_allocate_is_answered_however_many_lists_are_held_open(node: Node) -> None:
    with node.plugin(*QUICK) as plugin:
        endpoint = plugin.kubelet.wait_for_resource(RESOURCE, 4)
        calls = [plugin.kubelet.follow(endpoint) for _ in range(20)]
        for call in calls:
            next(call)  # each is answered; then older ones end
        assert plugin.kubelet.allocate(endpoint, GPUS)
        assert sum(call.is_active() for call in calls) <= MOST_STREAMS
        # Kubelet's own has ended too. When nobody follows the list, kubelet is told again.
        for call in calls:
            call.cancel()
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        plugin.kubelet.wait_for(lambda: len(plugin.kubelet.registrations) > 1)


def test_a_node_that_goes_makes_its_device_unhealthy_until_it_comes_back(node: Node) -> None:
    with node.plugin() as plugin:  # nothing but inotify: the rescan is 30 s away
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        (node.dev / "vfio/42").unlink()
        wait_for_health(plugin, healthy(*GPUS) | {"0000:86:00.0": "Unhealthy"})
        with pytest.raises(grpc.RpcError) as caught:
            plugin.kubelet.allocate(RESOURCE, GPUS)
        assert "0000:86:00.0" in caught.value.details()
        assert "there is no /dev/vfio/42; load vfio-pci" in caught.value.details()
        (node.dev / "vfio/42").touch()
        wait_for_health(plugin, healthy(*GPUS))


def test_the_whole_directory_of_nodes_may_go_and_come_back(node: Node) -> None:
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        (node.dev / "vfio").rename(node.dev / "away")
        wait_for_health(plugin, dict.fromkeys(GPUS, "Unhealthy"))
        (node.dev / "away").rename(node.dev / "vfio")
        wait_for_health(plugin, healthy(*GPUS))
        (node.dev / "vfio/40").unlink()
        wait_for_health(plugin, healthy(*GPUS[1:]) | {GPUS[0]: "Unhealthy"})


def test_functions_that_come_go_or_are_rebound_appear_and_disappear(node: Node) -> None:
    with node.plugin(*QUICK) as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        new = "0000:c1:00.0"
        make_nodes(node.dev, [50])
        build_host_tree(node.sysfs, gpu(new, group=50)[:1])
        wait_for_health(plugin, healthy(*GPUS, new))
        for function in range(3, -1, -1):
            remove(node.sysfs, f"0000:04:00.{function}")
        wait_for_health(plugin, healthy(*GPUS[1:], new))
        rebind(node.sysfs, "0000:05:00.0", "nvidia")
        wait_for_health(plugin, healthy(*GPUS[2:], new))
        rebind(node.sysfs, "0000:05:00.0", "vfio-pci")
        wait_for_health(plugin, healthy(*GPUS[1:], new))
        assert plugin.kubelet.registrations == [RESOURCE]


def test_a_device_with_trouble_is_unhealthy_and_the_others_are_not(node: Node) -> None:
    with node.plugin(*QUICK) as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        rebind(node.sysfs, "0000:04:00.0", "")  # between two drivers
        rebind(node.sysfs, "0000:05:00.1", "snd_hda_intel")  # its group is not viable
        write_attribute(node.sysfs, "0000:86:00.0", "config", b"\xff" * 64)  # does not answer
        wait_for_health(plugin, dict.fromkeys(GPUS[:3], "Unhealthy") | healthy("0000:af:00.0"))
        plugin.wait_for_log("0000:04:00.0: bound to no driver now")
        plugin.wait_for_log("0000:05:00.1 is bound to 'snd_hda_intel'")
        plugin.wait_for_log("0000:86:00.0: it does not answer")
        for device_id in GPUS[:3]:
            with pytest.raises(grpc.RpcError, match=device_id):
                plugin.kubelet.allocate(RESOURCE, [device_id, "0000:af:00.0"])
        rebind(node.sysfs, "0000:04:00.0", "vfio-pci")
        rebind(node.sysfs, "0000:05:00.1", "vfio-pci")
        write_attribute(node.sysfs, "0000:86:00.0", "config", b"\xde\x10" + b"\xff" * 62)
        wait_for_health(plugin, healthy(*GPUS))


def test_a_vf_whose_vendor_reads_all_ones_in_its_config_space_answers(node: Node) -> None:
    write_attribute(node.sysfs, "0000:04:00.0", "config", b"\xff\xff\xff\xff" + b"\x06" * 60)
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        wait_for_health(plugin, healthy(*GPUS))


@pytest.mark.parametrize(
    ("attribute", "content", "message"),
    [
        ("vendor", "0x8086\n", "its vendor was 10de and is 8086 now"),
        ("vendor", "", "its vendor was 10de and is not readable now"),
        ("device", "0x1f09\n", "its device id was 1f08 and is 1f09 now"),
    ],
)
def test_what_changed_since_the_last_look_is_seen_by_allocate(
    node: Node, attribute: str, content: str, message: str
) -> None:
    with node.plugin() as plugin:  # the next look is 30 s away
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        write_attribute(node.sysfs, "0000:86:00.0", attribute, content)
        with pytest.raises(grpc.RpcError) as caught:
            plugin.kubelet.allocate(RESOURCE, ["0000:86:00.0"], ["0000:af:00.0"])
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert f"0000:86:00.0 ({RESOURCE}): {message}" in caught.value.details()


def test_another_driver_or_group_since_the_last_look_is_seen_by_allocate(node: Node) -> None:
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        rebind(node.sysfs, "0000:04:00.0", "nouveau")
        link = device_directory(node.sysfs, "0000:86:00.0") / "iommu_group"
        link.unlink()
        link.symlink_to(os.path.relpath(node.sysfs / "kernel/iommu_groups/43", link.parent))
        remove(node.sysfs, "0000:af:00.0")
        for device_id, message in (
            ("0000:04:00.0", "its driver was 'vfio-pci' and is 'nouveau' now"),
            ("0000:86:00.0", "it was in IOMMU group 42 and is in 43 now"),
            ("0000:af:00.0", "the node does not have it any more"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                plugin.kubelet.allocate(RESOURCE, [device_id, "0000:05:00.0"])
            assert f"{device_id} ({RESOURCE}): {message}" in caught.value.details()


def test_iommufds_nodes_come_where_the_node_has_them(tmp_path: Path) -> None:
    cards = [replace(f, vfio_dev=f"vfio{n}") for n, f in enumerate(gpu(GPUS[0], group=40))]
    build_host_tree(tmp_path / "sys", cards)
    dev = make_nodes(tmp_path / "dev", [40], ["vfio0", "vfio1"])
    with running_plugin(tmp_path / "sys", dev) as plugin:
        plugin.kubelet.wait_for_resource("nvidia.com/1f08", 1)
        (container,) = plugin.kubelet.allocate("nvidia.com/1f08", [GPUS[0]])
        assert [spec.host_path for spec in container.devices] == [
            "/dev/vfio/vfio", "/dev/vfio/40", "/dev/iommu",
            "/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio1",
        ]  # fmt: skip
        (dev / "vfio/devices/vfio0").unlink()
        wait_for_health(plugin, {GPUS[0]: "Unhealthy"}, "nvidia.com/1f08")


def test_mediated_devices_are_offered_and_allocated_by_uuid(node: Node) -> None:
    add_mdev(node.sysfs, UUID, "0000:04:00.0", group=60, type_name="GRID T4-1Q")
    make_nodes(node.dev, [60])
    resource = "nvidia.com/GRID_T4-1Q"
    with node.plugin(*QUICK) as plugin:
        endpoint = plugin.kubelet.wait_for_resource(resource, 1)
        assert endpoint.socket == "kubevirt-GRID_T4-1Q.sock"
        (container,) = plugin.kubelet.allocate(resource, [UUID])
        assert container.envs == {"MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4-1Q": UUID}
        assert [s.host_path for s in container.devices] == ["/dev/vfio/vfio", "/dev/vfio/60"]
        remove_mdev(node.sysfs, UUID)
        with pytest.raises(grpc.RpcError, match="does not have it any more|is not offered"):
            plugin.kubelet.allocate(resource, [UUID])
        wait_for_health(plugin, {}, resource)


def test_a_kubevirt_cr_is_the_configuration(node: Node, tmp_path: Path) -> None:
    config = tmp_path / "kubevirt.yaml"
    config.write_text(
        "kind: KubeVirt\nspec: {configuration: {permittedHostDevices: {pciHostDevices: ["
        "{pciVendorSelector: '10de:1F08', resourceName: a.com/gpu, externalResourceProvider: true},"
        "{pciVendorSelector: '10de:10f9', resourceName: a.com/audio}]}}}\n"
    )
    with node.plugin("--config", config) as plugin:
        plugin.kubelet.wait_for_resource("a.com/gpu", 4)
        plugin.wait_for_log("pciHostDevices[1] has no 'externalResourceProvider: true'")
        assert plugin.kubelet.registrations == ["a.com/gpu"]


def test_equal_names_of_two_vendors_are_two_resources_on_two_sockets(tmp_path: Path) -> None:
    devices = [
        HostDevice(f"0000:0{n}:00.0", vendor, 1, cls=0x030000, group=n, driver="vfio-pci")
        for n, vendor in ((1, 0x10DE), (2, 0x1002))
    ]
    names = tmp_path / "pci.ids"
    names.write_text("1002  AMD\n\t0001  X\n10de  NVIDIA\n\t0001  X\n")
    sysfs = build_host_tree(tmp_path / "sys", devices)
    arguments = ("--pci-ids", names, "--vendor", "10de", "--vendor", "1002")
    with running_plugin(sysfs, make_nodes(tmp_path / "dev", [1, 2]), *arguments) as plugin:
        first = plugin.kubelet.wait_for_resource("amd.com/X", 1)
        second = plugin.kubelet.wait_for_resource("nvidia.com/X", 1)
        assert first.socket == "kubevirt-X.sock"
        assert second.socket.startswith("kubevirt-X-")
        assert plugin.kubelet.allocate("nvidia.com/X", ["0000:01:00.0"])
        assert plugin.kubelet.allocate("amd.com/X", ["0000:02:00.0"])


def test_a_snapshot_stands_for_a_node(node: Node, tmp_path: Path) -> None:
    from launcher_hook.cli import main

    snapshot = tmp_path / "node.json"
    assert main(["discover", "--sysfs", str(node.sysfs), "--dev", str(node.dev),
                 "--snapshot", str(snapshot)]) == 0  # fmt: skip
    with running_plugin(snapshot, None, "--pci-ids", node.names) as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        wait_for_health(plugin, healthy(*GPUS))
        assert plugin.kubelet.allocate(RESOURCE, GPUS)


def test_the_log_is_one_json_line_an_event_and_says_what_was_given(node: Node) -> None:
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        plugin.kubelet.allocate(RESOURCE, GPUS[:2])
        plugin.wait_for_log("allocated")
        events = [json.loads(line) for line in plugin.log.read_text().splitlines()]
    for event in events:
        assert {"component", "level", "msg", "timestamp", "pos"} <= set(event)
    (given,) = [event for event in events if event["msg"] == "allocated"]
    assert given["resource"] == RESOURCE
    assert given["devices"] == [f"{VARIABLE}=0000:04:00.0,0000:05:00.0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_status_0_and_takes_its_sockets_away(node: Node, number: int) -> None:
    with node.plugin() as plugin:
        plugin.kubelet.wait_for_resource(RESOURCE, 4)
        plugin.process.send_signal(number)
        assert plugin.process.wait(60) == 0
        assert plugin.sockets() == []
        plugin.kubelet.wait_for(lambda: not plugin.kubelet.endpoints, "the list was held open")


def test_it_has_not_loaded_what_is_too_heavy(plugin: Plugin) -> None:
    maps = Path(f"/proc/{plugin.pid}/maps").read_text()
    for library in ("pydantic_core", "lxml", "libcrypto", "_yaml"):
        assert library not in maps
