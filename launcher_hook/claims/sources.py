"""The devices of entries, of all who tell them beside the domain and the variables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from launcher_hook.claims.directory import read_directory
from launcher_hook.claims.named import name_devices, parse_device
from launcher_hook.model import DeviceRequest, EntryDevice, PodClaim


def read_devices(
    options: Iterable[str],
    directory: Path | None,
    requests: Sequence[DeviceRequest],
    pod_claims: Mapping[str, PodClaim],
    reported: Mapping[str, EntryDevice],
) -> dict[str, EntryDevice]:
    """Find the devices of a VMI's entries, by the entry's path.

    What the user names must not contradict the others. A pod's metadata goes before the VMI's
    status, which no KubeVirt writes that reads metadata.

    Args:
        options: ``--device``, as given.
        directory: ``--dra-metadata``; None where it is not given.
        requests: The VMI's entries.
        pod_claims: Its ``spec.resourceClaims[]``, by name.
        reported: What its status tells, by the entry's path.

    Raises:
        InputError: An option or a metadata file cannot be used.
    """
    named = [parse_device(text) for text in options]
    others = dict(reported)
    if directory is not None:
        for path, device in read_directory(directory, requests, pod_claims).items():
            if device.source is not None or path not in others:
                others[path] = device
    return name_devices(named, requests, others)
