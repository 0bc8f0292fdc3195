"""From a node's facts to what is offered: a pure function, with a reason for all that is not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from launcher_hook.deviceplugin.names import check_resource, name_device, name_mdev_type
from launcher_hook.deviceplugin.selection import MdevSelector, PciSelector, Selection
from launcher_hook.model import HostFunction, HostSource, MediatedDevice, source_order
from launcher_hook.pci import PciAddress
from launcher_hook.vfio import has_own_vfio_device, is_bound_to_vfio, is_bridge

NameOf = Callable[[int, int], str | None]
"""What pci.ids calls a device, by vendor and device id."""


@dataclass(frozen=True, slots=True)
class Device:
    """One id that kubelet may give to a container.

    Attributes:
        function: The facts at discovery; of a mediated device those of its parent, or None.
        members: The PCI functions of its IOMMU group but bridges, itself included, in order.
        trouble: Why it is unhealthy; None if it is healthy.
    """

    source: HostSource
    resource: str
    iommu_group: int
    function: HostFunction | None
    members: tuple[PciAddress, ...] = ()
    trouble: str | None = None

    @property
    def id(self) -> str:
        """Kubelet's string: the BDF or the UUID."""
        return str(self.source)

    @property
    def is_mediated(self) -> bool:
        """Whether it is a mediated device."""
        return isinstance(self.source, str)

    @property
    def numa_node(self) -> int | None:
        """Its NUMA node; None where the node says none."""
        return None if self.function is None else self.function.numa_node


@dataclass(frozen=True, slots=True)
class Unoffered:
    """A function or mediated device that is not offered.

    Attributes:
        selected: Whether a selector of ours wants it, so that somebody may miss it.
    """

    source: HostSource
    why: str
    selected: bool
    function: HostFunction | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a node has for kubelet.

    Attributes:
        resources: Devices by resource, both in order.
        unoffered: In order.
        warnings: For the log.
    """

    resources: Mapping[str, tuple[Device, ...]] = field(default_factory=dict)
    unoffered: tuple[Unoffered, ...] = ()
    warnings: tuple[str, ...] = ()

    def devices(self) -> Iterator[Device]:
        """Every device."""
        for devices in self.resources.values():
            yield from devices


_UNSELECTED = "no selector matches it"
_NOT_BY_DEFAULT = (
    "not NVIDIA's display class, which is the default; --vendor, --class or --config say otherwise"
)

_UNREADABLE = "it cannot be read now: see this plugin's log and the kernel's; reset or replace it"

_AnySelector = TypeVar("_AnySelector", PciSelector, MdevSelector)


class _RefusedError(Exception):
    """Why something is not offered."""


def select_devices(
    functions: Sequence[HostFunction],
    mediated: Sequence[tuple[MediatedDevice, HostFunction | None]],
    selection: Selection,
    name_of: NameOf,
    previous: Inventory | None = None,
) -> Inventory:
    """Decide what is offered.

    Args:
        functions: All that selectors may match, and the others of their IOMMU groups, in order.
        mediated: Mediated devices with their parent function.
        selection: What to offer.
        name_of: Looks names up in pci.ids.
        previous: What was offered before: a function of it that is bound to no driver now, or
            that cannot be read, stays and is unhealthy; and one stands for its IOMMU group as long
            as it can be offered, since a VM may have it.
    """
    return _Selecting(functions, selection, name_of, previous or Inventory()).run(mediated)


class _Selecting:
    def __init__(
        self,
        functions: Sequence[HostFunction],
        selection: Selection,
        name_of: NameOf,
        previous: Inventory,
    ) -> None:
        self._functions = functions
        self._selection = selection
        self._name_of = name_of
        self._unselected = _NOT_BY_DEFAULT if selection.is_default else _UNSELECTED
        self._before = {d.source: d for d in previous.devices()}
        self._names: dict[tuple[int | None, int | None], str] = {}
        self._groups: dict[int, Device] = {}
        self._members: dict[int, list[PciAddress]] = {}
        self._devices: list[Device] = []
        self._unoffered: list[Unoffered] = []
        self._warnings: list[str] = []
        for function in functions:
            if function.iommu_group is not None and not is_bridge(function):
                self._members.setdefault(function.iommu_group, []).append(function.address)

    def run(self, mediated: Sequence[tuple[MediatedDevice, HostFunction | None]]) -> Inventory:
        functions = self._functions
        if self._before:  # those first that stand for their group already
            functions = sorted(functions, key=lambda function: function.address not in self._before)
        for function in functions:
            before = self._before.get(function.address)
            if before is not None and _is_unreadable(function):
                self._offer(replace(before, trouble=_UNREADABLE), ())
                continue
            matching = [s for s in self._selection.pci if s.matches(function)]
            try:
                device = self._function_device(function, matching)
            except _RefusedError as refused:
                self._refuse(function.address, matching, str(refused), function)
            else:
                self._offer(device, matching)
        for mdev, parent in mediated:
            wanting = [s for s in self._selection.mdev if s.matches(mdev, parent)]
            try:
                device = self._mediated_device(mdev, parent, wanting)
            except _RefusedError as refused:
                self._refuse(mdev.uuid, wanting, str(refused), parent)
            else:
                self._offer(device, wanting)
        by_resource: dict[str, list[Device]] = {}
        if self._before:
            self._devices.sort(key=lambda device: source_order(device.source))
            self._unoffered.sort(key=lambda unoffered: source_order(unoffered.source))
        for device in self._devices:
            by_resource.setdefault(device.resource, []).append(device)
        return Inventory(
            {resource: tuple(by_resource[resource]) for resource in sorted(by_resource)},
            tuple(map(self._explain, self._unoffered)),
            tuple(self._warnings),
        )

    def _explain(self, unoffered: Unoffered) -> Unoffered:
        """A function that nobody selects may still go with one that is offered."""
        function = unoffered.function
        if unoffered.why != self._unselected or function is None or function.iommu_group is None:
            return unoffered
        device = self._groups.get(function.iommu_group)
        if device is None or is_bridge(function):
            return unoffered
        return replace(
            unoffered,
            why=f"it goes with {device.id}, in whose IOMMU group it is",
        )

    def _function_device(self, function: HostFunction, matching: list[PciSelector]) -> Device:
        selector = _first(matching, self._unmatched(function))
        _check_function(function, selector, function.address in self._before)
        group = function.iommu_group
        if group is None:
            raise _RefusedError(
                "in no IOMMU group; turn the IOMMU on in firmware and kernel (intel_iommu=on)"
            )
        resource = selector.resource or self._name(function)
        first = self._groups.get(group)
        if first is not None and self._selection.ids_per_group == "one":
            raise _RefusedError(
                f"IOMMU group {group} is offered as {first.id} ({first.resource}), and this "
                "function comes along with it"
            )
        return Device(
            function.address, resource, group, function, tuple(self._members.get(group, ()))
        )

    def _unmatched(self, function: HostFunction) -> str:
        if function.vendor_id is None:
            return "its vendor cannot be read"
        if function.class_code is None:
            return "no selector matches it, and its class cannot be read"
        return self._unselected

    def _mediated_device(
        self, mdev: MediatedDevice, parent: HostFunction | None, matching: list[MdevSelector]
    ) -> Device:
        selector = _first(matching, self._unselected)
        if mdev.iommu_group is None:
            raise _RefusedError("in no IOMMU group: its driver has not registered it with vfio")
        resource = selector.resource or self._mdev_name(mdev, parent)
        return Device(mdev.uuid, resource, mdev.iommu_group, parent)

    def _offer(self, device: Device, matching: Sequence[PciSelector | MdevSelector]) -> None:
        self._devices.append(device)
        if not device.is_mediated:
            self._groups.setdefault(device.iommu_group, device)
        others = [s for s in matching[1:] if (s.resource, s.external) != (device.resource, True)]
        if others:
            self._warnings.append(
                f"{device.id} is matched by {matching[0].where} and by "
                f"{', '.join(s.where for s in others)}; the first one counts"
            )

    def _refuse(
        self,
        source: HostSource,
        matching: Sequence[PciSelector | MdevSelector],
        why: str,
        function: HostFunction | None,
    ) -> None:
        wanted = matching[0].external if matching else _is_unreadable(function)
        self._unoffered.append(Unoffered(source, why, wanted, function))

    def _name(self, function: HostFunction) -> str:
        """NVIDIA's name for a function; by number for one that pci.ids does not have."""
        vendor, device = function.vendor_id, function.device_id
        if vendor is None or device is None:
            raise _RefusedError("its vendor or device id cannot be read")
        resource = self._names.get((vendor, device))
        if resource is None:
            listed = self._name_of(vendor, device)
            name = name_device(listed) if listed else ""
            resource = f"{self._domain(vendor)}/{name or f'{device:04x}'}"
            if not name:
                self._warnings.append(
                    f"pci.ids has no name for {vendor:04x}:{device:04x}, so it is offered as "
                    f"{resource}; give a pci.ids that has one, or a selector with a resourceName"
                )
            self._names[(vendor, device)] = _checked(resource)
        return resource

    def _mdev_name(self, mdev: MediatedDevice, parent: HostFunction | None) -> str:
        if mdev.type_name is None:
            raise _RefusedError("its type has no name")
        vendor = None if parent is None else parent.vendor_id
        return _checked(f"{self._domain(vendor)}/{name_mdev_type(mdev.type_name)}")

    def _domain(self, vendor: int | None) -> str:
        domain = None if vendor is None else self._selection.domains.get(vendor)
        if domain is None:
            raise _RefusedError(
                "no domain is known for its vendor; give its selector a resourceName"
            )
        return domain


def _first(matching: Sequence[_AnySelector], unmatched: str) -> _AnySelector:
    if not matching:
        raise _RefusedError(unmatched)
    if not matching[0].external:
        raise _RefusedError(
            f"{matching[0].where} has no 'externalResourceProvider: true', so KubeVirt's own "
            "virt-handler offers it"
        )
    return matching[0]


def _is_unreadable(function: HostFunction | None) -> bool:
    """Whether somebody may miss a function only because the node does not say what it is."""
    facts = () if function is None else (function.vendor_id, function.class_code, function.driver)
    return None in facts


def _check_function(function: HostFunction, selector: PciSelector, was_offered: bool) -> None:
    if is_bridge(function):
        raise _RefusedError("it is a bridge, which no VM can be given")
    if function.driver is None:
        raise _RefusedError("its driver cannot be read")
    if has_own_vfio_device(function) and selector.driver is None:
        raise _RefusedError(
            f"its driver {function.driver!r} provides the vfio device itself, as for a vGPU; "
            f"select it with 'driver: {function.driver}'"
        )
    if not is_bound_to_vfio(function) and not (was_offered and not function.driver):
        driver = f"bound to {function.driver!r}" if function.driver else "bound to no driver"
        raise _RefusedError(f"{driver}; bind it to vfio-pci")


def _checked(resource: str) -> str:
    try:
        check_resource(resource)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise _RefusedError(f"its name {what}; {fix} as resourceName of a selector") from None
    return resource
