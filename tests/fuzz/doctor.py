"""Any bytes as what an administrator gives to `doctor`: what `kubectl get -o yaml` prints, a node.

A VM's owner writes much of it: names, annotations, a sidecar's arguments.
"""

import json
import shlex
from dataclasses import replace

from fuzz import doctornode
from fuzz.domain import check_refusal
from fuzz.target import CASES, REPOSITORY, Target

from launcher_hook.doctor.claimfacts import parse_claim, parse_slice
from launcher_hook.doctor.claims import ClaimFacts
from launcher_hook.doctor.clusterfacts import (
    KubeVirt,
    parse_cluster_node,
    parse_kubevirt,
    parse_pod,
)
from launcher_hook.doctor.examine import Facts, examine
from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.gather import check_arguments
from launcher_hook.doctor.manifest import find_objects
from launcher_hook.doctor.plugins import is_plugin, parse_plugin
from launcher_hook.doctor.report import print_json, print_table
from launcher_hook.doctor.vmfacts import KINDS, VmFacts, parse_vm
from launcher_hook.errors import HookError

MANIFESTS = REPOSITORY / "sidecar-image" / "manifests"
RESOURCE = "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"
HOOK_LIMITS = '{"cpu": "200m", "memory": "64M"}'
NODES = f"""
{{"kind": "NodeList", "items": [
  {{"metadata": {{"name": "a"}},
    "status": {{"allocatable": {{"{RESOURCE}": "2", "cpu": "8", "memory": "64Gi"}},
                "capacity": {{"{RESOURCE}": "3"}}}}}},
  {{"metadata": {{"name": "b"}}, "status": {{"allocatable": {{"{RESOURCE}": "0"}}}}}}]}}
""".encode()
POD = f"""
{{"kind": "Pod", "metadata": {{"name": "virt-launcher-vm-abcde", "namespace": "default"}},
  "spec": {{"containers": [
    {{"name": "compute", "resources": {{"limits": {{"{RESOURCE}": "2"}}}}}},
    {{"name": "hook-sidecar-0", "image": "x/launcher-hook:1", "resources": {{"limits": {HOOK_LIMITS}}}}}]}},
  "status": {{"phase": "Pending",
    "conditions": [{{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}}],
    "containerStatuses": [{{"name": "hook-sidecar-0", "restartCount": 1,
      "lastState": {{"terminated": {{"reason": "OOMKilled", "exitCode": 137}}}}}}]}}}}
""".encode()  # noqa: E501


VM_OF_CLAIMS = b"""
{"kind": "VirtualMachineInstance", "metadata": {"name": "vm", "namespace": "default"},
  "spec": {"resourceClaims": [{"name": "c", "resourceClaimName": "gpus"}],
    "domain": {"devices": {"gpus": [{"name": "g", "claimName": "c", "requestName": "r"}]}}}}
"""
CLAIM = b"""
{"kind": "ResourceClaim", "metadata": {"name": "gpus", "namespace": "default"},
  "spec": {"devices": {"requests": [{"name": "r", "exactly": {"count": 1}}]}},
  "status": {"reservedFor": [{"resource": "pods", "name": "virt-launcher-vm-abcde"}],
    "allocation": {"devices": {"results": [
      {"request": "r", "driver": "gpu.example.com", "pool": "p", "device": "gpu-0"}]}}}}
"""
SLICE = b"""
{"kind": "ResourceSlice", "metadata": {"name": "s"},
  "spec": {"driver": "gpu.example.com", "pool": {"name": "p"}, "devices": [{"name": "gpu-0",
    "attributes": {"resource.kubernetes.io/pciBusID": {"string": "0000:86:00.0"}}}]}}
"""


def check(data: bytes) -> None:
    """Refused in one sentence, or findings that a terminal, a program and a shell can take.

    The first byte says what it is; the others of its cluster are in order.
    """
    try:
        facts = _read(data[:1], data[1:])
    except HookError as error:
        check_refusal(error)
        return
    findings = examine(facts)
    for line in print_table(findings).splitlines():
        assert line.isprintable(), line
    assert len(json.loads(print_json(findings))["findings"]) == len(findings)
    for finding in findings:
        _check_finding(finding)


def _read(kind: bytes, content: bytes) -> Facts:
    match kind:
        case b"k":
            (document, *_) = find_objects(content, "file", ("KubeVirt",), "kubectl")
            return replace(IN_ORDER, kubevirt=parse_kubevirt(document, "file"))
        case b"n":
            nodes = find_objects(content, "file", ("Node",), "kubectl")
            return replace(IN_ORDER, nodes=tuple(parse_cluster_node(n, "file") for n in nodes))
        case b"s":
            node = doctornode.read(content)
            return replace(IN_ORDER, node=node, selection=doctornode.SELECTION)
        case b"g":
            found = find_objects(content, "file", ("Plugin",), "kubectl", may_be_none=True)
            plugins = tuple(parse_plugin(plugin, "file") for plugin in found if is_plugin(plugin))
            return replace(PLUGGED, plugins=plugins)
        case b"p":
            pods = find_objects(content, "file", ("Pod",), "kubectl")
            return replace(IN_ORDER, pods=tuple(parse_pod(pod, "file") for pod in pods))
        case b"c":
            claims = find_objects(content, "file", ("ResourceClaim",), "kubectl")
            facts = replace(CLAIMS, claims=tuple(parse_claim(claim, "file") for claim in claims))
            return replace(IN_ORDER, vm=OF_CLAIMS, claims=facts)
        case b"l":
            slices = find_objects(content, "file", ("ResourceSlice",), "kubectl")
            devices = tuple(device for part in slices for device in parse_slice(part, "file"))
            return replace(IN_ORDER, vm=OF_CLAIMS, claims=replace(CLAIMS, slices=devices))
    (document, *_) = find_objects(content, "file", KINDS, "kubectl")
    return replace(IN_ORDER, vm=parse_vm(document, "file"))


def _check_finding(finding: Finding) -> None:
    """What is wrong has something to do about it, and a command in it is one command."""
    assert finding.what, finding
    assert finding.fix or finding.severity == "ok", finding
    if finding.fix.startswith("kubectl -n"):
        words = shlex.shlex(finding.fix, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        assert not any(set(word) <= set("();<>|&") for word in words), finding.fix


def _facts() -> Facts:
    (kubevirt,) = find_objects(_manifest("kubevirt.yaml"), "file", ("KubeVirt",), "kubectl")
    (vm,) = find_objects(_manifest("vm.yaml"), "file", KINDS, "kubectl")
    nodes = find_objects(NODES, "file", ("Node",), "kubectl")
    (pod,) = find_objects(POD, "file", ("Pod",), "kubectl")
    return Facts(
        takes_arguments=check_arguments,
        kubevirt=parse_kubevirt(kubevirt, "file"),
        vm=parse_vm(vm, "file"),
        nodes=tuple(parse_cluster_node(node, "file") for node in nodes),
        pods=(parse_pod(pod, "file"),),
    )


def _manifest(name: str) -> bytes:
    return (MANIFESTS / name).read_bytes()


def _claims() -> tuple[VmFacts, ClaimFacts]:
    (vm,) = find_objects(VM_OF_CLAIMS, "file", KINDS, "kubectl")
    (claim,) = find_objects(CLAIM, "file", ("ResourceClaim",), "kubectl")
    (part,) = find_objects(SLICE, "file", ("ResourceSlice",), "kubectl")
    return parse_vm(vm, "file"), ClaimFacts(
        (parse_claim(claim, "file"),), parse_slice(part, "file")
    )


IN_ORDER = _facts()
OF_CLAIMS, CLAIMS = _claims()
PLUGGED = replace(IN_ORDER, kubevirt=KubeVirt("kv", gates=("Plugins",), releases=("v1.9.0",)))


def seeds() -> list[bytes]:
    """The manifests that we ship, and small ones of the others."""
    vmis = [path.read_bytes() for path in sorted(CASES.glob("*/vmi.json"))][:6]
    closed = _manifest("kubevirt.yaml").replace(b"- Sidecar", b"- sidecar")
    return [
        *(b"k" + content for content in (_manifest("kubevirt.yaml"), closed)),
        *(b"v" + content for content in (_manifest("vm.yaml"), _manifest("vmi.yaml"), *vmis)),
        b"n" + NODES,
        b"p" + POD,
        b"p" + POD.replace(b'"resources": {', b'"resources": {"claims": [{"name": "c"}], ', 1),
        b"v" + VM_OF_CLAIMS,
        b"c" + CLAIM,
        b"l" + SLICE,
        b"g" + _manifest("plugin.yaml"),
        b'g{"kind": "List", "items": []}',
        *(b"s" + node for node in doctornode.seeds()),
    ]


WORDS = doctornode.WORDS + [
    word.encode()
    for word in (
        "hooks.kubevirt.io/hookSidecars: '[{}]'",
        '"args": ["--set", "layout=x"]',
        '"command": ["launcher-hook"]',
        '"image": "launcher-hook:1"',
        "passthrough.launcher-hook.io/config: ",
        "featureGates: ",
        "Sidecar",
        "HostDevices",
        "observedKubeVirtVersion: v1.9.0",
        "permittedHostDevices:",
        "externalResourceProvider: ",
        "memory: ",
        "12Ei",
        "1e999999",
        "-1m",
        "NaN",
        "claimName: a",
        '"request": "r/s"',
        '"allocationMode": "All"',
        '"firstAvailable": [{"name": "s"}]',
        '"basic": {"attributes": {}}',
        '"mdevUUID": {"string": "4b20d080-1b54-4048-85b3-a6a62d165c01"}',
        "gpus: ",
        "hostDevices: ",
        "kind: List",
        "items: ",
        "name: ",
        "namespace: ';x'",
        "metadata:",
        "null",
        "[]",
        "{}",
        "&a ",
        "*a",
        "\n",
        "\n- ",
        "  ",
        "---\n",
        "'",
        '"',
        "\x1b[31m",
        "\u202e",
        "\U0001f600",
        "\ud7ff",
    )
]

TARGET = Target("doctor", check, seeds, WORDS, ("doctor", "vmi"))
