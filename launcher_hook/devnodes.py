"""Device nodes: which of those that matter to vfio exist below a ``/dev``, or existed on a node."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher_hook.files import check_absence

# Linux drivers/vfio: group nodes and the container; vfio/devices has a node a function (6.6);
# drivers/iommu/iommufd makes /dev/iommu.
DIRECTORIES = ("vfio", "vfio/devices")
_SINGLE = ("iommu",)


class DeviceNodes(Protocol):
    """Answers by paths below ``/dev``, such as ``vfio/42``."""

    def exists(self, path: str) -> bool:
        """Whether the node, or a directory of nodes, is there."""

    def all(self) -> frozenset[str] | None:
        """Every node and directory that matters to vfio; None where that is not known."""


@dataclass(frozen=True, slots=True)
class NodeTree:
    """One ``/dev``; nothing is kept between two calls."""

    root: Path

    def exists(self, path: str) -> bool:
        """Whether the node, or a directory of nodes, is there."""
        return os.path.exists(f"{self.root}/{path}")  # noqa: PTH110

    def all(self) -> frozenset[str]:
        """Every node and directory that matters to vfio.

        Raises:
            HostError: A directory is there and cannot be listed.
        """
        found = {name for name in _SINGLE if self.exists(name)}
        for directory in DIRECTORIES:
            path = f"{self.root}/{directory}"
            try:
                names = os.listdir(path)  # noqa: PTH208
            except OSError as error:
                check_absence(error, path)
                continue
            found.add(directory)
            found.update(f"{directory}/{name}" for name in names)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class NodeList:
    """The nodes that a snapshot has; one without any was taken where there was no ``/dev``."""

    paths: frozenset[str] = frozenset()

    def exists(self, path: str) -> bool:
        """Whether the snapshot has it."""
        return path in self.paths

    def all(self) -> frozenset[str] | None:
        """Every one; None where there is none."""
        return self.paths or None


def find_among(paths: frozenset[str] | None) -> Callable[[str], bool]:
    """Say of each node whether it is among those that there are; what is not known is there."""
    return _is_anywhere if paths is None else paths.__contains__


def _is_anywhere(_path: str) -> bool:
    return True
