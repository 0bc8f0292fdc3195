"""Which companion functions cannot be opened where a device is opened by iommufd. Pure.

By its IOMMU group a function is opened through ``/dev/vfio/GROUP``, and with it every other one of
the group. By iommufd each is opened through ``/dev/vfio/devices/vfioN`` of its own, and the kernel
does not mix the two ways in one group (Linux drivers/vfio/group.c: cdev_device_open_cnt). Which of
these nodes a pod has is up to who allocated the function, and a hook sidecar cannot look: its /dev
is not that of compute. Read on 2026-11-29:

- KubeVirt 1.9.0's device plugin gives the node of the allocated function only
  (pkg/virt-handler/device-manager/common.go, formatVFIOCdevDeviceSpecs), and /dev/iommu comes by
  its gate IOMMUFD, with which the domain has ``<iommufd enabled='yes'>``;
- a DRA driver gives the nodes of the device that it allocated;
- ours (``deviceplugin.allocation``) and NVIDIA's kubevirt-gpu-device-plugin give the nodes of the
  whole group, and /dev/iommu.

QEMU does not start with a function whose node is not there, so that companions are left out. They
are attached where the configuration says that the pod has their nodes, or where it alone asks for
iommufd: then the pod has /dev/iommu by a plugin that gives the whole group, or the device itself
cannot be opened either.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from launcher_hook.model import Assignment, HostFacts
from launcher_hook.naming import find_named, list_names
from launcher_hook.pci import PciAddress
from launcher_hook.settings import Settings


@dataclass(frozen=True, slots=True)
class Openable:
    """What is left when those are out that cannot be opened.

    Attributes:
        assignments: In their order.
        settings: Without what is said of companions that are left out.
        warnings: One for each of these.
    """

    assignments: tuple[Assignment, ...]
    settings: Settings
    warnings: tuple[str, ...] = ()


def leave_out_companions(
    assignments: Sequence[Assignment], facts: HostFacts, settings: Settings, *, by_default: bool
) -> Openable:
    """Leave out the companions of functions that are opened by iommufd; never an allocated one.

    Args:
        assignments: The devices, companions among them.
        facts: Of the node.
        settings: The configuration.
        by_default: Whether the domain opens by iommufd what nobody says anything else of.
    """
    companions = {a.host_address: a for a in assignments if a.is_companion}
    if not companions:
        return Openable(tuple(assignments), settings)
    openers = tuple(_find_openers(assignments, settings, by_default=by_default))
    out: dict[str, str] = {}
    for address, companion in companions.items():
        for opener in openers:
            if address is None or not _shares_group(opener.host_address, address, facts):
                continue
            why = _why_not(address, opener, facts, settings)
            if why is not None:
                out[companion.alias] = f"{address} comes along with {opener.alias}, and is {why}"
                break
    if not out:
        return Openable(tuple(assignments), settings)
    return Openable(
        tuple(a for a in assignments if a.alias not in out),
        _without(settings, [a for a in assignments if a.alias in out]),
        tuple(out.values()),
    )


@dataclass(frozen=True, slots=True)
class _Opener:
    """A function that is no companion, and how it is opened.

    Attributes:
        by_iommufd: Not by its group.
        alone: Otherwise than its companions: its hostdev says so, and they have none yet.
        asks_alone: Only the configuration asks for iommufd, and a device plugin gave the function.
    """

    host_address: PciAddress
    alias: str
    by_iommufd: bool
    alone: bool
    asks_alone: bool


def _find_openers(
    assignments: Sequence[Assignment], settings: Settings, *, by_default: bool
) -> Iterator[_Opener]:
    asked = {name: o for name, o in settings.devices.items() if o.driver_iommufd is not None}
    options = find_named(asked, assignments, "devices") if asked else {}
    for assignment in assignments:
        address = assignment.host_address
        if assignment.is_companion or address is None:
            continue
        # What the configuration asks for, companions get too (``options``).
        own = None if assignment.present is None else assignment.present.iommufd
        option = options.get(assignment.alias)
        told = own if option is None else option[1].driver_iommufd
        by_iommufd = by_default if told is None else told == "yes"
        yield _Opener(
            address,
            assignment.alias,
            by_iommufd,
            alone=option is None and by_iommufd != by_default,
            asks_alone=option is not None and not by_default and not assignment.is_claimed,
        )


def _shares_group(one: PciAddress | None, other: PciAddress | None, facts: HostFacts) -> bool:
    groups = [
        None if address is None or address not in facts.functions
        else facts.functions[address].iommu_group
        for address in (one, other)
    ]  # fmt: skip
    return groups[0] is not None and groups[0] == groups[1]


def _why_not(
    address: PciAddress, opener: _Opener, facts: HostFacts, settings: Settings
) -> str | None:
    """Why a companion is not attached; None where it is."""
    if opener.alone:
        how = "by iommufd" if opener.by_iommufd else "by its IOMMU group"
        return (
            f"not attached: {opener.alias} is opened {how}, otherwise than the domain says, and "
            "the kernel does not mix the two ways in one group; write "
            f"devices.{opener.alias}.driver.iommufd, which is for both"
        )
    if not opener.by_iommufd:
        return None
    has_nodes = facts.functions[opener.host_address].vfio_device is not None
    if has_nodes and facts.functions[address].vfio_device is None:
        return "not attached: iommufd opens it through a device node, and the node has none for it"
    if opener.asks_alone or settings.companions == "always":
        return None
    return (
        "not attached: iommufd opens it through a device node of its own, which the pod may not "
        "have; write companions: always if the device plugin is launcher-hook's or NVIDIA's, which "
        "give the nodes of the whole IOMMU group"
    )


def _without(settings: Settings, out: Collection[Assignment]) -> Settings:
    """The settings without those of devices that are left out: they keep no VM from starting."""
    names = {name.lower() for assignment in out for name in list_names(assignment)}
    return replace(
        settings,
        slots={name: at for name, at in settings.slots.items() if name.lower() not in names},
        devices={name: o for name, o in settings.devices.items() if name.lower() not in names},
    )
