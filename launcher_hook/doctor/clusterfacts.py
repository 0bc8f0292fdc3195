"""What a KubeVirt CR, Node objects and launcher pods say, as far as devices need it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from launcher_hook.claims.manifest import read_pod_claims
from launcher_hook.deviceplugin.configfile import read_permitted
from launcher_hook.deviceplugin.selection import MdevSelector, PciSelector
from launcher_hook.doctor.manifest import descend, name_of, take_list, take_mappings, text_of
from launcher_hook.doctor.quantity import parse_quantity
from launcher_hook.errors import InputError
from launcher_hook.model import ClaimRequest, PodClaim

_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(\..*)?")
_LISTS = ("pciHostDevices", "mediatedDevices", "usb")
_USB = "usb"
_EXTENDED = re.compile(r"(?!.*kubernetes\.io/).*/.*")  # devices.kubevirt.io/kvm is one as well

Amounts = Mapping[str, Fraction]
"""How much there is, or may be had, of a resource."""


@dataclass(frozen=True, slots=True)
class Permitted:
    """An entry of permittedHostDevices.

    Attributes:
        where: Its place.
        external: KubeVirt leaves it to an external device plugin.
        selector: What it selects; None for USB, and for one with a fault.
        fault: What is wrong with it.
    """

    where: str
    resource: str
    external: bool
    selector: PciSelector | MdevSelector | None = None
    fault: InputError | None = None

    @property
    def may_be_pci(self) -> bool:
        """Whether its devices are PCI functions, as far as can be told."""
        return isinstance(self.selector, PciSelector) or self.fault is not None


@dataclass(frozen=True, slots=True)
class KubeVirt:
    """A KubeVirt CR.

    Attributes:
        version: Major and minor; None where its status does not say.
        releases: The release that runs and, during an update, the one that will; as written there.
        permitted: None where the CR has no permittedHostDevices, and all is permitted.
        sidecar_limits: What it sets for hook sidecars.
    """

    where: str
    namespace: str = "kubevirt"
    name: str = "kubevirt"
    version: tuple[int, int] | None = None
    gates: tuple[str, ...] = ()
    disabled_gates: tuple[str, ...] = ()
    permitted: tuple[Permitted, ...] | None = None
    sidecar_limits: Amounts = field(default_factory=dict)
    releases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A Node object: its extended resources, and whether VMs are put there."""

    where: str
    capacity: Amounts
    allocatable: Amounts
    is_cordoned: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a launcher pod.

    Attributes:
        words: Its command and arguments.
        out_of_memory: Whether a run of it was ended for that.
        claims: What it has of the pod's resource claims; a request of "" is all of them.
    """

    name: str
    image: str = ""
    words: tuple[str, ...] = ()
    limits: Amounts = field(default_factory=dict)
    restarts: int = 0
    out_of_memory: bool = False
    claims: tuple[ClaimRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class LauncherPod:
    """A virt-launcher pod.

    Attributes:
        containers: Its own and, before them, those of its init containers that stay.
        unscheduled: Why no node takes it; None where one has.
        name: Its own.
        namespace: Its own.
        claims: ``spec.resourceClaims[]``, by name.
        claim_names: The ResourceClaim of each that is made of a template, by the same names.
        is_over: Whether it has ended, and has given back what it had.
    """

    where: str
    containers: tuple[Container, ...]
    unscheduled: str | None = None
    name: str = ""
    namespace: str = ""
    claims: Mapping[str, PodClaim] = field(default_factory=dict)
    claim_names: Mapping[str, str] = field(default_factory=dict)
    is_over: bool = False


def parse_kubevirt(document: Mapping[str, Any], where: str) -> KubeVirt:
    """Read a KubeVirt CR.

    Raises:
        InputError: A field has the wrong type.
    """
    where = name_of(document, where)
    metadata = descend(document, where, "metadata")
    configuration = descend(document, where, "spec", "configuration")
    developer = descend(configuration, f"{where}: spec.configuration", "developerConfiguration")
    status = descend(document, where, "status")
    match = _VERSION.fullmatch(text_of(status.get("observedKubeVirtVersion")))
    permitted = None
    if configuration.get("permittedHostDevices") is not None:
        permitted = tuple(_parse_permitted(configuration, where))
    return KubeVirt(
        where,
        text_of(metadata.get("namespace")) or "kubevirt",
        text_of(metadata.get("name")) or "kubevirt",
        (int(match[1]), int(match[2])) if match else None,
        tuple(map(text_of, take_list(developer, "featureGates", where))),
        tuple(map(text_of, take_list(developer, "disabledFeatureGates", where))),
        permitted,
        _parse_sidecar_limits(configuration, where),
        tuple(_parse_releases(status)),
    )


def _parse_releases(status: Mapping[str, Any]) -> Iterator[str]:
    observed, target = (
        text_of(status.get(key)) for key in ("observedKubeVirtVersion", "targetKubeVirtVersion")
    )
    if observed:
        yield observed
    if target not in ("", observed):
        yield target


def _parse_permitted(configuration: Mapping[str, Any], where: str) -> list[Permitted]:
    lists = descend(configuration, f"{where}: spec.configuration", "permittedHostDevices")
    return [
        _parse_entry(key, entry, f"{where}: permittedHostDevices.{key}[{index}]")
        for key in _LISTS
        for index, entry in enumerate(take_mappings(lists, key, where))
    ]


def _parse_entry(key: str, entry: Mapping[str, Any], where: str) -> Permitted:
    resource = text_of(entry.get("resourceName"))
    external = entry.get("externalResourceProvider") is True
    if key == _USB:
        return Permitted(where, resource, external)
    try:  # as if it were virt-handler's: the name of ours has a check of its own
        selector = read_permitted(key, {**entry, "externalResourceProvider": False}, where)
    except InputError as error:
        return Permitted(where, resource, external, fault=error)
    return Permitted(where, resource, external, replace(selector, external=external))


def _parse_sidecar_limits(configuration: Mapping[str, Any], where: str) -> Amounts:
    for entry in take_mappings(configuration, "supportContainerResources", where):
        if entry.get("type") == "sidecar":
            path = f"{where}: supportContainerResources"
            return _parse_amounts(descend(entry, path, "resources", "limits"), path)
    return {}


def parse_cluster_node(document: Mapping[str, Any], where: str) -> ClusterNode:
    """Read a Node object.

    Raises:
        InputError: A field has the wrong type.
    """
    name = name_of(document, where)
    return ClusterNode(
        name,
        _extended(descend(document, where, "status", "capacity"), name),
        _extended(descend(document, where, "status", "allocatable"), name),
        descend(document, where, "spec").get("unschedulable") is True,
    )


def parse_pod(document: Mapping[str, Any], where: str) -> LauncherPod:
    """Read a launcher pod.

    Raises:
        InputError: A field has the wrong type.
    """
    name = name_of(document, where)
    metadata = descend(document, where, "metadata")
    spec, status = descend(document, where, "spec"), descend(document, where, "status")
    statuses = {
        text_of(entry.get("name")): entry
        for key in ("initContainerStatuses", "containerStatuses")
        for entry in take_mappings(status, key, name)
    }
    staying = [
        container
        for container in take_mappings(spec, "initContainers", name)
        if container.get("restartPolicy") == "Always"
    ]
    containers = [*staying, *take_mappings(spec, "containers", name)]
    unscheduled = None
    for condition in take_mappings(status, "conditions", name):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            unscheduled = text_of(
                condition.get("message") or condition.get("reason") or "unscheduled"
            )
    return LauncherPod(
        name,
        tuple(
            _parse_container(c, statuses.get(text_of(c.get("name")), {}), name) for c in containers
        ),
        unscheduled,
        text_of(metadata.get("name")),
        text_of(metadata.get("namespace")),
        read_pod_claims(spec),
        {
            text_of(entry.get("name")): text_of(entry.get("resourceClaimName"))
            for entry in take_mappings(status, "resourceClaimStatuses", name)
        },
        status.get("phase") in ("Succeeded", "Failed"),
    )


def _parse_container(
    container: Mapping[str, Any], status: Mapping[str, Any], where: str
) -> Container:
    name = text_of(container.get("name"))
    where = f"{where}: container {name}"
    ends = (descend(status, where, key, "terminated") for key in ("state", "lastState"))
    restarts = status.get("restartCount")
    return Container(
        name,
        text_of(container.get("image")),
        tuple(
            text_of(word)
            for key in ("command", "args")
            for word in take_list(container, key, where)
        ),
        _parse_amounts(descend(container, where, "resources", "limits"), where),
        restarts if isinstance(restarts, int) else 0,
        any(end.get("reason") == "OOMKilled" for end in ends),
        tuple(
            ClaimRequest(text_of(claim.get("name")), text_of(claim.get("request")))
            for claim in take_mappings(
                descend(container, where, "resources"), "claims", f"{where}: resources"
            )
        ),
    )


def _extended(amounts: Mapping[str, Any], where: str) -> Amounts:
    return _parse_amounts({n: a for n, a in amounts.items() if _EXTENDED.fullmatch(str(n))}, where)


def _parse_amounts(amounts: Mapping[str, Any], where: str) -> Amounts:
    parsed = {}
    for resource, amount in amounts.items():
        try:
            parsed[str(resource)] = parse_quantity(amount)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            raise InputError(f"{where}: {resource}", what, fix) from None
    return parsed
