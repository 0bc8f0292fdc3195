"""The devices that a user names for entries, by ``--device NAME=ADDRESS|UUID``. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher_hook.errors import InputError, shorten
from launcher_hook.mdev import parse_mdev_uuid
from launcher_hook.model import DeviceRequest, EntryDevice, HostSource
from launcher_hook.pci import PciAddress

OPTION = "--device"

MAX_NAMES = 8
"""Entries that one message names; a VM may have a thousand."""


@dataclass(frozen=True, slots=True)
class NamedDevice:
    """One option: the name of an entry, and its device."""

    name: str
    source: HostSource

    @property
    def origin(self) -> str:
        """The option as it was given, for messages."""
        return f"{OPTION} {self.name}={self.source}"


def parse_device(text: str) -> NamedDevice:
    """Read ``NAME=ADDRESS`` or ``NAME=UUID``; a name may have a ``=`` itself.

    Raises:
        InputError: It is neither.
    """
    name, equals, value = text.rpartition("=")
    where = f"{OPTION} {shorten(text)}"
    if not equals or not name:
        raise InputError(
            where, "it is not NAME=ADDRESS or NAME=UUID", f"write {OPTION} gpu0=0000:3b:00.0"
        )
    # Only an address has a colon.
    parse = PciAddress.parse if ":" in value else parse_mdev_uuid
    try:
        return NamedDevice(name, parse(value))
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise InputError(where, what, fix or f"write {OPTION} gpu0=0000:3b:00.0") from None


def name_devices(
    named: Iterable[NamedDevice],
    requests: Sequence[DeviceRequest],
    others: Mapping[str, EntryDevice],
) -> dict[str, EntryDevice]:
    """Find the entry of each, and lay them over what others tell.

    Args:
        named: By the user; a name is an entry's, or its alias where two entries have that name.
        requests: The VMI's entries.
        others: What others tell, by the entry's path.

    Returns:
        Both, by the entry's path.

    Raises:
        InputError: A name is that of no entry, or of two; an entry is named twice; or another one
            tells another device.
    """
    found: dict[str, EntryDevice] = {}
    for device in named:
        request = _find(device, requests)
        first = found.get(request.path)
        if first is not None:
            raise InputError(
                device.origin, f"{first.origin} is for the same entry", "leave one of them out"
            )
        other = others.get(request.path)
        if other is not None and other.source not in (None, device.source):
            raise InputError(
                device.origin,
                f"{other.origin} says that {request.path} has {other.source}",
                "leave one of them out",
            )
        found[request.path] = EntryDevice(device.source, device.origin, is_demand=True)
    return {**others, **found}


def _find(device: NamedDevice, requests: Sequence[DeviceRequest]) -> DeviceRequest:
    matches = [request for request in requests if request.name == device.name]
    if not matches:
        matches = [request for request in requests if device.name in _aliases(request)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(
            device.origin,
            f"{device.name!r} is the name of {' and of '.join(r.path for r in matches)}",
            f"write {' or '.join(request.launcher_alias for request in matches)} instead",
        )
    names = ", ".join(shorten(request.name) for request in requests[:MAX_NAMES])
    raise InputError(
        device.origin,
        f"no entry of gpus or hostDevices is named {device.name!r}",
        f"write one of {names}" if names else "give the VMI that has it by --vmi",
    )


def _aliases(request: DeviceRequest) -> tuple[str, str]:
    return (request.launcher_alias, f"ua-{request.launcher_alias}")
