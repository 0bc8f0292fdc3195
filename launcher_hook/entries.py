"""Which hostdev is which entry's, and which device somebody else tells of an entry. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from launcher_hook.env import find_allocations
from launcher_hook.errors import InputError
from launcher_hook.model import (
    Allocation,
    DeviceRequest,
    EntryDevice,
    HostSource,
    PresentHostdev,
)

_NUMBER_OF_ALIAS = re.compile(r"-[0-9]+$")
NOT_IN_ALIAS = re.compile(r"[^A-Za-z0-9_-]")
"""What libvirt does not keep in an alias of a user (src/conf/domain_conf.c: USER_ALIAS_CHARS)."""


def find_devices(
    requests: Sequence[DeviceRequest],
    hostdevs: Mapping[str, PresentHostdev],
    allocations: Mapping[str, Allocation],
    devices: Mapping[str, EntryDevice],
    taken: Collection[HostSource],
) -> dict[str, HostSource]:
    """Find the devices of requests without a hostdev that somebody tells, by the request's path.

    Args:
        requests: In the VMI's order.
        hostdevs: Those of requests, by path.
        allocations: By variable.
        devices: What is told, by path.
        taken: What others have: hostdevs of requests, interfaces, disks.

    Raises:
        InputError: The user names a device that cannot be; or a device that is needed cannot be
            told, or is told of two.
    """
    known: dict[str, HostSource] = {}
    for request in requests:
        device = devices.get(request.path)
        if device is None:
            continue
        where = f"{request.path} ({request.name!r})"
        if request.path in hostdevs:
            there = hostdevs[request.path].source
            if device.is_demand and device.source != there:
                raise InputError(
                    device.origin,
                    f"the domain has {there} for {where}, as the launcher wrote it",
                    "leave the option out, or the hostdev",
                )
            continue
        if device.source is None:
            if device.fault is not None:
                raise device.fault
            continue
        allocated = find_allocations(request.resource, allocations) if request.resource else []
        if allocated and all(device.source not in a.sources for a in allocated):
            raise InputError(
                device.origin,
                f"{allocated[0].variable}, which {where} is to have a device of, has no "
                f"{device.source}",
                "name one that it has, or leave one of the two out",
            )
        other = next((path for path, source in known.items() if source == device.source), None)
        if other is not None or device.source in taken:
            raise InputError(
                device.origin,
                f"{device.source} is the device of {other or 'another part of the domain'} too, "
                f"and would be that of {where}",
                "name each device once",
            )
        known[request.path] = device.source
    return known


def name_contradictions(
    requests: Sequence[DeviceRequest],
    present: Sequence[PresentHostdev],
    devices: Mapping[str, EntryDevice],
) -> Iterator[str]:
    """Say where the domain, which counts, has another device for a request than somebody tells."""
    if not devices:  # as in every call of a hook
        return
    for path, hostdev in find_hostdevs(requests, present, devices).items():
        device = devices.get(path)
        if device is not None and device.source not in (None, hostdev.source):
            yield (
                f"{path} has {hostdev.source}, as the launcher wrote it, and {device.source} by "
                f"{device.origin}"
            )


def find_hostdevs(
    requests: Sequence[DeviceRequest],
    present: Sequence[PresentHostdev],
    devices: Mapping[str, EntryDevice],
) -> dict[str, PresentHostdev]:
    """Find the hostdev that the launcher wrote for a request, by the request's path."""
    free = {hostdev.alias: hostdev for hostdev in present if hostdev.alias}
    found = {}
    for request in requests:
        hostdev = free.pop(f"ua-{request.launcher_alias}", None)
        if hostdev is not None:
            found[request.path] = hostdev
    left = [
        request
        for request in requests
        if request.path not in found and NOT_IN_ALIAS.search(request.name)
    ]
    # The alias that we gave in an earlier pass instead of one that libvirt drops.
    given: dict[str, list[str]] = {}
    for alias in sorted(free) if left else ():
        for base in {alias, _NUMBER_OF_ALIAS.sub("", alias)}:
            given.setdefault(base, []).append(alias)
    for request in left:
        clean = NOT_IN_ALIAS.sub("-", f"ua-{request.launcher_alias}")
        one = next((alias for alias in given.get(clean, ()) if alias in free), None)
        if one is not None:
            found[request.path] = free.pop(one)
    # libvirt has dropped it: passes 2 and 3 of a hook that came late. The launcher writes the
    # hostdevs of hostDevices first, and of either list those of claims last (kubevirt
    # pkg/virt-launcher/virtwrap: generateConverterContext, NewHostDeviceDomainConfigurator).
    nameless = [hostdev for hostdev in present if hostdev.alias is None]
    by_source = {hostdev.source: hostdev for hostdev in nameless}
    for request in left:
        device = devices.get(request.path)
        if request.path not in found and device is not None and device.source in by_source:
            found[request.path] = by_source.pop(device.source)
    nameless = [hostdev for hostdev in nameless if hostdev.source in by_source]
    left = [request for request in left if request.path not in found]
    left.sort(key=lambda request: (request.kind == "gpu", request.resource is None))
    if len(nameless) == len(left):
        found.update(zip((request.path for request in left), nameless, strict=True))
    return found
