"""KubeVirt's feature gates: which this VM needs, in which version. Pure."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from shlex import quote
from typing import Literal

from launcher_hook.doctor.clusterfacts import KubeVirt
from launcher_hook.doctor.finding import Finding, fail, fine, warn
from launcher_hook.doctor.sidecars import HOOK_SIDECARS, INJECT_LABEL
from launcher_hook.doctor.vmfacts import VmFacts

Version = tuple[int, int]

State = Literal[
    "always open", "too new", "open", "disabled", "closed", "not known", "open by default"
]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate's life, by KubeVirt's versions; None: it has not come to that yet.

    Attributes:
        since: The first version that knows it; None for one that each of them does.
        on_by_default: From when it is open unless it is disabled (beta).
        always: From when it is always open (general availability).
    """

    name: str
    since: Version | None = None
    on_by_default: Version | None = None
    always: Version | None = None


# Read in the tags v0.59.0 to v1.9.0: pkg/virt-config/feature-gates.go, featuregate/active.go and
# inactive.go; who asks for them: pkg/virt-api/webhooks/validating-webhook/admitters.
SIDECAR = Gate("Sidecar")
PLUGINS = Gate("Plugins", since=(1, 9))
GPU = Gate("GPU", always=(1, 4))
HOST_DEVICES = Gate("HostDevices")
GPUS_WITH_DRA = Gate("GPUsWithDRA", since=(1, 6), on_by_default=(1, 9))
HOST_DEVICES_WITH_DRA = Gate("HostDevicesWithDRA", since=(1, 6), on_by_default=(1, 9))
NETWORKS_WITH_DRA = Gate("NetworkDevicesWithDRA", since=(1, 9))


def check_gates(kubevirt: KubeVirt, vm: VmFacts | None, plugin_runs: bool) -> Iterator[Finding]:
    """Every gate that somebody waits for.

    Args:
        kubevirt: The CR.
        vm: Without it, what any VM of ours needs.
        plugin_runs: Whether a launcher pod has the hook by the plugin API.
    """
    needs = dict(_needs(kubevirt, vm, plugin_runs))
    patch = _patch(
        kubevirt, [gate.name for gate in needs if find_state(kubevirt, gate) == "closed"]
    )
    for gate, reason in needs.items():
        yield _describe(kubevirt, gate, reason, patch)
    for name in kubevirt.gates:
        if name in kubevirt.disabled_gates:
            yield fail(
                "feature gates",
                _place(kubevirt),
                f"{name!r} is in featureGates and in disabledFeatureGates",
                "take it out of one",
            )


def _needs(kubevirt: KubeVirt, vm: VmFacts | None, plugin_runs: bool) -> Iterator[tuple[Gate, str]]:
    if vm is None:
        if plugin_runs or (PLUGINS.name in kubevirt.gates and SIDECAR.name not in kubevirt.gates):
            yield PLUGINS, "the plugin API"
        else:
            yield SIDECAR, HOOK_SIDECARS
        return
    if HOOK_SIDECARS in vm.annotations or HOOK_SIDECARS in vm.outer:
        yield SIDECAR, f"{HOOK_SIDECARS} of {vm.where}"
    if plugin_runs or vm.labels.get(INJECT_LABEL) == "true":
        yield PLUGINS, f"the label {INJECT_LABEL} of {vm.where}"
    for request in () if vm.vmi is None else vm.vmi.requests:
        is_gpu, has_claim = request.kind == "gpu", request.resource is None
        if not is_gpu:
            yield HOST_DEVICES, f"hostDevices of {vm.where}"
        elif not has_claim:
            yield GPU, f"gpus of {vm.where}"
        if has_claim:
            gate = GPUS_WITH_DRA if is_gpu else HOST_DEVICES_WITH_DRA
            yield gate, f"the claim of {request.path}"
    if vm.claimed_networks:
        yield NETWORKS_WITH_DRA, f"the claim of {vm.claimed_networks[0]}"


def find_state(kubevirt: KubeVirt, gate: Gate) -> State:
    """How KubeVirt sees it (featuregate/feature-gates.go: IsEnabled)."""
    version = kubevirt.version
    if version is not None and gate.always is not None and version >= gate.always:
        return "always open"
    if version is not None and gate.since is not None and version < gate.since:
        return "too new"
    if gate.name in kubevirt.gates:
        return "open"
    if gate.name in kubevirt.disabled_gates:
        return "disabled"
    opened = gate.always or gate.on_by_default
    if opened is None or (version is not None and version < opened):
        return "closed"
    return "not known" if version is None else "open by default"


def _describe(kubevirt: KubeVirt, gate: Gate, reason: str, patch: str) -> Finding:
    where, state = _place(kubevirt), find_state(kubevirt, gate)
    what = f"{gate.name} is {state}, for {reason}"
    if state == "too new":
        assert gate.since is not None
        fix = f"{gate.name} came with {_spell(gate.since)}"
        return fail("feature gates", where, f"this version has no {gate.name}, for {reason}", fix)
    if state == "disabled":
        return fail("feature gates", where, what, "take it out of disabledFeatureGates")
    if state == "closed":
        spelt = _misspelt(gate.name, kubevirt.gates)
        there = f"{spelt!r} is there" if spelt else f"the list is {list(kubevirt.gates)}"
        return fail("feature gates", where, f"{what}; {there}", patch)
    if state == "not known":
        opened = gate.always or gate.on_by_default
        assert opened is not None
        return warn(
            "feature gates",
            where,
            f"{gate.name} is not in the list, for {reason}, and status.observedKubeVirtVersion is "
            "not there",
            f"before {_spell(opened)} add it",
        )
    return fine("feature gates", where, what)


def _misspelt(gate: str, gates: Collection[str]) -> str | None:
    """What was probably meant to be this gate; HostDisk is not meant to be HostDevices."""
    other_case = [g for g in gates if g.casefold() == gate.casefold()]
    return next(iter(other_case or get_close_matches(gate, gates, n=1, cutoff=0.9)), None)


def _patch(kubevirt: KubeVirt, missing: Sequence[str]) -> str:
    """One command for all that are missing: a merge patch replaces the whole list."""
    wrong = {_misspelt(gate, kubevirt.gates) for gate in missing}
    gates = [*(gate for gate in kubevirt.gates if gate not in wrong), *missing]
    configuration = {"developerConfiguration": {"featureGates": gates}}
    patch = json.dumps({"spec": {"configuration": configuration}}, separators=(",", ":"))
    where = f"-n {quote(kubevirt.namespace)} patch kubevirt {quote(kubevirt.name)}"
    return f"kubectl {where} --type merge -p {quote(patch)}"


def _place(kubevirt: KubeVirt) -> str:
    return f"{kubevirt.where}: developerConfiguration.featureGates"


def _spell(version: Version) -> str:
    return f"KubeVirt {version[0]}.{version[1]}"
