"""What ResourceClaims and ResourceSlices say (DRA), in each version of their API."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher_hook.claims.metadata import read_source
from launcher_hook.doctor.manifest import descend, name_of, take_mappings, text_of
from launcher_hook.errors import InputError
from launcher_hook.model import HostSource

# k8s.io/api resource/v1: PodResourceClaimAnnotation
_POD_CLAIM = "resource.kubernetes.io/pod-claim-name"

DeviceKey = tuple[str, str, str]
"""Driver, pool and name of a device."""


@dataclass(frozen=True, slots=True)
class Result:
    """A device that the scheduler has allocated to a request.

    Attributes:
        request: ``request/subrequest`` where one of a ``firstAvailable`` list was met.
    """

    request: str
    key: DeviceKey

    @property
    def base(self) -> str:
        """The request itself."""
        return self.request.partition("/")[0]

    def __str__(self) -> str:
        return "/".join(self.key)


@dataclass(frozen=True, slots=True)
class ResourceClaim:
    """A ResourceClaim.

    Attributes:
        where: Its name in messages.
        pod_claim: Its name in the pod, for one that is made of a template.
        owner: The pod that it is made for.
        requests: Names of its requests, and how many devices each asks for: "1", "2", "All".
        results: None where it is not allocated.
        reserved_for: Names of the pods that may use it.
    """

    where: str
    namespace: str
    name: str
    pod_claim: str = ""
    owner: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)
    results: tuple[Result, ...] | None = None
    reserved_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SliceDevice:
    """A device in a ResourceSlice.

    Attributes:
        where: Its place.
        source: None where no attribute has an address or a UUID.
        fault: Why its address or UUID is none.
    """

    where: str
    key: DeviceKey
    source: HostSource | None = None
    fault: InputError | None = None


def parse_claim(document: Mapping[str, Any], where: str) -> ResourceClaim:
    """Read a ResourceClaim.

    Raises:
        InputError: A field has the wrong type.
    """
    name = name_of(document, where)
    metadata = descend(document, name, "metadata")
    owners = take_mappings(metadata, "ownerReferences", name)
    status = descend(document, name, "status")
    results = None
    if status.get("allocation") is not None:
        devices = descend(status, name, "allocation", "devices")
        results = tuple(_parse_result(r) for r in take_mappings(devices, "results", name))
    requests = take_mappings(descend(document, name, "spec", "devices"), "requests", name)
    return ResourceClaim(
        name,
        text_of(metadata.get("namespace")),
        text_of(metadata.get("name")),
        text_of(descend(metadata, name, "annotations").get(_POD_CLAIM)),
        next((text_of(o.get("name")) for o in owners if o.get("kind") == "Pod"), ""),
        {text_of(r.get("name")): _count(r, name) for r in requests},
        results,
        tuple(
            text_of(user.get("name"))
            for user in take_mappings(status, "reservedFor", name)
            if user.get("resource") == "pods"
        ),
    )


def _parse_result(result: Mapping[str, Any]) -> Result:
    driver, pool, device = (text_of(result.get(key)) for key in ("driver", "pool", "device"))
    return Result(text_of(result.get("request")), (driver, pool, device))


def _count(request: Mapping[str, Any], where: str) -> str:
    """How many devices; v1 and v1beta2 have it below ``exactly``, v1beta1 in the request."""
    exactly = descend(request, where, "exactly") or request
    if exactly.get("allocationMode") == "All":
        return "All"
    return text_of(exactly.get("count") or 1)


def parse_slice(document: Mapping[str, Any], where: str) -> tuple[SliceDevice, ...]:
    """Read the devices of a ResourceSlice.

    Raises:
        InputError: A field has the wrong type.
    """
    return tuple(_parse_devices(document, name_of(document, where)))


def _parse_devices(document: Mapping[str, Any], where: str) -> Iterator[SliceDevice]:
    spec = descend(document, where, "spec")
    driver, pool = text_of(spec.get("driver")), text_of(descend(spec, where, "pool").get("name"))
    for device in take_mappings(spec, "devices", where):
        name = text_of(device.get("name"))
        place = f"{where}: device {name}"
        # v1alpha3 and v1beta1 have it below ``basic``.
        attributes = (descend(device, place, "basic") or device).get("attributes")
        try:
            source, fault = read_source(attributes, place), None
        except InputError as error:
            source, fault = None, error
        yield SliceDevice(place, (driver, pool, name), source, fault)
