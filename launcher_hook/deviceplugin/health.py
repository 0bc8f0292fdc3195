"""Whether a device can be used now. Pure: facts in, trouble out."""

from collections.abc import Callable, Sequence

from launcher_hook.deviceplugin.devices import Device
from launcher_hook.model import HostFunction
from launcher_hook.vfio import is_bound_to_vfio, keeps_group_viable

HasNode = Callable[[str], bool]
"""Whether a device node exists, by its path below ``/dev``."""

GROUP_NODES = "vfio"
CDEV_NODES = "vfio/devices"
IOMMUFD = "iommu"


def find_trouble(
    device: Device,
    function: HostFunction | None,
    members: Sequence[HostFunction],
    has_node: HasNode,
    answers: bool | None,
) -> str | None:
    """Say why a device cannot be used; None if it can, as far as is known.

    Args:
        device: As it is offered.
        function: Its facts now; not looked at for a mediated device.
        members: The functions in its IOMMU group now.
        has_node: What is below ``/dev`` now.
        answers: Whether its configuration space reads other than all ones; None: not known.
    """
    if not device.is_mediated and function is not None:
        if not is_bound_to_vfio(function):
            driver = f"bound to {function.driver!r}" if function.driver else "bound to no driver"
            return f"{driver} now; bind it to vfio-pci again"
        if answers is False:
            return "it does not answer: its configuration space reads all ones; reset or replace it"
        for member in members:
            if keeps_group_viable(member) is False:
                return (
                    f"IOMMU group {device.iommu_group} is not viable: {member.address} is bound "
                    f"to {member.driver!r}; bind it to vfio-pci or to no driver"
                )
    node = f"{GROUP_NODES}/{device.iommu_group}"
    if not has_node(node):
        return f"there is no /dev/{node}; load vfio-pci, and see that the group is bound to it"
    if function is None or function.vfio_device is None or device.is_mediated:
        return None
    # A kernel without VFIO_DEVICE_CDEV has the sysfs name and no such directory.
    cdev = f"{CDEV_NODES}/{function.vfio_device}"
    if has_node(CDEV_NODES) and not has_node(cdev):
        return f"there is no /dev/{cdev}; bind the function to vfio-pci again"
    return None
