"""Which host device backs which request of the VMI. Pure.

The launcher goes through ``gpus[]``, and apart from that through ``hostDevices[]``, and takes for
each entry the next address of its resource's variable. An address taken is gone from every other
variable, but for this list only: both lists take the same address first where one resource is in
both, and libvirt refuses that domain (kubevirt 1.9.0 pkg/virt-launcher/virtwrap/device/hostdevice,
addresspool.go and hostdev.go; run in tests/interop/launcher/pools_test.go). What the launcher has
decided stands in the domain as a ``<hostdev>`` under the entry's alias, and we keep to it; we
decide only what it has not. The device of a resource claim is never in a variable: somebody else
tells it, if not the domain (``entries``).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from launcher_hook.entries import NOT_IN_ALIAS, find_devices, find_hostdevs
from launcher_hook.env import PCI_PREFIX, find_allocations, variable_of
from launcher_hook.errors import InputError, PlanError, shorten
from launcher_hook.model import (
    Allocation,
    Assignment,
    DeviceRequest,
    EntryDevice,
    GuestScreen,
    HostSource,
    PresentHostdev,
    source_order,
)
from launcher_hook.pci import PciAddress

# libvirt src/conf/domain_conf.c: USER_ALIAS_PREFIX, USER_ALIAS_CHARS. It drops any other alias
# without a word, and virt-launcher then meets a hostdev without alias and crashes.
_USER_ALIAS = re.compile(r"ua-[A-Za-z0-9_-]+")

# kubevirt pkg/network/deviceinfo: SRIOVAliasPrefix
_SRIOV_ALIAS_PREFIX = "ua-sriov-"
# pkg/virt-launcher/virtwrap/device/hostdevice/dra: AliasPrefix, DRAHostDeviceAliasPrefix
_CLAIM_ALIAS_PREFIX = "ua-dra-"
# As the launcher writes it for a hostDevices[] entry whose resource is a USB device.
_USB_ALIAS_PREFIX = "ua-usb-host-"

# Of variables that no entry uses: named in a message, and looked at for the one that was meant.
_MOST_NAMED, _MOST_COMPARED = 3, 64

_SCREEN = GuestScreen()


def is_user_alias(alias: str) -> bool:
    """Whether libvirt keeps an alias that a user wrote."""
    return _USER_ALIAS.fullmatch(alias) is not None


class AliasBook:
    """Gives aliases that libvirt keeps and that no other device of the domain has.

    Args:
        taken: The aliases that devices of the domain have, also those of hostdevs of ours.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}
        self._reserved: frozenset[str] = frozenset()

    def reserve(self, aliases: Iterable[str]) -> None:
        """Keep aliases for those that want them as they are, whoever asks first."""
        self._reserved = frozenset(aliases)

    def give(self, wanted: str) -> str:
        """Give ``ua-`` + wanted, characters that libvirt refuses replaced, a number on a clash."""
        alias = base = "ua-" + NOT_IN_ALIAS.sub("-", wanted)
        number = self._numbers.get(base, 2)
        while alias in self._taken or (alias in self._reserved and alias != f"ua-{wanted}"):
            alias = f"{base}-{number}"
            number += 1
        self._numbers[base] = number
        self._taken.add(alias)
        return alias

    def give_for(self, source: HostSource) -> str:
        """Give an alias to a device that only its source names."""
        return self.give(f"{'pci' if isinstance(source, PciAddress) else 'mdev'}-{source}")

    def keep(self, present: PresentHostdev, otherwise: str | None = None) -> str:
        """Give a hostdev the alias that it has, if libvirt would keep it, or a new one."""
        if present.alias is not None and is_user_alias(present.alias):
            return present.alias
        if present.alias is not None:
            return self.give(present.alias.removeprefix("ua-"))
        return self.give(otherwise) if otherwise is not None else self.give_for(present.source)


def assign_devices(
    requests: Sequence[DeviceRequest],
    allocations: Mapping[str, Allocation],
    present: Sequence[PresentHostdev],
    aliases: AliasBook,
    usb: Sequence[str | None] = (),
    attached: Collection[HostSource] = (),
    screen: GuestScreen = _SCREEN,
    devices: Mapping[str, EntryDevice] | None = None,
) -> tuple[Assignment, ...]:
    """Back every request with a host device, and account for every device there is.

    Args:
        requests: In the VMI's order.
        allocations: By variable; empty in a stock sidecar, where the hostdevs that are present
            are the assignment.
        present: The domain's PCI and mdev hostdevs, in its order; each is adopted, also those
            that no request names (SR-IOV interfaces).
        aliases: Knows the aliases of all devices.
        usb: Aliases of the USB hostdevs (None for one without); a request can be for one of them.
        attached: Host functions that other devices have, such as ``<interface type='hostdev'>``.
        screen: Whether a vGPU's screen can be shown.
        devices: What somebody tells of the requests' devices, by the request's path.

    Returns:
        The requests' devices in their order, then other hostdevs of the domain (by the launcher's
        alias as if a request named them, then in the domain's order), then devices that were
        allocated and that no request claims, by source.

    Raises:
        InputError: A request has neither hostdev nor variable, or its variable has no address
            left; or two hostdevs have one source, or one alias; or an entry of each list takes
            the same device; or what somebody tells cannot be.
        PlanError: A request asks for a screen, and the guest has no graphics to show it.
    """
    devices = devices or {}
    by_source = _by_source(present)
    _check_usb(requests, usb, devices)
    requests = [r for r in requests if not _is_usb(r, usb)]
    # In the next pass an entry is found by its alias: `b.1` must not have that of `b-1`.
    aliases.reserve(f"ua-{request.launcher_alias}" for request in requests)
    claims = find_hostdevs(requests, present, devices)
    owners = {claims[r.path].source: r for r in requests if r.path in claims}
    told = find_devices(requests, claims, allocations, devices, {*attached, *owners})
    dealt: dict[str, set[HostSource]] = {
        kind: {
            *attached,
            *told.values(),
            *(source for source, owner in owners.items() if owner.kind == kind),
        }
        for kind in ("gpu", "hostdevice")
    }
    owners.update({told[r.path]: r for r in requests if r.path in told})
    nameless_usb = list(usb).count(None)
    # virt-launcher gives the first vGPU a screen where the VMI says nothing of any: a second would
    # be too many, QEMU has one ramfb (kubevirt device/hostdevice, CreateMDEVHostDevices).
    screen_is_due = all(r.kind != "gpu" or r.display is None for r in requests)
    assignments = []
    for request in requests:
        claim = claims.get(request.path)
        variable = ""
        if request.path in told:
            source, variable = told[request.path], devices[request.path].origin
            claim = by_source.get(source)
        elif claim is None and nameless_usb and _may_be_usb(request, allocations):
            nameless_usb -= 1
            continue
        elif claim is None:
            source, variable = _next_source(request, requests, allocations, dealt[request.kind])
            _check_owner(request, source, variable, owners.setdefault(source, request))
            dealt[request.kind].add(source)
            claim = by_source.get(source)
        else:
            source = claim.source
        if isinstance(source, str):
            _check_display(request, screen)
        assignment = _assignment(request, source, claim, variable, aliases)
        if screen_is_due and request.kind == "gpu" and isinstance(source, str):
            screen_is_due = False
            assignment = _with_screen(assignment, screen)
        assignments.append(assignment)
    taken = {*attached, *owners}
    for hostdev in sorted(present, key=_launcher_order):
        if hostdev.source not in taken:
            taken.add(hostdev.source)
            assignments.append(_adopted(hostdev, aliases))
    assignments.extend(_unclaimed(allocations, taken, aliases))
    return tuple(assignments)


def _by_source(present: Sequence[PresentHostdev]) -> dict[HostSource, PresentHostdev]:
    by_source: dict[HostSource, PresentHostdev] = {}
    by_alias: dict[str, PresentHostdev] = {}
    for hostdev in present:
        first = by_source.setdefault(hostdev.source, hostdev)
        if first is not hostdev:
            lists = {_list_by_alias(one.alias) for one in (first, hostdev)}
            raise InputError(
                f"hostdev on line {hostdev.line}",
                f"'{hostdev.source}' is the source of the hostdev on line {first.line} already",
                f"{_ONE_LIST} (KubeVirt deals each list out of the same variable by itself)"
                if lists == {"gpus", "hostDevices"}
                else "take one of the two out: libvirt gives a device to a guest once",
            )
        if hostdev.alias is None:
            continue
        first = by_alias.setdefault(hostdev.alias, hostdev)
        if first is not hostdev:
            alias = shorten(hostdev.alias)
            raise InputError(
                f"hostdev on line {hostdev.line}",
                f"{alias} is the alias of the hostdev on line {first.line} already",
                "give each its own: libvirt refuses two devices of one alias",
            )
    return by_source


_ONE_LIST = (
    "ask for both devices in one of the lists gpus and hostDevices, or have the device plugin give "
    "the other device a resource of its own"
)


def _list_by_alias(alias: str | None) -> str | None:
    """The VMI's list that a launcher's alias is of."""
    name = (alias or "").removeprefix("ua-").removeprefix("dra-")
    if name.startswith("gpu-"):
        return "gpus"
    return "hostDevices" if name.startswith("hostdevice-") else None


def _launcher_order(hostdev: PresentHostdev) -> int:
    """Sort key of hostdevs that no request names: as the lists of a VMI that is not given."""
    lists = ("gpus", "hostDevices", None)
    return lists.index(_list_by_alias(hostdev.alias))


def _check_owner(
    request: DeviceRequest, source: HostSource, variable: str, owner: DeviceRequest
) -> None:
    """Refuse a device that an entry of the other list takes: no VM starts with it twice."""
    if owner is not request:
        raise InputError(
            f"{request.path} ({request.name!r})",
            f"its device would be {source}, the next of {variable}, and that is the device of "
            f"{owner.path} ({owner.name!r}): KubeVirt deals each list out by itself",
            _ONE_LIST,
        )


def _is_usb(request: DeviceRequest, usb: Sequence[str | None]) -> bool:
    """Whether a USB hostdev has this request's name; a GPU may have the same one."""
    return request.kind == "hostdevice" and f"{_USB_ALIAS_PREFIX}{request.name}" in usb


def _check_usb(
    requests: Sequence[DeviceRequest],
    usb: Sequence[str | None],
    devices: Mapping[str, EntryDevice],
) -> None:
    """Refuse a device that the user names for a request that has a USB device."""
    for request in requests:
        device = devices.get(request.path)
        if device is not None and device.is_demand and _is_usb(request, usb):
            raise InputError(
                device.origin,
                f"the domain has a USB device for {request.path} ({request.name!r})",
                "leave the option out, or the hostdev",
            )


def _may_be_usb(request: DeviceRequest, allocations: Mapping[str, Allocation]) -> bool:
    """Whether a USB hostdev without alias can be this request's: libvirt has dropped the alias."""
    return (
        request.kind == "hostdevice"
        and NOT_IN_ALIAS.search(request.name) is not None
        and not (request.resource and find_allocations(request.resource, allocations))
    )


def _next_source(
    request: DeviceRequest,
    requests: Sequence[DeviceRequest],
    allocations: Mapping[str, Allocation],
    taken: Collection[HostSource],
) -> tuple[HostSource, str]:
    where = f"{request.path} ({request.name!r})"
    alias = f"ua-{request.launcher_alias}"
    if request.resource is None:
        raise InputError(
            where,
            f"its device is that of a resource claim, and the domain has no hostdev {alias!r}",
            "give the domain that the launcher wrote for this VMI, or the device: --device "
            f"{request.name}=0000:3b:00.0, or the pod's metadata files by --dra-metadata",
        )
    allocated = find_allocations(request.resource, allocations)
    filled = [allocation.variable for allocation in allocated if allocation.sources]
    if len(filled) > 1:
        raise InputError(
            where,
            f"{' and '.join(filled)} both have devices, and KubeVirt gives the entry one of each",
            f"give functions and mediated devices resources of their own, not {request.resource!r}",
        )
    for allocation in allocated:
        for source in allocation.sources:
            if source not in taken:
                return source, allocation.variable
    if allocated:
        count = sum(len(allocation.sources) for allocation in allocated)
        raise InputError(
            where,
            f"{allocated[0].variable} has {count} device(s), and none is left for it",
            f"have the pod allocated one {request.resource!r} more, or drop the entry",
        )
    variable = variable_of(request.resource)
    other = ""
    fix = f"have {request.resource!r} allocated to the pod, or give --env {variable}=0000:3b:00.0"
    unused = _unused(requests, allocations)
    if unused:
        other = f" ({', '.join(unused[:_MOST_NAMED])} is, and no entry uses it)"
        near = _nearest(variable, unused)
        if near is not None:
            fix = f"give {variable} instead of {near}, or write the deviceName that {near} is of"
    raise InputError(
        where, f"{variable} is not set{other}, and the domain has no hostdev {alias!r}", fix
    )


def _unused(
    requests: Sequence[DeviceRequest], allocations: Mapping[str, Allocation]
) -> Sequence[str]:
    """The variables that are of no request, by name."""
    used = {
        allocation.variable
        for request in requests
        for allocation in (
            find_allocations(request.resource, allocations) if request.resource else ()
        )
    }
    return [name for name in sorted(allocations) if name not in used]


def _nearest(variable: str, names: Sequence[str]) -> str | None:
    """The name that was probably given instead."""
    from difflib import get_close_matches

    likely = {
        name.partition(PCI_PREFIX)[2]: name  # of MDEV_PREFIX that is the end
        for name in names[:_MOST_COMPARED]
        if len(name) <= 2 * len(variable)
    }
    near = get_close_matches(variable.removeprefix(PCI_PREFIX), likely, n=1)
    return likely[near[0]] if near else None


def _assignment(
    request: DeviceRequest,
    source: HostSource,
    present: PresentHostdev | None,
    variable: str,
    aliases: AliasBook,
) -> Assignment:
    wanted = request.launcher_alias
    alias = aliases.give(wanted) if present is None else aliases.keep(present, wanted)
    display, ramfb = _asked_display(request, present)
    return Assignment(
        source=source,
        alias=alias,
        why=f"{request.path}, {variable or 'by the launcher'}",
        name=request.name,
        present=present,
        own_slot=isinstance(source, str),
        keep_driver=_is_vgpu_function(present),
        is_claimed=request.resource is None,
        display=display,
        ramfb=ramfb,
    )


def _asked_display(
    request: DeviceRequest, present: PresentHostdev | None
) -> tuple[Literal["on", "off"] | None, Literal["on", "off"] | None]:
    """Screen and boot framebuffer that the VMI says, where the launcher has not written it."""
    if request.kind != "gpu" or present is not None or request.display is None:
        return None, None
    if not request.display:
        return "off", None
    return "on", "off" if request.ramfb is False else "on"


def _check_display(request: DeviceRequest, screen: GuestScreen) -> None:
    if request.kind == "gpu" and request.display and not screen.has_graphics:
        raise PlanError(
            f"{request.path} ({request.name!r})",
            "virtualGPUOptions.display asks for a screen, and the VM has no graphics device to "
            "show it",
            "let it have one (autoattachGraphicsDevice), or write display: {enabled: false}",
        )


def _with_screen(assignment: Assignment, screen: GuestScreen) -> Assignment:
    """Give the first vGPU the screen of which the VMI says nothing.

    virt-launcher writes it without a look at the graphics, and libvirt then refuses the domain.
    """
    present = assignment.present
    if not screen.has_graphics:
        if present is None or present.display != "on":
            return assignment
        why = f"{assignment.why}, without a screen: the VM has no graphics device"
        return replace(assignment, display="off", ramfb="off", why=why)
    if present is not None:
        return assignment
    return replace(assignment, display="on", ramfb="off" if screen.has_ramfb else "on")


def _is_vgpu_function(present: PresentHostdev | None) -> bool:
    """Whether the launcher took a function for a vGPU's: only then it has a display."""
    return present is not None and present.display is not None


def _adopted(hostdev: PresentHostdev, aliases: AliasBook) -> Assignment:
    alias = aliases.keep(hostdev)
    sriov = alias.startswith(_SRIOV_ALIAS_PREFIX)
    return Assignment(
        source=hostdev.source,
        alias=alias,
        why="SR-IOV interface, by the launcher" if sriov else "in the domain already",
        present=hostdev,
        own_slot=sriov or isinstance(hostdev.source, str),
        keep_driver=_is_vgpu_function(hostdev),
        is_claimed=alias.startswith(_CLAIM_ALIAS_PREFIX),
        unplugged_by_launcher=sriov,
    )


def _unclaimed(
    allocations: Mapping[str, Allocation], taken: set[HostSource], aliases: AliasBook
) -> Iterator[Assignment]:
    variables: dict[HostSource, str] = {}
    for name in sorted(allocations):
        for source in allocations[name].sources:
            if source not in taken:
                variables.setdefault(source, name)
    for source in sorted(variables, key=source_order):
        yield Assignment(
            source=source,
            alias=aliases.give_for(source),
            why=f"{variables[source]}, claimed by no entry of the VMI",
            own_slot=isinstance(source, str),
        )
