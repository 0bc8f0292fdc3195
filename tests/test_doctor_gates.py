"""KubeVirt's feature gates by version: open, closed, misspelt, not known."""

import json
from dataclasses import replace
from typing import Any

import pytest

from launcher_hook.doctor.clusterfacts import KubeVirt
from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.gates import check_gates
from launcher_hook.doctor.sidecars import HOOK_SIDECARS, INJECT_LABEL
from launcher_hook.doctor.vmfacts import VmFacts, parse_vm

CR = KubeVirt("kubevirt/kubevirt", version=(1, 9))


def vm(label: str | None = None, **devices: list[dict[str, str]]) -> VmFacts:
    labels = {} if label is None else {INJECT_LABEL: label}
    annotations = {} if label else {HOOK_SIDECARS: "[]"}
    document: dict[str, Any] = {
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm", "annotations": annotations, "labels": labels},
        "spec": {"domain": {"devices": devices}},
    }
    return parse_vm(document, "vmi.yaml")


GPUS = vm(gpus=[{"name": "g", "deviceName": "a.com/g"}])


def check(kubevirt: KubeVirt, facts: VmFacts | None = None, plugin: bool = False) -> dict[str, str]:
    """Severity by the gate's name."""
    return {f.what.split()[0]: f.severity for f in check_gates(kubevirt, facts, plugin)}


def find(kubevirt: KubeVirt, facts: VmFacts | None, gate: str) -> Finding:
    (finding,) = (f for f in check_gates(kubevirt, facts, False) if f.what.startswith(f"{gate} "))
    return finding


@pytest.mark.parametrize(
    ("version", "severity"),
    [((0, 59), "error"), ((1, 3), "error"), ((1, 4), "ok"), ((1, 9), "ok"), (None, "warning")],
)
def test_gpus_need_their_gate_before_1_4(version: tuple[int, int] | None, severity: str) -> None:
    kubevirt = replace(CR, version=version, gates=("Sidecar",))
    assert check(kubevirt, GPUS) == {"Sidecar": "ok", "GPU": severity}
    assert check(replace(kubevirt, gates=("Sidecar", "GPU")), GPUS)["GPU"] == "ok"


def test_host_devices_need_theirs_in_every_version_and_gpus_do_not() -> None:
    hosts = vm(hostDevices=[{"name": "n", "deviceName": "a.com/n"}])
    kubevirt = replace(CR, gates=("Sidecar",))
    assert check(kubevirt, hosts) == {"Sidecar": "ok", "HostDevices": "error"}
    assert "HostDevices" not in check(kubevirt, GPUS)


@pytest.mark.parametrize(
    ("version", "gates", "disabled", "severity"),
    [
        ((1, 9), (), (), "ok"),
        ((1, 9), (), ("GPUsWithDRA",), "error"),
        ((1, 8), (), (), "error"),
        ((1, 8), ("GPUsWithDRA",), (), "ok"),
        (None, (), (), "warning"),
    ],
)
def test_a_claim_needs_its_gate_until_it_is_open_by_default(
    version: tuple[int, int] | None,
    gates: tuple[str, ...],
    disabled: tuple[str, ...],
    severity: str,
) -> None:
    claim = vm(gpus=[{"name": "g", "claimName": "c", "requestName": "r"}])
    kubevirt = replace(CR, version=version, gates=("Sidecar", *gates), disabled_gates=disabled)
    assert check(kubevirt, claim) == {"Sidecar": "ok", "GPUsWithDRA": severity}


def test_a_network_of_a_claim_needs_a_gate_that_nobody_opens_by_default() -> None:
    document = {
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm"},
        "spec": {"networks": [{"name": "p", "pod": {}}, {"name": "n", "resourceClaim": {}}]},
    }
    finding = find(CR, parse_vm(document, "vmi.yaml"), "NetworkDevicesWithDRA")
    assert finding.severity == "error"
    assert "for the claim of spec.networks[1]" in finding.what


def test_a_gate_that_the_version_does_not_have_is_told() -> None:
    kubevirt = replace(CR, version=(1, 8), gates=("Plugins",))
    (finding,) = check_gates(kubevirt, vm(label="true"), False)
    assert finding.severity == "error"
    assert "this version has no Plugins" in finding.what
    assert finding.fix == "Plugins came with KubeVirt 1.9"


def test_the_plugin_api_needs_plugins_and_not_sidecar() -> None:
    assert check(replace(CR, gates=("Plugins",)), vm(label="true")) == {"Plugins": "ok"}
    assert check(CR, None, plugin=True) == {"Plugins": "error"}
    assert check(replace(CR, gates=("Plugins",))) == {"Plugins": "ok"}


def test_without_a_vm_the_gate_of_the_sidecar_is_looked_at() -> None:
    assert check(CR) == {"Sidecar": "error"}
    assert check(replace(CR, gates=("Sidecar", "Plugins"))) == {"Sidecar": "ok"}


def test_a_misspelt_gate_is_named_and_replaced() -> None:
    finding = find(replace(CR, gates=("sidecar", "HostDisk")), GPUS, "Sidecar")
    assert "'sidecar' is there" in finding.what
    assert json.loads(finding.fix.partition("-p ")[2].strip("'")) == {
        "spec": {
            "configuration": {"developerConfiguration": {"featureGates": ["HostDisk", "Sidecar"]}}
        }
    }


def test_one_command_opens_all_that_are_closed_since_a_patch_replaces_the_list() -> None:
    hosts = vm(hostDevices=[{"name": "n", "deviceName": "a.com/n"}])
    findings = list(check_gates(replace(CR, gates=("Snapshot",)), hosts, False))
    assert len({finding.fix for finding in findings}) == 1
    assert '["Snapshot","Sidecar","HostDevices"]' in findings[0].fix


def test_a_gates_name_cannot_end_the_command() -> None:
    finding = find(replace(CR, gates=("x'; reboot; '",)), GPUS, "Sidecar")
    assert """x'"'"'; reboot; '"'"'""" in finding.fix


def test_a_gate_in_both_lists_is_an_error() -> None:
    both = replace(CR, gates=("Sidecar", "Plugins"), disabled_gates=("Plugins",))
    assert [f.fix for f in check_gates(both, GPUS, False) if f.severity == "error"] == [
        "take it out of one"
    ]
