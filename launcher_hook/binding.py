"""Whether libvirt binds a function to vfio-pci for the VM, or leaves its driver alone. Pure.

libvirt up to 9 reads ``managed='yes'`` as "bind it to vfio-pci". libvirt 10.0 and newer look for
the best variant of vfio-pci in ``/lib/modules/$(uname -r)/modules.alias``, also for a function that
is on vfio-pci already. Without that file, as in a launcher's container, 11.3 starts no VM; where
the file names a variant, libvirt moves the function to it. ``<driver model='vfio-pci'/>`` avoids
the look-up, so that ``yes`` means on every libvirt what it always meant. tests/README.md has what
each version does.
"""

from dataclasses import replace
from typing import Literal

from launcher_hook.model import Assignment, HostFunction
from launcher_hook.settings import Settings
from launcher_hook.vfio import VFIO_PCI, has_own_vfio_device, is_bound_to_variant, is_same_driver


def decide_binding(
    assignment: Assignment,
    function: HostFunction | None,
    settings: Settings,
    accompanied: Assignment | None = None,
) -> Assignment:
    """Decide ``managed`` and the driver of one assigned device.

    Args:
        assignment: A mediated device comes back as it is.
        function: What the node shows of it; None where that is not known.
        settings: The configuration.
        accompanied: Of a companion: the function that it comes along with.
    """
    if assignment.host_address is None:
        return assignment
    keep_driver = assignment.keep_driver or (function is not None and has_own_vfio_device(function))
    stays = keep_driver or (function is not None and is_bound_to_variant(function))
    managed = "no" if stays else _wanted(assignment, settings, accompanied)
    if assignment.unplugged_by_launcher:
        managed = _as_written(assignment) or "no"
    model = VFIO_PCI if managed == "yes" and _may_choose(assignment) else None
    return replace(assignment, keep_driver=keep_driver, managed=managed, driver_model=model)


def take_asked_driver(
    assignment: Assignment, asked: str, function: HostFunction | None, settings: Settings
) -> Assignment:
    """Follow the configuration's own ``driver.model``, which wins over our choice.

    A function that is on the asked variant stays there. One that is on another variant is bound
    to the asked driver, as nobody but the configuration may say.
    """
    assignment = replace(assignment, driver_model=None)
    if assignment.keep_driver or assignment.unplugged_by_launcher or function is None:
        return assignment
    if not is_bound_to_variant(function) or is_same_driver(function.driver, asked):
        return assignment
    return replace(assignment, managed=_wanted(assignment, settings, None))


def binding_warnings(
    assignment: Assignment, function: HostFunction | None, settings: Settings
) -> tuple[str, ...]:
    """Say where ``managed: yes`` is not written, and which libvirt cannot start that."""
    if function is None or settings.managed != "yes" or assignment.managed == "yes":
        return ()
    if assignment.unplugged_by_launcher or not is_bound_to_variant(function):
        return ()
    return (
        f"{assignment.source} ({assignment.alias}): it is bound to {function.driver!r}, and "
        "managed='yes' would have libvirt take it off that driver; managed='no' is written, with "
        "which libvirt 11.3 starts the VM and 9.0 does not: for 9.0 bind it to vfio-pci",
    )


def _wanted(
    assignment: Assignment, settings: Settings, accompanied: Assignment | None
) -> Literal["yes", "no"]:
    """What the configuration says; a companion follows its function, so that the VM starts."""
    if settings.managed != "keep":
        return settings.managed
    if assignment.present is None and accompanied is not None:
        return accompanied.managed
    return _as_written(assignment) or "yes"


def _as_written(assignment: Assignment) -> Literal["yes", "no"] | None:
    present = assignment.present
    if present is None or present.managed not in ("yes", "no"):
        return None
    return "yes" if present.managed == "yes" else "no"


def _may_choose(assignment: Assignment) -> bool:
    """Whether no driver is there that somebody has chosen; an ``iommufd`` alone is no choice."""
    present = assignment.present
    if assignment.unplugged_by_launcher:
        return False
    return present is None or (
        present.driver_name in (None, "vfio") and present.driver_model is None
    )
