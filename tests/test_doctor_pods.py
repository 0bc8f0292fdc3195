"""The launcher pod and the limits of its hook: found, fine, not known."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from launcher_hook.doctor.clusterfacts import Container, KubeVirt, LauncherPod, parse_pod
from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.pods import check_coming_limits, check_pod, runs_plugin
from launcher_hook.doctor.quantity import parse_quantity
from launcher_hook.doctor.vmfacts import VmFacts, parse_vm
from launcher_hook.model import ClaimRequest, PodClaim

R = "nvidia.com/TU106"
NOBODY: Counter[str] = Counter()


def limits(memory: str = "64M", cpu: str = "200m") -> dict[str, Fraction]:
    return {"memory": parse_quantity(memory), "cpu": parse_quantity(cpu)}


HOOK = Container("hook-sidecar-0", "registry/launcher-hook:1", limits=limits())
POD = LauncherPod("pod/p", (Container("compute", limits={R: Fraction(2)}), HOOK))


def pod(**changes: Any) -> LauncherPod:
    return replace(POD, containers=(POD.containers[0], replace(HOOK, **changes)))


def bad(
    facts: LauncherPod, wanted: Counter[str] = NOBODY, *, nodes_known: bool = False
) -> list[Finding]:
    found = check_pod(facts, wanted, nodes_known)
    return [finding for finding in found if finding.severity != "ok"]


def test_a_hook_with_room_enough_is_fine() -> None:
    (finding,) = check_pod(POD, Counter({R: 2}), nodes_known=False)
    assert (finding.severity, finding.where) == ("ok", "pod/p: hook-sidecar-0")
    assert finding.what == "64M memory and 200m cpu"
    (finding,) = check_pod(pod(limits={}), NOBODY, nodes_known=False)
    assert finding.what == "no limits"


@pytest.mark.parametrize(
    ("given", "severity", "what"),
    [
        (limits(memory="63M"), "error", "its limit of memory is 63M, and it is made for 64M"),
        (limits(memory="32Mi"), "error", "its limit of memory is 33.5544M"),
        (limits(cpu="0.1"), "warning", "its limit of cpu is 100m, and it is made for 200m"),
    ],
)
def test_too_little_memory_is_an_error_and_too_little_cpu_a_warning(
    given: dict[str, Fraction], severity: str, what: str
) -> None:
    (finding,) = bad(pod(limits=given))
    assert finding.severity == severity
    assert what in finding.what
    assert "supportContainerResources: [{type: sidecar" in finding.fix


def test_a_hook_that_was_killed_for_its_memory_is_an_error() -> None:
    (finding,) = bad(pod(out_of_memory=True, restarts=3))
    assert finding.severity == "error"
    assert "it was killed for its memory, with 64M memory and 200m cpu" in finding.what
    assert "{memory: 96M}" in finding.fix


def test_a_hook_that_was_started_again_is_a_warning() -> None:
    (finding,) = bad(pod(restarts=1))
    assert (finding.severity, finding.what) == ("warning", "it was started 2 times")


def test_a_pod_without_the_hook_is_an_error() -> None:
    (finding,) = bad(replace(POD, containers=POD.containers[:1]))
    assert finding.severity == "error"
    assert "none of its containers is the hook: compute" in finding.what
    (finding,) = bad(replace(POD, containers=()))
    assert finding.what == "it has no containers"


def test_another_sidecars_limits_do_not_count_where_ours_is_known() -> None:
    other = Container("hook-sidecar-1", "other", limits=limits(memory="16M"))
    assert not bad(replace(POD, containers=(*POD.containers, other)))
    assert len(bad(replace(POD, containers=(other,)))) == 1


def test_a_pod_that_no_node_takes_says_why() -> None:
    waiting = replace(POD, unscheduled="0/3 nodes are available")
    (finding,) = bad(waiting)
    assert finding.what == "no node takes it: 0/3 nodes are available"
    assert finding.fix.startswith("give the nodes")
    (finding,) = bad(waiting, nodes_known=True)
    assert finding.fix.startswith("see what kubelet's findings say")


def test_a_pod_must_have_what_its_vm_asks_for() -> None:
    (finding,) = bad(POD, Counter({R: 3}))
    assert finding.what == f"the VM asks for 3 {R}, and it has 2"
    (finding,) = bad(POD, Counter({"a.com/x": 1}))
    assert (finding.where, finding.severity) == ("pod/p: compute", "error")


def test_a_pod_is_read_as_kubernetes_writes_it() -> None:
    document = {
        "kind": "Pod",
        "metadata": {"name": "virt-launcher-vm", "namespace": "default"},
        "spec": {
            "resourceClaims": [
                {"name": "a", "resourceClaimTemplateName": "t"},
                {"name": "b", "resourceClaimName": "c"},
            ],
            "initContainers": [
                {"name": "ends"},
                {
                    "name": "plugin", "image": "i", "restartPolicy": "Always",
                    "args": ["--plugin-socket", "/x"],
                },
            ],
            "containers": [
                {
                    "name": "compute",
                    "resources": {
                        "limits": {R: "2"},
                        "claims": [{"name": "a", "request": "r"}, {"name": "b"}],
                    },
                }
            ],
        },
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "Insufficient x"}
            ],
            "resourceClaimStatuses": [{"name": "a", "resourceClaimName": "virt-launcher-vm-1"}],
            "initContainerStatuses": [
                {
                    "name": "plugin", "restartCount": 2,
                    "lastState": {"terminated": {"reason": "OOMKilled"}},
                }
            ],
        },
    }  # fmt: skip
    facts = parse_pod(document, "pod.yaml")
    assert facts == LauncherPod(
        "pod/virt-launcher-vm",
        (
            Container("plugin", "i", ("--plugin-socket", "/x"), {}, 2, True),
            Container(
                "compute",
                limits={R: Fraction(2)},
                claims=(ClaimRequest("a", "r"), ClaimRequest("b", "")),
            ),
        ),
        "Insufficient x",
        "virt-launcher-vm",
        "default",
        {"a": PodClaim(template="t"), "b": PodClaim(claim="c")},
        {"a": "virt-launcher-vm-1"},
    )
    assert runs_plugin(facts)
    assert not runs_plugin(POD)


def vm(domain: dict[str, Any]) -> VmFacts:
    document = {"kind": "VirtualMachineInstance", "metadata": {"name": "vm"}}
    return parse_vm({**document, "spec": {"domain": domain}}, "vmi")


DEDICATED = vm({"cpu": {"dedicatedCpuPlacement": True}})
BURSTABLE = vm({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}})


@pytest.mark.parametrize(
    ("domain", "guaranteed"),
    [
        ({"cpu": {"dedicatedCpuPlacement": True}}, True),
        ({"resources": {"requests": {"cpu": 1, "memory": "1Gi"},
                        "limits": {"cpu": "1000m", "memory": "1024Mi"}}}, True),
        ({"resources": {"requests": {"cpu": 1}, "limits": {"cpu": 1, "memory": "1Gi"}}}, True),
        ({"resources": {"requests": {"cpu": 1}, "limits": {"cpu": 2, "memory": "1Gi"}}}, False),
        ({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}}, False),
        ({"resources": {"requests": {"memory": "lots"}}}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_kubevirts_own_limits_come_with_guaranteed_resources(
    domain: dict[str, Any], guaranteed: bool
) -> None:
    assert vm(domain).is_guaranteed is guaranteed


@pytest.mark.parametrize(
    ("domain", "locks"),
    [
        ({"devices": {"gpus": [{"name": "g", "deviceName": "a/b"}]}}, True),
        ({"devices": {"interfaces": [{"name": "n", "sriov": {}}]}}, True),
        ({"devices": {"interfaces": [{"name": "n", "bridge": {}}]}}, False),
        ({"cpu": {"realtime": {}}}, True),
        ({"launchSecurity": {"sev": {}}}, True),
        ({"memory": {"reservedOverhead": {"memLock": "Required"}}}, True),
        ({}, False),
    ],
)
def test_virt_handler_lifts_the_limit_of_locked_memory_for_some(
    domain: dict[str, Any], locks: bool
) -> None:
    assert vm(domain).locks_memory is locks


def test_without_a_pod_the_limits_are_those_that_it_will_have() -> None:
    (finding,) = check_coming_limits(KubeVirt("kv"), DEDICATED)
    assert (finding.severity, finding.what) == ("ok", "64M memory and 200m cpu")
    (finding,) = check_coming_limits(KubeVirt("kv"), BURSTABLE)
    assert finding.what == "no limits"
    small = KubeVirt("kv", sidecar_limits={"memory": Fraction(32_000_000)})
    for facts in (DEDICATED, BURSTABLE, None):
        (finding,) = check_coming_limits(small, facts)
        assert finding.severity == "error"
    (finding,) = check_coming_limits(None, DEDICATED)
    assert finding.severity == "not checked"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64M", 64_000_000), ("64Mi", 67_108_864), ("200m", Fraction(1, 5)), ("2", 2), (2, 2),
        ("1e3", 1000), ("1E3", 1000), ("2E", 2 * 10**18), (".5", Fraction(1, 2)),
        (0.5, Fraction(1, 2)),
    ],
)  # fmt: skip
def test_a_quantity_is_read_exactly(text: Any, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "M", "64 M", "64MB", "1e999", "9" * 400, None, [], "0x10"])
def test_what_is_no_quantity_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is no quantity; write e.g. 64M"):
        parse_quantity(text)
