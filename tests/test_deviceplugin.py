"""The device plugin as a process, against a kubelet on a real socket and a node on disk."""

from pathlib import Path

import pytest
from hosttree import bridge, build_host_tree, gpu
from kubelet import Plugin, make_nodes, running_plugin

RESOURCE = "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"
SOCKET = "kubevirt-TU106_GEFORCE_RTX_2060_REV__A.sock"
VARIABLE = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A"
GPUS = ("0000:04:00.0", "0000:05:00.0", "0000:86:00.0", "0000:af:00.0")
PCI_IDS = "10de  NVIDIA Corporation\n\t1f08  TU106 [GeForce RTX 2060 Rev. A]\n"


def seeds_node(directory: Path) -> tuple[Path, Path, Path]:
    """The seed's case: four 10de:1f08, each with its audio, USB and UCSI functions."""
    sysfs = directory / "sys"
    devices = [bridge("0000:00:02.0", group=1)]
    for group, bdf in enumerate(GPUS, start=40):
        devices += gpu(bdf, group=group, numa=0 if bdf < "0000:80" else 1)
    build_host_tree(sysfs, devices)
    names = directory / "pci.ids"
    names.write_text(PCI_IDS)
    return sysfs, make_nodes(directory / "dev", range(40, 44)), names


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> object:
    sysfs, dev, names = seeds_node(tmp_path_factory.mktemp("node"))
    with running_plugin(sysfs, dev, "--pci-ids", names) as running:
        running.kubelet.wait_for_resource(RESOURCE, 4)
        yield running


def test_the_seeds_four_gpus_are_a_capacity_of_four(plugin: Plugin) -> None:
    endpoint = plugin.kubelet.endpoints[RESOURCE]
    assert endpoint.health() == dict.fromkeys(GPUS, "Healthy")
    assert endpoint.socket == SOCKET
    assert plugin.sockets() == [SOCKET]


def test_allocate_of_two_fills_the_variable_that_the_hook_reads(plugin: Plugin) -> None:
    (container,) = plugin.kubelet.allocate(RESOURCE, ["0000:af:00.0", "0000:86:00.0"])
    assert container.envs == {VARIABLE: "0000:86:00.0,0000:af:00.0"}
    specs = [(spec.host_path, spec.container_path, spec.permissions) for spec in container.devices]
    assert specs == [
        (path, path, "mrw") for path in ("/dev/vfio/vfio", "/dev/vfio/42", "/dev/vfio/43")
    ]
