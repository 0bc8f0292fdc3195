"""Any bytes as what an administrator gives to `doctor`: what `kubectl get -o yaml` prints, a node.

A VM's owner writes much of it: names, annotations, a sidecar's arguments.
"""

import json
import shlex
from dataclasses import replace

from fuzz import doctornode
from fuzz.domain import check_refusal
from fuzz.target import CASES, REPOSITORY, Target

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
from launcher_hook.doctor.vmfacts import KINDS, parse_vm
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


IN_ORDER = _facts()
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
