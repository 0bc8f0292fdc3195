"""What a DRA driver writes of the devices of one request (KEP-5304). Pure.

A file is a stream of JSON documents: one object, once in each version of its API, the newest first
(k8s.io/dynamic-resource-allocation, api/metadata/doc.go). The first document of a known version
counts, as for Kubernetes' own reader (devicemetadata/decode.go) and KubeVirt's (pkg/dra/utils.go).
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from launcher_hook.errors import InputError, shorten
from launcher_hook.fields import MAX_NAME, MAX_VALUES, count_values
from launcher_hook.mdev import parse_mdev_uuid
from launcher_hook.model import HostSource
from launcher_hook.pci import PciAddress

MAX_METADATA_BYTES = 2 * 1024 * 1024
"""A device has at most 32 attributes of 64 characters: 4 KB with their names."""

MAX_DOCUMENTS = 16
"""Kubernetes 1.37 knows two versions, so that a driver writes two documents."""

VERSIONS = ("metadata.resource.k8s.io/v1beta1", "metadata.resource.k8s.io/v1alpha1")
"""Kubernetes 1.36 has v1alpha1, 1.37 both; what is read here is the same in both."""

_KIND = "DeviceMetadata"

# A device with both is a mediated one, whose parent's address the driver tells too (kubevirt
# pkg/virt-launcher/virtwrap/device/hostdevice/dra). KubeVirt 1.8 and newer read the first; the
# second is how kubernetes/kubernetes#140064 has it as a standard attribute, the third is
# what KubeVirt 1.6 and 1.7 read.
MDEV_ATTRIBUTES = (
    "mdevUUID",
    "resource.kubernetes.io/mdevUUID",
    "resource.kubernetes.io/mDevUUID",
)
PCI_ATTRIBUTE = "resource.kubernetes.io/pciBusID"

_WHITE_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class AllocatedDevice:
    """A device that was allocated to a request.

    Attributes:
        driver: The DRA driver that has it.
        pool: The driver's pool that it is in.
        name: Its name in the pool.
        source: None where no attribute has an address or a UUID.
    """

    driver: str
    pool: str
    name: str
    source: HostSource | None

    def __str__(self) -> str:
        return f"{self.driver}/{self.pool}/{self.name}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What one file says.

    Attributes:
        version: Of the document that counts.
        versions: Of every document, as they stand in the file.
        requests: The devices of each request, by its name; that of a subrequest is
            ``request/subrequest``.
    """

    version: str
    versions: tuple[str, ...]
    requests: Mapping[str, tuple[AllocatedDevice, ...]]


def parse_metadata(data: bytes, where: str) -> Metadata:
    """Read a metadata file.

    Raises:
        InputError: It is no stream of JSON documents, or the document that counts is no
            DeviceMetadata.
    """
    versions: list[str] = []
    documents = _documents(data, where)
    for document in documents:
        version = _version(document, where)
        versions.append(version)
        if version not in VERSIONS:
            continue
        if document.get("kind") != _KIND:
            raise InputError(where, f"its kind is {shorten(document.get('kind'))}", _GIVE)
        requests = dict(_requests(document, where))
        return Metadata(version, (*versions, *_later_versions(documents, where)), requests)
    if not versions:
        raise InputError(where, "it is empty", _GIVE)
    raise InputError(
        where,
        f"it holds {', '.join(map(shorten, versions))}, and none of {', '.join(VERSIONS)}",
        "have the driver write one of these too",
    )


def _later_versions(documents: Iterator[Any], where: str) -> Iterator[str]:
    """Name those of the documents behind the one that counts; no fault there counts."""
    with suppress(InputError):
        for document in documents:
            yield _version(document, where)


def _version(document: Any, where: str) -> str:
    if not isinstance(document, dict):
        raise InputError(where, f"it holds {shorten(document)}, and no object", _GIVE)
    version = document.get("apiVersion")
    if not isinstance(version, str) or not version:
        raise InputError(where, f"its apiVersion is {shorten(version)}", _GIVE)
    return version


_GIVE = "give it as the DRA driver wrote it: JSON objects of kind DeviceMetadata"


def _documents(data: bytes, where: str) -> Iterator[Any]:
    count = count_values(data)
    if count > MAX_VALUES:
        raise InputError(where, f"it has {count} values, and may have {MAX_VALUES}", _GIVE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(where, f"byte {error.start} is not UTF-8", _GIVE) from None
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    for _ in range(MAX_DOCUMENTS):
        if place == len(text):
            return
        try:
            document, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise InputError(where, f"it is not JSON: {error}", _GIVE) from None
        yield document
        place = _skip(text, place)
    if place != len(text):
        raise InputError(where, f"it has more than {MAX_DOCUMENTS} documents", _GIVE)


def _skip(text: str, place: int) -> int:
    match = _WHITE_SPACE.match(text, place)
    return place if match is None else match.end()


def _requests(
    document: Mapping[str, Any], where: str
) -> Iterator[tuple[str, tuple[AllocatedDevice, ...]]]:
    seen = set()
    for index, request in enumerate(_mappings(document, "requests", where)):
        place = f"{where}: requests[{index}]"
        name = _name(request, place)
        if name in seen:
            raise InputError(place, f"the name {shorten(name)} is that of another request", _GIVE)
        seen.add(name)
        devices = _mappings(request, "devices", place)
        yield (
            name,
            tuple(
                AllocatedDevice(
                    _text(device, "driver"),
                    _text(device, "pool"),
                    _text(device, "name"),
                    read_source(device.get("attributes"), f"{place}.devices[{position}]"),
                )
                for position, device in enumerate(devices)
            ),
        )


def read_source(attributes: Any, where: str) -> HostSource | None:
    """Read the address or UUID of a device out of its attributes; None where none has one.

    Raises:
        InputError: They are no mapping, or what should be an address or UUID is none.
    """
    if attributes is None:
        return None
    if not isinstance(attributes, dict):
        raise InputError(f"{where}: attributes", f"{shorten(attributes)} is not a mapping", _GIVE)
    for name in (*MDEV_ATTRIBUTES, PCI_ATTRIBUTE):
        attribute = attributes.get(name)
        text = attribute.get("string") if isinstance(attribute, dict) else None
        if not isinstance(text, str) or not text:
            continue
        try:
            return PciAddress.parse(text) if name == PCI_ATTRIBUTE else parse_mdev_uuid(text)
        except ValueError as error:
            what = str(error).partition("; ")[0]
            raise InputError(
                f"{where}: attributes[{name}]", what, "have the DRA driver mended that tells it"
            ) from None
    return None


def _mappings(parent: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    values = parent.get(key)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{where}: {key}", f"{shorten(values)} is no list of objects", _GIVE)
    return values


def _name(request: Mapping[str, Any], where: str) -> str:
    name = request.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(where, f"its name is {shorten(name)}", _GIVE)
    return name


def _text(device: Mapping[str, Any], key: str) -> str:
    """A part of the device's name for messages."""
    value = device.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_NAME else shorten(value)
