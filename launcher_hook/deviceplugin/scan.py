"""Reads a node for the device plugin: everything for a list, one device for an Allocate."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from launcher_hook.deviceplugin.allocation import Present
from launcher_hook.deviceplugin.devices import Device, Inventory, NameOf, select_devices
from launcher_hook.deviceplugin.health import HasNode, find_trouble
from launcher_hook.deviceplugin.selection import Selection
from launcher_hook.devnodes import DeviceNodes, find_among
from launcher_hook.errors import UnreadableError
from launcher_hook.host import Host
from launcher_hook.model import HostFunction, MediatedDevice
from launcher_hook.pci import PciAddress


@contextmanager
def _without_collector() -> Iterator[None]:
    """Make many small values, of which none is garbage: the collector's looks are a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the plugin sees it.

    Attributes:
        name_of: Looks names up in pci.ids.
    """

    host: Host
    nodes: DeviceNodes
    selection: Selection
    name_of: NameOf

    def take_inventory(self, previous: Inventory | None = None, every: bool = False) -> Inventory:
        """Read all that selectors may match, and say what is offered and how it is.

        Args:
            previous: What was offered before.
            every: Also list functions that no selector can match.

        Raises:
            HostError: The node's functions cannot be listed.
        """
        with _without_collector():
            return self._take_inventory(previous, every)

    def _take_inventory(self, previous: Inventory | None, every: bool) -> Inventory:
        functions = self.host.functions(None if every else self.selection.vendors)
        inventory = select_devices(
            functions, self._mediated_devices(), self.selection, self.name_of, previous
        )
        by_address = {function.address: function for function in functions}
        has_node = find_among(self.nodes.all())
        resources = {}
        for resource, devices in inventory.resources.items():
            resources[resource] = tuple(
                self._with_health(device, by_address, has_node) for device in devices
            )
        return replace(inventory, resources=resources)

    def present(self, device: Device) -> Present:
        """Read anew what an Allocate must know of a device."""
        if isinstance(device.source, str):
            mdev = self.host.mediated_device(device.source)
            group = None if mdev is None else mdev.iommu_group
            return Present(mdev is not None, group, None, (), None)
        function = self.host.function(device.source)
        if function is None:
            return Present(False, None, None, (), None)
        group = function.iommu_group
        members = () if group is None else self.host.group_members(group, (function,))
        return Present(True, group, function, members, self.host.answers(device.source))

    def _with_health(
        self, device: Device, functions: dict[PciAddress, HostFunction], has_node: HasNode
    ) -> Device:
        if device.trouble is not None:
            return device
        answers = None
        if isinstance(device.source, PciAddress):
            try:
                answers = self.host.answers(device.source)
            except UnreadableError as error:
                return replace(device, trouble=f"{error.what}; {error.fix}")
        members = [functions[address] for address in device.members]
        trouble = find_trouble(device, device.function, members, has_node, answers)
        return device if trouble is None else replace(device, trouble=trouble)

    def _mediated_devices(self) -> list[tuple[MediatedDevice, HostFunction | None]]:
        if not self.selection.mdev:
            return []
        parents: dict[PciAddress, HostFunction | None] = {}
        found = []
        for uuid in self.host.mdev_uuids() or ():
            mdev = self.host.mediated_device(uuid)
            if mdev is None:
                continue
            if mdev.parent is not None and mdev.parent not in parents:
                parents[mdev.parent] = self.host.function(mdev.parent)
            found.append((mdev, None if mdev.parent is None else parents[mdev.parent]))
        return found
