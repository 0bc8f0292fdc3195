"""Which host device backs which request of the VMI. Pure.

The launcher goes through ``gpus[]`` and then ``hostDevices[]`` and takes for each entry the next
address of its resource's variable; an address taken is gone from every other variable (kubevirt
pkg/virt-launcher/virtwrap/device/hostdevice). What it has decided stands in the domain as a
``<hostdev>`` under the entry's alias, and we keep to it; we decide only what it has not.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from launcher_hook.env import MDEV_PREFIX, PCI_PREFIX, variable_of
from launcher_hook.errors import InputError
from launcher_hook.model import (
    Allocation,
    Assignment,
    DeviceRequest,
    HostSource,
    PresentHostdev,
    source_order,
)
from launcher_hook.pci import PciAddress

# libvirt src/conf/domain_conf.c: USER_ALIAS_PREFIX, USER_ALIAS_CHARS. It drops any other alias
# without a word, and virt-launcher then meets a hostdev without alias and crashes.
_USER_ALIAS = re.compile(r"ua-[A-Za-z0-9_-]+")
_NOT_IN_ALIAS = re.compile(r"[^A-Za-z0-9_-]")

# kubevirt pkg/network/deviceinfo: SRIOVAliasPrefix
_SRIOV_ALIAS_PREFIX = "ua-sriov-"
# As the launcher writes it for a hostDevices[] entry whose resource is a USB device.
_USB_ALIAS_PREFIX = "ua-usb-host-"


def is_user_alias(alias: str) -> bool:
    """Whether libvirt keeps an alias that a user wrote."""
    return _USER_ALIAS.fullmatch(alias) is not None


class AliasBook:
    """Gives aliases that libvirt keeps and that no other device of the domain has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def give(self, wanted: str) -> str:
        """Give ``ua-`` + wanted, characters that libvirt refuses replaced, a number on a clash."""
        alias = base = "ua-" + _NOT_IN_ALIAS.sub("-", wanted)
        number = 2
        while alias in self._taken:
            alias = f"{base}-{number}"
            number += 1
        self._taken.add(alias)
        return alias

    def give_for(self, source: HostSource) -> str:
        """Give an alias to a device that only its source names."""
        return self.give(f"{'pci' if isinstance(source, PciAddress) else 'mdev'}-{source}")

    def keep(self, present: PresentHostdev, otherwise: str | None = None) -> str:
        """Give a hostdev the alias that it has, if libvirt would keep it, or a new one."""
        if present.alias is not None and is_user_alias(present.alias):
            self._taken.add(present.alias)
            return present.alias
        if present.alias is not None:
            return self.give(present.alias.removeprefix("ua-"))
        return self.give(otherwise) if otherwise is not None else self.give_for(present.source)


def assign_devices(
    requests: Sequence[DeviceRequest],
    allocations: Mapping[str, Allocation],
    present: Sequence[PresentHostdev],
    aliases: AliasBook,
    others: Sequence[str | None] = (),
) -> tuple[Assignment, ...]:
    """Back every request with a host device, and account for every device there is.

    Args:
        requests: In the VMI's order.
        allocations: By variable; empty in a stock sidecar, where the hostdevs that are present
            are the assignment.
        present: The domain's PCI and mdev hostdevs, in its order; each is adopted, also those
            that no request names (SR-IOV interfaces).
        aliases: Knows the aliases of all devices that are not hostdevs of ours.
        others: Aliases of the hostdevs that are not ours; a request can be for one of them.

    Returns:
        The requests' devices in their order, then other hostdevs of the domain, then devices that
        were allocated and that no request claims, by source.

    Raises:
        InputError: A request has neither hostdev nor variable, or its variable has no address
            left; or two hostdevs have one source.
    """
    by_source = _by_source(present)
    requests = _not_usb(requests, others)
    claims = _claims(requests, present)
    taken = {claim.source for claim in claims.values()}
    assignments = []
    for request in requests:
        claim = claims.get(request.path)
        variable = ""
        if claim is None:
            source, variable = _next_source(request, allocations, taken)
            taken.add(source)
            claim = by_source.get(source)
        else:
            source = claim.source
        assignments.append(_assignment(request, source, claim, variable, aliases))
    for hostdev in present:
        if hostdev.source not in taken:
            taken.add(hostdev.source)
            assignments.append(_adopted(hostdev, aliases))
    assignments.extend(_unclaimed(allocations, taken, aliases))
    return tuple(assignments)


def _by_source(present: Sequence[PresentHostdev]) -> dict[HostSource, PresentHostdev]:
    by_source: dict[HostSource, PresentHostdev] = {}
    for hostdev in present:
        first = by_source.setdefault(hostdev.source, hostdev)
        if first is not hostdev:
            raise InputError(
                f"hostdev on line {hostdev.line}",
                f"'{hostdev.source}' is the source of the hostdev on line {first.line} already",
                "take one of the two out: libvirt gives a device to a guest once",
            )
    return by_source


def _not_usb(
    requests: Sequence[DeviceRequest], others: Sequence[str | None]
) -> list[DeviceRequest]:
    """Leave out the requests that a USB hostdev backs, also one whose alias libvirt has dropped."""
    nameless = others.count(None)
    left = []
    for request in requests:
        if f"{_USB_ALIAS_PREFIX}{request.name}" in others:
            continue
        if nameless and request.kind == "hostdevice" and _NOT_IN_ALIAS.search(request.name):
            nameless -= 1
            continue
        left.append(request)
    return left


def _claims(
    requests: Sequence[DeviceRequest], present: Sequence[PresentHostdev]
) -> dict[str, PresentHostdev]:
    """Find the hostdev that the launcher wrote for a request, by the request's path."""
    by_alias = {hostdev.alias: hostdev for hostdev in present if hostdev.alias}
    claims = {}
    for request in requests:
        raw = f"{request.kind}-{request.name}"
        claim = by_alias.get(f"ua-{raw}") or by_alias.get("ua-" + _NOT_IN_ALIAS.sub("-", raw))
        if claim is not None:
            claims[request.path] = claim
    # libvirt drops an alias made from a name with a dot, so that passes 2 and 3 arrive without
    # it. The launcher writes its hostdevs in the order of the requests.
    nameless = [hostdev for hostdev in present if hostdev.alias is None]
    dropped = [
        request
        for request in requests
        if request.path not in claims and _NOT_IN_ALIAS.search(request.name)
    ]
    if len(nameless) == len(dropped):
        claims.update(zip((request.path for request in dropped), nameless, strict=True))
    return claims


def _next_source(
    request: DeviceRequest, allocations: Mapping[str, Allocation], taken: Collection[HostSource]
) -> tuple[HostSource, str]:
    where = f"{request.path} ({request.name!r})"
    alias = f"ua-{request.kind}-{request.name}"
    if request.resource is None:
        raise InputError(
            where,
            f"it is a DRA claim, and the domain has no hostdev {alias!r}",
            "give the domain that the launcher wrote for this VMI",
        )
    names = [variable_of(request.resource, prefix) for prefix in (PCI_PREFIX, MDEV_PREFIX)]
    allocated = [allocations[name] for name in names if name in allocations]
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
    raise InputError(
        where,
        f"{names[0]} is not set, and the domain has no hostdev {alias!r}",
        f"have {request.resource!r} allocated to the pod, or give --env {names[0]}=0000:3b:00.0",
    )


def _assignment(
    request: DeviceRequest,
    source: HostSource,
    present: PresentHostdev | None,
    variable: str,
    aliases: AliasBook,
) -> Assignment:
    wanted = f"{request.kind}-{request.name}"
    alias = aliases.give(wanted) if present is None else aliases.keep(present, wanted)
    return Assignment(
        source=source,
        alias=alias,
        why=f"{request.path}, {variable or 'by the launcher'}",
        name=request.name,
        present=present,
        own_slot=isinstance(source, str),
        keep_driver=_is_vgpu_function(present),
        display=_default_display(request, request.display, present),
        ramfb=_default_display(request, request.ramfb, present),
    )


def _default_display(
    request: DeviceRequest, asked: bool | None, present: PresentHostdev | None
) -> Literal["on", "off"] | None:
    """What virt-launcher writes for a vGPU: on, unless the VMI says otherwise."""
    if request.kind != "gpu" or present is not None:
        return None
    if asked is None:
        return "on" if request.display is None else None
    return "on" if asked and request.display is not False else "off"


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
