"""The metadata files of a pod's claims, as they are mounted into its compute container (KEP-5304).

Below ``/var/run/kubernetes.io/dra-device-attributes`` (k8s.io/dynamic-resource-allocation,
api/metadata/doc.go; KubeVirt reads them there since 1.8.3)::

    resourceclaims/CLAIM/REQUEST/DRIVER-metadata.json
    resourceclaimtemplates/NAME IN THE POD/REQUEST/DRIVER-metadata.json

What a user gives is a copy, and may be anybody's: no name leads out of it.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_ISREG

from launcher_hook.claims.metadata import (
    MAX_METADATA_BYTES,
    AllocatedDevice,
    Metadata,
    parse_metadata,
)
from launcher_hook.errors import InputError, shorten
from launcher_hook.files import read_file
from launcher_hook.model import DeviceRequest, EntryDevice, PodClaim

DIRECTORY = "/var/run/kubernetes.io/dra-device-attributes"
_NAME = "dra-device-attributes"
_CLAIMS, _TEMPLATES = "resourceclaims", "resourceclaimtemplates"
_SUFFIX = "-metadata.json"

MAX_FILES = 256
"""Entries of one request's directory: a driver has one file there."""

_COPY = f"give a copy of {DIRECTORY} of the compute container"

# DNS labels and subdomains; a dot at the beginning would lead elsewhere.
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}")


def read_directory(
    directory: Path, requests: Sequence[DeviceRequest], pod_claims: Mapping[str, PodClaim]
) -> dict[str, EntryDevice]:
    """Read the device of each entry of a claim, by the entry's path.

    An entry without a file gets a fault, which counts only where the domain has no hostdev either.

    Args:
        directory: ``dra-device-attributes``, or a directory that has it.
        requests: The VMI's entries; those of resources are passed over.
        pod_claims: ``spec.resourceClaims[]``, by name.

    Raises:
        InputError: There is no such directory, or a file in it does not say one device.
    """
    base = find_base(directory)
    return {
        request.path: _read_entry(base, request, pod_claims.get(request.claim.claim))
        for request in requests
        if request.resource is None and request.claim is not None
    }


def find_base(directory: Path) -> Path:
    """Find ``dra-device-attributes`` in what a user gives, which may be the directory above.

    Raises:
        InputError: It is not there.
    """
    for base in (directory, directory / _NAME):
        if (base / _CLAIMS).is_dir() or (base / _TEMPLATES).is_dir():
            return base
    if not directory.is_dir():
        raise InputError(f"--dra-metadata {directory}", "there is no such directory", _COPY)
    raise InputError(
        f"--dra-metadata {directory}", f"it has neither {_CLAIMS} nor {_TEMPLATES}", _COPY
    )


def find_places(base: Path, request: DeviceRequest, pod_claim: PodClaim | None) -> list[Path]:
    """Name the directories in which the files of an entry's request can be.

    Args:
        base: ``dra-device-attributes``.
        request: The entry, of a claim.
        pod_claim: Its claim in ``spec.resourceClaims[]``; without it either kind is looked for.

    Raises:
        InputError: A name in the VMI is none of Kubernetes'.
    """
    assert request.claim is not None
    where = f"{request.path} ({request.name!r})"
    name, asked = request.claim.claim, request.claim.request
    if not asked:
        raise InputError(where, "it has no requestName", "write the name of the claim's request")
    # The file is that of the request, also where a subrequest of it was allocated.
    parts = [name, asked.partition("/")[0]]
    if pod_claim is not None and pod_claim.claim is not None:
        parts[0] = pod_claim.claim
    for part in parts:
        if _PART.fullmatch(part) is None:
            raise InputError(where, f"{shorten(part)} is no name of Kubernetes'", "write its name")
    kinds: tuple[str, ...] = (_CLAIMS, _TEMPLATES)
    if pod_claim is not None:
        kinds = (_TEMPLATES,) if pod_claim.claim is None else (_CLAIMS,)
    return [base.joinpath(kind, *parts) for kind in kinds]


def read_metadata(file: Path, base: Path) -> Metadata:
    """Read one file.

    Raises:
        InputError: It leads out of the directory, cannot be read, or is no metadata.
    """
    inside = os.path.realpath(base)
    target = os.path.realpath(file)
    if os.path.commonpath((inside, target)) != inside:
        raise InputError(str(file), f"it is a link out of {base}", _COPY)
    try:
        is_file = S_ISREG(os.stat(target).st_mode)  # noqa: PTH116
    except OSError:
        is_file = True  # what is wrong with it is said by who reads it
    if not is_file:
        raise InputError(str(file), "it is no regular file", _COPY)
    return parse_metadata(read_file(str(file), MAX_METADATA_BYTES), str(file))


def find_device(metadata: Metadata, asked: str, where: str) -> AllocatedDevice:
    """Find the one device of a request; a request may have been met by one of its subrequests.

    Raises:
        InputError: There is none, more than one, or one that no VM can be given.
    """
    names = [name for name in metadata.requests if asked in (name, name.partition("/")[0])]
    devices = [device for name in names for device in metadata.requests[name]]
    if not names:
        others = ", ".join(map(shorten, list(metadata.requests)[:6])) or "none"
        raise InputError(
            where, f"it has no request {asked!r}; there is {others}", "write one into requestName"
        )
    if not devices:
        raise InputError(
            where,
            f"its request {asked!r} has no device",
            "see why the driver gave none: kubectl get resourceclaim -o yaml",
        )
    if len(devices) > 1:
        raise InputError(
            where,
            f"its request {asked!r} has {len(devices)} devices: {', '.join(map(str, devices[:4]))}",
            "write a request with count 1 for each entry of the VM: KubeVirt takes one device a "
            "request",
        )
    if devices[0].source is None:
        raise InputError(
            where,
            f"the device {devices[0]} of its request {asked!r} has neither mdevUUID nor "
            "resource.kubernetes.io/pciBusID",
            "have the driver tell one: a VM can be given functions and mediated devices only",
        )
    return devices[0]


def _read_entry(base: Path, request: DeviceRequest, pod_claim: PodClaim | None) -> EntryDevice:
    assert request.claim is not None
    where = f"{request.path} ({request.name!r})"
    places = find_places(base, request, pod_claim)
    files = sorted(file for place in places for file in _list_files(place))
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(base)) for file in files[:4])
        raise InputError(
            where,
            f"there are {len(files)} metadata files for its request: {names}",
            "have one driver allocate one device to it: KubeVirt takes no more",
        )
    if files:
        metadata = read_metadata(files[0], base)
        device = find_device(metadata, request.claim.request, str(files[0]))
        return EntryDevice(device.source, str(files[0]), versions=metadata.versions)
    unnamed = ""
    if pod_claim is None:
        unnamed = f", and spec.resourceClaims has no {request.claim.claim!r}"
    fault = InputError(
        where,
        f"there is no {' and no '.join(f'{place}/*{_SUFFIX}' for place in places)}{unnamed}",
        f"{_COPY}, or name the device by --device {request.name}=0000:3b:00.0; a driver that "
        "writes no such file does not work with KubeVirt 1.8 and newer",
    )
    return EntryDevice(None, str(base), fault=fault)


def _list_files(place: Path) -> Iterator[Path]:
    try:
        with os.scandir(place) as entries:
            for _, entry in zip(range(MAX_FILES), entries, strict=False):
                if entry.name.endswith(_SUFFIX):
                    yield place / entry.name
    except OSError:
        return
