"""Allocate: all that was asked for, as it was offered, or an error that names what is not. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from launcher_hook.deviceplugin.devices import Device
from launcher_hook.deviceplugin.health import (
    CDEV_NODES,
    GROUP_NODES,
    IOMMUFD,
    HasNode,
    find_trouble,
)
from launcher_hook.env import MDEV_PREFIX, PCI_PREFIX, variable_of
from launcher_hook.errors import HostError, InputError, shorten
from launcher_hook.model import HostFunction, source_order

VFIO_CONTAINER = "vfio/vfio"

_WAIT = "wait until kubelet has the new list of devices, and start the VM again"


@dataclass(frozen=True, slots=True)
class Present:
    """What is so at this moment of an offered device.

    Attributes:
        exists: Whether it is there at all.
        iommu_group: Its group now.
        function: Its facts now; None for a mediated device.
        members: The PCI functions in its group now.
        answers: Whether its configuration space can be read; None where that is not known.
    """

    exists: bool
    iommu_group: int | None
    function: HostFunction | None
    members: tuple[HostFunction, ...]
    answers: bool | None


@dataclass(frozen=True, slots=True)
class ContainerDevices:
    """What one container gets.

    Attributes:
        variables: The one variable that hook and virt-launcher read.
        nodes: Paths below ``/dev``, each once.
    """

    variables: Mapping[str, str]
    nodes: tuple[str, ...]


def allocate(
    requests: Sequence[Sequence[str]],
    resource: str,
    offered: Mapping[str, Device],
    present: Callable[[Device], Present],
    has_node: HasNode,
) -> tuple[ContainerDevices, ...]:
    """Give each container its devices, in order of their addresses.

    Args:
        requests: Ids by container, in any order.
        resource: Of which resource.
        offered: By id.
        present: Reads the node anew.
        has_node: What is below ``/dev`` now.

    Raises:
        InputError: An id is not offered, or asked for twice.
        HostError: A device is unhealthy or is not what was offered.
    """
    asked: set[str] = set()
    result = []
    for ids in requests:
        devices = []
        for device_id in ids:
            device = offered.get(device_id)
            if device is None:
                raise InputError(
                    f"Allocate of {resource}", f"{shorten(device_id)} is not offered", _WAIT
                )
            if device_id in asked:
                raise InputError(
                    f"Allocate of {resource}", f"{device_id!r} is asked for twice", "ask once"
                )
            asked.add(device_id)
            devices.append(device)
        result.append(_give(devices, resource, present, has_node))
    return tuple(result)


def _give(
    devices: list[Device], resource: str, present: Callable[[Device], Present], has_node: HasNode
) -> ContainerDevices:
    devices.sort(key=lambda device: source_order(device.source))
    nodes = [VFIO_CONTAINER]
    cdevs = []
    for device in devices:
        now = present(device)
        _check(device, now, has_node)
        nodes.append(f"{GROUP_NODES}/{device.iommu_group}")
        cdevs += [f"{CDEV_NODES}/{m.vfio_device}" for m in now.members if m.vfio_device is not None]
    if has_node(IOMMUFD):
        cdevs = [node for node in cdevs if has_node(node)]
        nodes += [IOMMUFD, *cdevs] if cdevs else []
    if not devices:
        return ContainerDevices({}, ())
    # A resource may have both kinds, if the configuration gives them one name.
    ids: dict[str, list[str]] = {}
    for device in devices:
        ids.setdefault(MDEV_PREFIX if device.is_mediated else PCI_PREFIX, []).append(device.id)
    return ContainerDevices(
        {variable_of(resource, prefix): ",".join(ids[prefix]) for prefix in ids},
        tuple(dict.fromkeys(nodes)),
    )


def _check(device: Device, now: Present, has_node: HasNode) -> None:
    where = f"{device.id} ({device.resource})"
    if not now.exists:
        raise HostError(where, "the node does not have it any more", _WAIT)
    if now.iommu_group != device.iommu_group:
        raise HostError(
            where,
            f"it was in IOMMU group {device.iommu_group} and is in {now.iommu_group} now",
            _WAIT,
        )
    before, after = device.function, now.function
    if before is not None and after is not None:
        for what, was, is_now in (
            ("vendor", _hex(before.vendor_id), _hex(after.vendor_id)),
            ("device id", _hex(before.device_id), _hex(after.device_id)),
            ("driver", repr(before.driver), repr(after.driver)),
        ):
            if was != is_now:
                raise HostError(where, f"its {what} was {was} and is {is_now} now", _WAIT)
    trouble = find_trouble(device, after, now.members, has_node, now.answers)
    if trouble is not None:
        what, _, fix = trouble.partition("; ")
        raise HostError(where, what, fix)


def _hex(number: int | None) -> str:
    return "not readable" if number is None else f"{number:04x}"
