"""The seed's node for the device plugin: four GPUs of one kind, on disk."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from hosttree import bridge, build_host_tree, gpu
from kubelet import Kubelet, Plugin, make_nodes, running_plugin

RESOURCE = "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"
SOCKET = "kubevirt-TU106_GEFORCE_RTX_2060_REV__A.sock"
VARIABLE = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A"
GPUS = ("0000:04:00.0", "0000:05:00.0", "0000:86:00.0", "0000:af:00.0")
PCI_IDS = "10de  NVIDIA Corporation\n\t1f08  TU106 [GeForce RTX 2060 Rev. A]\n"


@dataclass(frozen=True)
class Node:
    """A node on disk."""

    sysfs: Path
    dev: Path
    names: Path

    def plugin(
        self, *arguments: str | Path, kubelet: Kubelet | None = None, under: Sequence[str] = ()
    ) -> AbstractContextManager[Plugin]:
        return running_plugin(
            self.sysfs, self.dev, "--pci-ids", self.names, *arguments, kubelet=kubelet, under=under
        )


def seeds_node(directory: Path) -> Node:
    """The seed's case: four 10de:1f08, each with its audio, USB and UCSI functions."""
    devices = [bridge("0000:00:02.0", group=1)]
    for group, bdf in enumerate(GPUS, start=40):
        devices += gpu(bdf, group=group, numa=(-1, 0, 1, 1)[group - 40])
    names = directory / "pci.ids"
    names.write_text(PCI_IDS)
    sysfs = build_host_tree(directory / "sys", devices)
    return Node(sysfs, make_nodes(directory / "dev", range(40, 44)), names)
