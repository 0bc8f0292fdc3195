"""What kubectl prints is taken in every form that it has; anything else is refused."""

import json
from fractions import Fraction
from typing import Any

import pytest
import yaml

from launcher_hook.deviceplugin.selection import MdevSelector, PciSelector
from launcher_hook.doctor.clusterfacts import (
    ClusterNode,
    KubeVirt,
    Permitted,
    parse_cluster_node,
    parse_kubevirt,
    parse_pod,
)
from launcher_hook.doctor.manifest import find_objects
from launcher_hook.errors import InputError

NODE: dict[str, Any] = {"kind": "Node", "metadata": {"name": "a"}}
R = "nvidia.com/TU106"


def find(text: str) -> list[dict[str, Any]]:
    return find_objects(text.encode(), "f", ("Node",), "kubectl get nodes")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(NODE),
        yaml.safe_dump(NODE),
        yaml.safe_dump_all([{"kind": "Other"}, NODE]),
        json.dumps({"kind": "List", "items": [NODE]}),
        json.dumps({"kind": "NodeList", "items": [{"metadata": {"name": "a"}}]}),
        "\ufeff" + json.dumps(NODE),
    ],
    ids=["json", "yaml", "documents", "List", "NodeList", "byte order mark"],
)
def test_every_form_is_taken(text: str) -> None:
    assert find(text) == [NODE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: it holds nothing, and no Node; give the output of 'kubectl get nodes -o yaml'"),
        ("kind: Pod", "f: it holds 'Pod', and no Node; "),
        ("[1]", "f: it holds a list, and no Node; "),
        ("{", "f: it is not JSON: .*; give the output of 'kubectl get nodes -o json'"),
        ("a: [", "f: it is not YAML: .*; give a Node manifest"),
        ('{"kind": "List", "items": []}', "f: it holds nothing, and no Node"),
        ('{"kind": "List", "items": 1}', "f: it holds 'List', and no Node"),
    ],
)
def test_what_holds_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find(text)


def test_aliases_of_aliases_do_not_unfold() -> None:
    levels = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    entries = "[{pciVendorSelector: *l29, resourceName: *l29}]"
    text = (
        f"kind: KubeVirt\nx:\n  l0: &l0 [lol]\n{levels}spec: {{configuration: "
        f"{{permittedHostDevices: {{pciHostDevices: {entries}, usb: {entries}}}, "
        "developerConfiguration: {featureGates: [*l29]}}}\n"
    )
    (cr,) = find_objects(text.encode(), "f", ("KubeVirt",), "kubectl get kubevirt")
    kubevirt = parse_kubevirt(cr, "f")
    assert kubevirt.permitted is not None
    assert len(kubevirt.permitted[1].resource) < 1000
    assert len(str(kubevirt.permitted[0].fault)) < 1000
    with pytest.raises(InputError, match="is no quantity"):
        parse_cluster_node({"status": {"capacity": {R: cr["x"]["l29"]}}}, "f")


def test_a_kubevirt_cr_is_read() -> None:
    cr = {
        "kind": "KubeVirt",
        "metadata": {"name": "kv", "namespace": "cnv"},
        "spec": {
            "configuration": {
                "developerConfiguration": {"featureGates": ["A"], "disabledFeatureGates": ["B"]},
                "permittedHostDevices": {
                    "pciHostDevices": [
                        {"pciVendorSelector": "10DE:1F08", "resourceName": R, "newer": 1,
                         "externalResourceProvider": True},
                        {"pciVendorSelector": "1", "resourceName": "a b"},
                    ],
                    "mediatedDevices": [{"mdevNameSelector": "GRID T4", "resourceName": "n/T4"}],
                    "usb": [{"resourceName": "kubevirt.io/key"}],
                },
                "supportContainerResources": [
                    {"type": "virtiofs", "resources": {"limits": {"memory": "1"}}},
                    {"type": "sidecar", "resources": {"limits": {"memory": "96M"}}},
                ],
            }
        },
        "status": {"observedKubeVirtVersion": "v1.9.0-rc.1"},
    }  # fmt: skip
    kubevirt = parse_kubevirt(cr, "f")
    place = "kubevirt/kv: permittedHostDevices"
    assert kubevirt.permitted is not None
    first, broken, mdev, usb = kubevirt.permitted
    where = f"{place}.pciHostDevices[0]"
    assert first == Permitted(where, R, True, PciSelector(where, R, 0x10DE, 0x1F08))
    assert broken.selector is None
    assert "'1' is no vendor and device id" in str(broken.fault)
    where = f"{place}.mediatedDevices[0]"
    assert mdev == Permitted(
        where, "n/T4", False, MdevSelector(where, "n/T4", "GRID_T4", external=False)
    )
    assert usb == Permitted(f"{place}.usb[0]", "kubevirt.io/key", False)
    assert (kubevirt.namespace, kubevirt.name, kubevirt.version) == ("cnv", "kv", (1, 9))
    assert (kubevirt.gates, kubevirt.disabled_gates) == (("A",), ("B",))
    assert kubevirt.sidecar_limits == {"memory": 96_000_000}


def test_an_absent_list_of_permitted_devices_is_another_thing_than_an_empty_one() -> None:
    assert parse_kubevirt({}, "f") == KubeVirt("f")
    cr = {"spec": {"configuration": {"permittedHostDevices": {}}}}
    assert parse_kubevirt(cr, "f").permitted == ()


def test_a_node_is_read_with_its_extended_resources_alone() -> None:
    amounts = {"cpu": "64", "memory": "1Gi", "devices.kubevirt.io/kvm": "1k", R: "4",
               "attachable-volumes.kubernetes.io/x": "1"}  # fmt: skip
    document = {
        **NODE,
        "spec": {"unschedulable": True},
        "status": {"capacity": amounts, "allocatable": {**amounts, R: "3"}},
    }
    kvm = {"devices.kubevirt.io/kvm": Fraction(1000)}
    assert parse_cluster_node(document, "f") == ClusterNode(
        "node/a", {**kvm, R: Fraction(4)}, {**kvm, R: Fraction(3)}, is_cordoned=True
    )


@pytest.mark.parametrize(
    ("parse", "document", "message"),
    [
        (parse_kubevirt, {"spec": []}, "f: spec: \\[\\] is not a mapping; give it as kubectl"),
        (
            parse_kubevirt,
            {"spec": {"configuration": {"permittedHostDevices": {"usb": {}}}}},
            "f: usb: {} is not a list",
        ),
        (
            parse_kubevirt,
            {"spec": {"configuration": {"permittedHostDevices": {"usb": [1]}}}},
            r"f: usb\[0\]: 1 is not a mapping",
        ),
        (
            parse_cluster_node,
            {"status": {"capacity": {R: "many"}}},
            f"f: {R}: 'many' is no quantity; write e.g. 64M",
        ),
        (parse_pod, {"spec": {"containers": [{"name": [], "args": 1}]}}, "args: 1 is not a list"),
        (parse_pod, {"spec": {"containers": "x"}}, "f: containers: 'x' is not a list"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(
    parse: Any, document: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse(document, "f")
