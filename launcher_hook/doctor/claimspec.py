"""Claims (DRA) as a VM and its pod have them: what KubeVirt refuses or leaves out. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from launcher_hook.doctor.clusterfacts import LauncherPod
from launcher_hook.doctor.finding import Finding, fail, fine, listed, warn
from launcher_hook.doctor.vmfacts import VmFacts
from launcher_hook.model import ClaimRequest, DeviceRequest, PodClaim

CHECK = "claims"

_COMPUTE = "compute"
_ANEW = "start the VM anew: the pod is of an older one"

# kubevirt pkg/dra/admitter/dra_admitter.go: rejectMixed, in 1.8.3 and newer.
_FIRST_THAT_SEPARATES = (1, 9)


def check_spec(vm: VmFacts, version: tuple[int, int] | None) -> Iterator[Finding]:
    """What KubeVirt's admission webhook refuses (pkg/dra/admitter/dra_admitter.go)."""
    assert vm.vmi is not None
    claims, seen = vm.vmi.claims, dict[ClaimRequest, str]()
    used = [entry for entry in vm.vmi.requests if entry.claim is not None]
    faults = 0
    for entry in used:
        for finding in _check_entry_spec(entry, vm, claims, seen):
            faults += 1
            yield finding
    gpus = [entry for entry in vm.vmi.requests if entry.kind == "gpu"]
    if len({entry.resource is None for entry in gpus}) > 1 and (
        version is None or version >= _FIRST_THAT_SEPARATES
    ):
        faults += 1
        yield (warn if version is None else fail)(
            CHECK,
            f"{vm.where}: spec.domain.devices.gpus",
            "some entries have a claim and some a deviceName, which KubeVirt 1.9 refuses",
            "write those with a deviceName, or those with a claim, into hostDevices",
        )
    for name, claim in claims.items():
        if (claim.claim is None) == (claim.template is None):
            faults += 1
            yield fail(
                CHECK,
                f"{vm.where}: spec.resourceClaims",
                f"{name!r} has {'neither' if claim.claim is None else 'both'} of resourceClaimName "
                "and resourceClaimTemplateName",
                "write one of them",
            )
    if used and not faults:
        asked = (f"{entry.name} by {entry.claim}" for entry in used)
        yield fine(CHECK, vm.where, f"it asks for {listed(asked)}")


def _check_entry_spec(
    entry: DeviceRequest,
    vm: VmFacts,
    claims: Mapping[str, PodClaim],
    seen: dict[ClaimRequest, str],
) -> Iterator[Finding]:
    assert entry.claim is not None
    where = f"{vm.where}: {entry.path}"
    if entry.resource is not None:
        yield fail(
            CHECK,
            where,
            f"it has a deviceName, {entry.resource!r}, and a claimName, {entry.claim.claim!r}: "
            "KubeVirt asks for neither of them",
            "take one of the two out",
        )
        return
    if entry.claim.claim not in claims:
        yield fail(
            CHECK,
            where,
            f"its claimName {entry.claim.claim!r} is not in spec.resourceClaims"
            f"{name_nearest(entry.claim.claim, claims)}",
            f"add {{name: {entry.claim.claim}, resourceClaimTemplateName: ...}} to it",
        )
    if not entry.claim.request:
        yield fail(
            CHECK, where, "it has no requestName", "write the name of one of the claim's requests"
        )
        return
    first = seen.setdefault(entry.claim, entry.path)
    if first != entry.path:
        yield fail(
            CHECK,
            where,
            f"{entry.claim} is asked for by {first} already",
            "write a request of its own into the claim for each entry",
        )


def check_pod_claims(
    pod: LauncherPod, vm: VmFacts, entries: Sequence[DeviceRequest]
) -> Iterator[Finding]:
    """The pod's claims are the VM's, and compute has them (controller: ToPodResourceClaims)."""
    assert vm.vmi is not None
    compute = next((c for c in pod.containers if c.name == _COMPUTE), None)
    has = () if compute is None else compute.claims
    faults = 0
    for name in dict.fromkeys(entry.claim.claim for entry in entries if entry.claim is not None):
        wanted, given = vm.vmi.claims.get(name), pod.claims.get(name)
        if given is None or (wanted is not None and given != wanted):
            faults += 1
            there = "no" if given is None else "another"
            yield fail(
                CHECK,
                f"{pod.where}: spec.resourceClaims",
                f"it has {there} {name!r}{name_nearest(name, pod.claims) if given is None else ''}",
                _ANEW,
            )
    for entry in entries:
        assert entry.claim is not None
        asked = entry.claim
        base = ClaimRequest(asked.claim, asked.request.partition("/")[0])
        if not {asked, base, ClaimRequest(asked.claim, "")} & set(has):
            faults += 1
            gate = "GPUsWithDRA" if entry.kind == "gpu" else "HostDevicesWithDRA"
            yield fail(
                CHECK,
                f"{pod.where}: {_COMPUTE}",
                f"its resources.claims have no {asked}, for {entry.path}"
                + (f"; they have {listed(has)}" if has else ""),
                f"see that KubeVirt's gate {gate} is open, and start the VM anew",
            )
    if not faults:
        yield fine(CHECK, f"{pod.where}: {_COMPUTE}", f"it has {listed(has)}")


def name_nearest(name: str, others: Mapping[str, object]) -> str:
    """Name the one that was probably meant, or those that there are, for a message."""
    near = get_close_matches(name, list(others), n=1, cutoff=0.8)
    if near:
        return f"; {near[0]!r} is near"
    return f"; there is {listed(others)}" if others else ""
