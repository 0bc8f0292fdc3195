"""Resource claims of a VM (DRA): what KubeVirt, the scheduler and the driver made of them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from launcher_hook.claims.metadata import PCI_ATTRIBUTE
from launcher_hook.doctor.claimfacts import DeviceKey, ResourceClaim, Result, SliceDevice
from launcher_hook.doctor.claimspec import CHECK, check_pod_claims, check_spec, name_nearest
from launcher_hook.doctor.clusterfacts import KubeVirt, LauncherPod
from launcher_hook.doctor.finding import Finding, fail, fine, listed, refused, unseen, warn
from launcher_hook.doctor.vmfacts import VmFacts
from launcher_hook.errors import InputError
from launcher_hook.model import (
    Assignment,
    DeviceRequest,
    EntryDevice,
    HostSource,
)

# kubevirt pkg/dra/metadata/types.go: supportedAPIVersions, in 1.8.3, 1.9.0 and main of 2026-08-22.
_READ_BY_KUBEVIRT = "metadata.resource.k8s.io/v1alpha1"
_FIRST_WITH_METADATA = (1, 8)
_LAST_READ = (1, 9)


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """What is known of claims; None where it was not given.

    Attributes:
        claims: The ResourceClaims.
        slices: The devices of the ResourceSlices.
        devices: What metadata files and options tell, by the entry's path.
        fault: Why a metadata file or an option cannot be used.
    """

    claims: tuple[ResourceClaim, ...] | None = None
    slices: tuple[SliceDevice, ...] | None = None
    devices: Mapping[str, EntryDevice] = field(default_factory=dict)
    fault: InputError | None = None


def check_claims(
    vm: VmFacts | None,
    kubevirt: KubeVirt | None,
    pods: Sequence[LauncherPod] | None,
    facts: ClaimFacts,
    assignments: Sequence[Assignment],
) -> Iterator[Finding]:
    """Follow each claim of a VM from its spec to the device; nothing for a VM without.

    Args:
        vm: The VM.
        kubevirt: The CR, which has the version.
        pods: Its launchers.
        facts: What else is known.
        assignments: What `render` gives the domain.
    """
    if facts.fault is not None:
        yield refused(CHECK, facts.fault)
    if vm is None or vm.vmi is None:
        return
    version = None if kubevirt is None else kubevirt.version
    yield from check_spec(vm, version)
    entries = [
        entry
        for entry in vm.vmi.requests
        if entry.resource is None and entry.claim is not None and entry.claim.request
    ]
    if not entries:
        return
    pods = [pod for pod in pods or () if not pod.is_over]
    for pod in pods:
        yield from check_pod_claims(pod, vm, entries)
    if facts.claims is None:
        yield unseen(
            CHECK,
            "whether the claims are allocated, one device a request",
            "give --resource-claims (kubectl get resourceclaims -o yaml)",
        )
    elif facts.slices is None:
        yield unseen(
            CHECK,
            "whether the driver tells the allocated devices' addresses",
            "give --resource-slices (kubectl get resourceslices -o yaml)",
        )
    for entry in entries:
        yield from _check_entry(entry, vm, version, pods, facts, assignments)


def _check_entry(
    entry: DeviceRequest,
    vm: VmFacts,
    version: tuple[int, int] | None,
    pods: Sequence[LauncherPod],
    facts: ClaimFacts,
    assignments: Sequence[Assignment],
) -> Iterator[Finding]:
    """One entry: its claim, its device, and who tells which one that is."""
    told = facts.devices.get(entry.path)
    known: dict[str, HostSource] = {}
    if told is not None and told.fault is not None:
        yield refused(CHECK, told.fault)
    elif told is not None and told.source is not None:
        known[told.origin] = told.source
        yield from _check_versions(told, version)
    written = _written(entry, assignments)
    if written is not None:
        known["the domain"] = written
    claims = list(_find_claims(entry, vm, pods, facts.claims))
    for claim in claims:
        if isinstance(claim, Finding):
            yield claim
            continue
        yield from _check_reserved(claim, entry, pods)
        for result in _check_allocation(claim, entry):
            if isinstance(result, Finding):
                yield result
                continue
            # Of a template there may be one for the source and one for the target of a migration.
            same = known if len(claims) == 1 else {}
            yield from _check_slice(result, claim, entry, version, facts.slices, same)
    if len(set(known.values())) > 1:
        says = ", ".join(f"{source} ({who})" for who, source in known.items())
        yield fail(
            CHECK,
            f"{vm.where}: {entry.path}",
            f"its device is not the same for all: {says}",
            "give files of one pod; if they are, start the VM anew",
        )


def _check_versions(told: EntryDevice, version: tuple[int, int] | None) -> Iterator[Finding]:
    if not told.versions or _READ_BY_KUBEVIRT in told.versions:
        return
    if version is not None and not _FIRST_WITH_METADATA <= version <= _LAST_READ:
        return
    yield fail(
        CHECK,
        told.origin,
        f"it has {listed(told.versions)}, and KubeVirt 1.8 and 1.9 read {_READ_BY_KUBEVIRT} only",
        "have the DRA driver write that version too",
    )


def _written(entry: DeviceRequest, assignments: Sequence[Assignment]) -> HostSource | None:
    """The device that virt-launcher wrote for the entry."""
    for assignment in assignments:
        is_entry = assignment.is_claimed and assignment.name == entry.name
        if is_entry and assignment.present is not None and f"-{entry.kind}-" in assignment.alias:
            return assignment.source
    return None


def _find_claims(
    entry: DeviceRequest,
    vm: VmFacts,
    pods: Sequence[LauncherPod],
    claims: Sequence[ResourceClaim] | None,
) -> Iterator[ResourceClaim | Finding]:
    """The ResourceClaim of an entry; of a template there is one for each pod."""
    assert vm.vmi is not None
    assert entry.claim is not None
    asked = entry.claim.claim
    pod_claim = vm.vmi.claims.get(asked)
    if claims is None or pod_claim is None:
        return
    namespaces = {vm.vmi.namespace, *(pod.namespace for pod in pods)} - {""}
    here = [c for c in claims if not namespaces or c.namespace in ("", *namespaces)]
    names = [pod_claim.claim] if pod_claim.claim is not None else []
    for pod in pods:
        if pod_claim.claim is None and asked in pod.claim_names:
            names.append(pod.claim_names[asked])
    if names:
        found = [claim for claim in here if claim.name in names]
    else:
        # A VirtualMachine's template has no name: the VMI has that of the VM.
        launcher = f"virt-launcher-{vm.vmi.name or vm.where.rpartition('/')[2]}-"
        found = [c for c in here if c.pod_claim == asked and c.owner.startswith(launcher)]
    yield from found
    if not found:
        what = f"no ResourceClaim {listed(names)}" if names else f"no ResourceClaim for {asked!r}"
        yield fail(
            CHECK,
            f"{vm.where}: {entry.path}",
            f"{what} is among the {len(here)} that were given",
            "see that it exists in the VM's namespace: kubectl get resourceclaims"
            if names
            else "give the VM's pod too, by --pod, and see that it has been made",
        )


def _check_reserved(
    claim: ResourceClaim, entry: DeviceRequest, pods: Sequence[LauncherPod]
) -> Iterator[Finding]:
    """That each pod that uses a claim may; one of a template is one pod's."""
    assert entry.claim is not None
    for pod in pods:
        own = pod.claim_names.get(entry.claim.claim, claim.name)
        if own == claim.name and claim.results is not None and pod.name not in claim.reserved_for:
            users = listed(claim.reserved_for) or "nobody"
            yield fail(
                CHECK,
                claim.where,
                f"it is reserved for {users}, and not for pod {pod.name}",
                "kubelet starts no pod without it; see the pod's events",
            )


def _check_allocation(claim: ResourceClaim, entry: DeviceRequest) -> Iterator[Result | Finding]:
    """The one device of an entry's request, or why there is none."""
    assert entry.claim is not None
    asked = entry.claim.request
    where = f"{claim.where}: request {asked}"
    base = asked.partition("/")[0]
    if base not in claim.requests:
        yield fail(
            CHECK,
            claim.where,
            f"it has no request {base!r}, for {entry.path}{name_nearest(base, claim.requests)}",
            "write one of its requests into requestName",
        )
        return
    if claim.requests[base] != "1":
        yield fail(
            CHECK,
            where,
            f"it asks for {claim.requests[base]} devices, and KubeVirt takes one a request",
            "write a request with count 1 for each entry of the VM",
        )
        return
    if claim.results is None:
        yield fail(
            CHECK,
            where,
            "the claim is not allocated",
            f"see the events of the pod and of {claim.where}, and the ResourceSlices of its nodes",
        )
        return
    results = [r for r in claim.results if asked in (r.request, r.base)]
    if len(results) != 1:
        devices = listed(results) or "none"
        yield fail(
            CHECK,
            where,
            f"it has {len(results)} devices ({devices}), and KubeVirt takes one a request",
            "write a request with count 1 for each entry of the VM",
        )
        return
    if "/" in results[0].request:
        # kubevirt pkg/dra/utils.go, resolveDevice: it compares the whole name, and looks for the
        # file in a directory of that name, where Kubernetes leaves the subrequest out.
        yield fail(
            CHECK,
            where,
            f"subrequest {results[0].request!r} was met, and KubeVirt finds no metadata of a "
            "request with firstAvailable",
            "write the request with exactly",
        )
    yield results[0]


def _check_slice(
    result: Result,
    claim: ResourceClaim,
    entry: DeviceRequest,
    version: tuple[int, int] | None,
    slices: Sequence[SliceDevice] | None,
    known: dict[str, HostSource],
) -> Iterator[Finding]:
    """That the driver tells the device's address; adds it to what is known."""
    where = f"{claim.where}: request {result.request}"
    if slices is None:
        yield fine(CHECK, where, f"{entry.path} has {result}")
        return
    by_key: dict[DeviceKey, SliceDevice] = {device.key: device for device in slices}
    device = by_key.get(result.key)
    if device is None:
        yield fail(
            CHECK,
            where,
            f"its device {result} is in no ResourceSlice that was given",
            "see whether the driver runs on the pod's node: kubectl get resourceslices",
        )
    elif device.fault is not None:
        yield refused(CHECK, device.fault)
    elif device.source is None:
        reads_slices = version is not None and version < _FIRST_WITH_METADATA
        yield (fail if reads_slices else warn)(
            CHECK,
            device.where,
            f"it has neither {PCI_ATTRIBUTE} nor mdevUUID"
            + (", and KubeVirt 1.6 and 1.7 read it here" if reads_slices else ""),
            "see whether the driver's metadata files have it: --dra-metadata"
            if not reads_slices
            else "have the DRA driver tell it",
        )
    else:
        known[device.where] = device.source
        yield fine(CHECK, where, f"{entry.path} has {device.source} ({result})")
