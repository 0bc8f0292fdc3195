"""``launcher-hook doctor`` as a user runs it: what is looked at, what is printed, exit status."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from doctored import DOMAIN, SIDECARS, node_with_proc, of, roots, severe, vmi
from hosttree import rebind
from kubernetes import uncommented
from pluginnode import RESOURCE, Node

from launcher_hook.cli import main

MANIFESTS = Path(__file__).parent.parent / "sidecar-image/manifests"
CR, VM = MANIFESTS / "kubevirt.yaml", MANIFESTS / "vm.yaml"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return node_with_proc(tmp_path)


def test_a_node_in_order_is_no_error(node: Node, doctor: Any) -> None:
    status, findings = doctor(*roots(node))
    assert status == 0
    fine = {finding["check"] for finding in findings if finding["severity"] == "ok"}
    assert fine == {"IOMMU", "vfio-pci", "/dev/vfio", "devices", "groups", "memlock", "names"}
    unchecked = {f["check"] for f in findings if f["severity"] == "not checked"}
    assert unchecked == {"KubeVirt CR", "kubelet", "the VM", "launcher pod", "domain"}


def test_the_table_has_what_is_wrong_first_and_what_could_not_be_checked_last(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    rebind(node.sysfs, "0000:04:00.0", "nvidia")
    assert main(["doctor", *roots(node)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ("error        devices       0000:04:00.0 (10de:1f08): bound to 'nvidia'")
    assert lines[1].startswith("                           -> bind to vfio-pci: for f in ")
    assert lines[-2].startswith("not checked  domain        what the hook makes of it: give ")
    assert lines[-1] == "1 error, 0 warnings, 7 fine, 5 not checked"


def test_this_machine_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--node"])
    assert status == (1 if "\nerror" in f"\n{capsys.readouterr().out}" else 0)


def test_a_copy_of_sys_alone_leaves_dev_and_proc_unchecked(node: Node, doctor: Any) -> None:
    for group in range(40, 44):
        (node.dev / f"vfio/{group}").unlink()
    status, findings = doctor("--sysfs", node.sysfs)
    assert status == 0
    unchecked = {f["check"] for f in findings if f["severity"] == "not checked"}
    assert {"/dev/vfio", "memlock"} <= unchecked


def test_a_snapshot_stands_for_a_node_and_its_dev(
    node: Node, doctor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.json"
    (node.dev / "vfio/41").unlink()
    assert main(["discover", *roots(node)[:4], "--snapshot", str(file)]) == 0
    capsys.readouterr()
    status, findings = doctor("--sysfs", file, "--pci-ids", node.names)
    (finding,) = severe(findings)
    assert status == 1
    assert finding["what"] == "there is no /dev/vfio/41"
    assert of(findings, "memlock")[0]["severity"] == "not checked"


def test_a_snapshot_without_any_device_node_says_nothing_of_them(
    node: Node, doctor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.json"
    options = ["--sysfs", str(node.sysfs), "--dev", str(tmp_path / "none")]
    assert main(["discover", *options, "--snapshot", str(file)]) == 0
    assert "there is no /dev/vfio/40" in capsys.readouterr().out
    assert main(["discover", "--sysfs", str(file)]) == 0
    out = capsys.readouterr().out
    assert "4 offered, 4 healthy" in out
    assert out.endswith("not checked: device nodes, of which the snapshot has none; give --dev\n")
    status, findings = doctor("--sysfs", file)
    assert (status, of(findings, "/dev/vfio")[0]["severity"]) == (0, "not checked")
    assert {f["where"] for f in of(findings, "IOMMU")} == {f"{file}: IOMMU groups"}
    assert {f["where"] for f in of(findings, "vfio-pci")} == {f"{file}: drivers"}


def test_a_configuration_that_leaves_all_to_kubevirt_is_said_to(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    text = (MANIFESTS / "device-plugin/config.yaml").read_text()
    config.write_text(text.replace("externalResourceProvider: true", ""))
    status, findings = doctor(*roots(node), "--plugin-config", config)
    assert status == 0
    (finding,) = of(findings, "devices")
    assert finding["where"] == f"{config}: pciHostDevices[0]"
    assert "it has no 'externalResourceProvider: true'" in finding["what"]
    config.write_text("selectors: [{vendor: '1af4', resourceName: a.com/x}]")
    _, findings = doctor(*roots(node), "--plugin-config", config)
    assert "into the --plugin-config" in of(findings, "devices")[0]["fix"]


def test_the_cr_says_which_functions_are_for_vms_whoever_offers_them(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    cr = tmp_path / "cr.yaml"
    cr.write_text(CR.read_text().replace("externalResourceProvider: true", ""))
    rebind(node.sysfs, "0000:04:00.0", "nvidia")
    status, findings = doctor(*roots(node), "--kubevirt-cr", cr)
    assert status == 1
    assert of(findings, "devices")[0]["what"] == "bound to 'nvidia'"
    assert [f["severity"] for f in of(findings, "provider")] == ["warning"]


def test_a_selector_that_matches_nothing_on_the_node_is_told(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "selectors:\n- {vendor: '1002', resourceName: a.com/x}\n- {vendor: 10de:1f08}\n"
    )
    _, findings = doctor(*roots(node), "--plugin-config", config)
    (finding,) = [f for f in of(findings, "devices") if f["severity"] == "warning"]
    assert finding["where"] == f"{config}: selectors[0] (a.com/x)"
    assert finding["what"] == "it matches no function of this node"


def test_a_configuration_that_the_plugin_would_refuse_is_an_error(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("selectors: [{vendor: x}]")
    status, findings = doctor(*roots(node), "--plugin-config", config)
    assert status == 1
    (finding,) = of(findings, "plugin config")
    assert "'x' is no vendor" in finding["what"]
    assert of(findings, "devices")[0]["severity"] == "not checked"


def test_other_vendors_are_looked_at_where_they_are_named(node: Node, doctor: Any) -> None:
    _, findings = doctor(*roots(node), "--vendor", "1002")
    (finding,) = of(findings, "devices")
    assert finding["severity"] == "warning"
    assert "0000:04:00.0 (10de:1f08)" in finding["what"]


def test_our_manifests_are_in_order_with_a_node_that_has_the_devices(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    nodes = tmp_path / "nodes.json"
    amounts = {RESOURCE: "4", "nvidia.com/GRID_T4-1Q": "1"}
    status = {"capacity": amounts, "allocatable": amounts}
    items = [{"kind": "Node", "metadata": {"name": "a"}, "status": status}]
    nodes.write_text(json.dumps({"kind": "List", "items": items}))
    config = MANIFESTS / "device-plugin/config.yaml"
    cr = tmp_path / "cr.yaml"
    cr.write_text(uncommented(CR.read_text()))
    cluster = ["--kubevirt-cr", cr, "--node-object", nodes, "--vmi", VM]
    done, findings = doctor(*cluster, *roots(node))
    assert done == 0
    assert {f["check"] for f in findings if f["severity"] == "ok"} >= {
        "feature gates", "permitted", "provider", "kubelet", "VMI", "sidecar", "configuration",
        "memlock", "sidecar limits", "names",
    }  # fmt: skip
    (finding,) = [f for f in of(findings, "sidecar") if f["severity"] == "warning"]
    assert finding["what"].endswith("nodes look for docker.io/library/launcher-hook:0.1.0")
    done, findings = doctor(*cluster, "--plugin-config", config)
    (mdev,) = [f for f in of(findings, "provider") if f["severity"] != "ok"]
    assert (done, mdev["severity"]) == (0, "warning")
    assert "'nvidia.com/GRID_T4-1Q' is left to an external provider" in mdev["what"]


def test_what_discovery_names_is_compared_with_what_a_vm_asks_for(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    manifest = tmp_path / "vm.yaml"
    manifest.write_text(VM.read_text().replace("REV__A", "REV_A"))
    _, findings = doctor(*roots(node), "--vmi", manifest)
    (finding,) = of(severe(findings), "provider")
    assert finding["fix"] == f"write one name on both sides, e.g. {RESOURCE}"


def test_a_fault_of_a_permitted_entry_is_an_error(doctor: Any, tmp_path: Path) -> None:
    cr = tmp_path / "cr.yaml"
    cr.write_text(CR.read_text().replace('"10DE:1F08"', '"10DE"'))
    status, findings = doctor("--kubevirt-cr", cr)
    assert status == 1
    assert "'10DE' is no vendor and device id" in of(severe(findings), "permitted")[0]["what"]


def test_what_the_hook_refuses_of_a_vm_is_an_error(doctor: Any, tmp_path: Path) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS)
    manifest.write_text(manifest.read_text().replace("gpu1", "gpu0"))
    status, findings = doctor("--vmi", manifest, "--domain", DOMAIN)
    assert status == 1
    (finding,) = of(findings, "VMI")
    assert "the name 'gpu0' is that of spec.domain.devices.gpus[0]" in finding["what"]
    assert of(findings, "domain")[0]["severity"] == "not checked"


def test_a_vm_that_asks_for_nothing_is_a_warning(doctor: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "vmi.yaml"
    manifest.write_text("kind: VirtualMachineInstance\nspec: {}\n")
    _, findings = doctor("--vmi", manifest)
    assert of(findings, "VMI")[0]["severity"] == "warning"


def test_a_claim_is_counted_among_the_devices(doctor: Any, tmp_path: Path) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS)
    text = manifest.read_text()
    manifest.write_text(text.replace(f"deviceName: {RESOURCE}", "claimName: c", 1))
    _, findings = doctor("--vmi", manifest)
    assert of(findings, "VMI")[0]["what"] == f"it asks for 1 {RESOURCE}, 1 claim"


def test_a_configuration_annotation_that_the_hook_refuses_is_an_error(
    doctor: Any, tmp_path: Path
) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS, config="layout: root-prt")
    status, findings = doctor("--vmi", manifest, "--domain", DOMAIN)
    assert status == 1
    (finding,) = of(findings, "configuration")
    assert "'root-prt' is not allowed" in finding["what"]
    assert of(findings, "domain")[0]["fix"] == "mend the VM first"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--no-such-option"], "there is no option '--no-such-option'; take it out"),
        (["--set", "layout=x"], "'x' is not allowed"),
        (["--env", "PCI_RESOURCE_X=1"], "'1' is not a PCI address"),
        (["--rom-dir", "roms"], "'roms' is no directory to be allowed"),
        (["serve"], "'serve' is in the image's entry point already"),
        (["--help"], "they ask for help"),
    ],
)
def test_a_sidecars_arguments_are_tried(
    doctor: Any, tmp_path: Path, args: list[str], what: str
) -> None:
    sidecars = json.dumps([{"image": "launcher-hook:1", "args": args}])
    status, findings = doctor("--vmi", vmi(tmp_path / "vmi.yaml", sidecars=sidecars))
    assert status == 1
    assert what in of(findings, "sidecar")[0]["what"]


def test_a_pod_is_looked_at_and_may_come_from_stdin(
    doctor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "containers": [
                {"name": "compute", "resources": {"limits": {RESOURCE: "2"}}},
                {"name": "hook-sidecar-0", "image": "launcher-hook:1",
                 "resources": {"limits": {"memory": "32M"}}},
            ]
        },
    }  # fmt: skip
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(pod).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    status, findings = doctor("--pod", "-", "--vmi", VM)
    assert status == 1
    (finding,) = severe(findings)
    assert finding["where"] == "pod/p: hook-sidecar-0"
    assert finding["what"] == "its limit of memory is 32M, and it is made for 64M"


def test_a_pod_with_the_plugins_container_needs_its_gate(doctor: Any, tmp_path: Path) -> None:
    pod = tmp_path / "pod.json"
    container = {"name": "h", "image": "launcher-hook", "args": ["--plugin-socket", "/x"]}
    pod.write_text(json.dumps({"kind": "Pod", "spec": {"containers": [container]}}))
    cr = tmp_path / "cr.yaml"
    cr.write_text("kind: KubeVirt\nstatus: {observedKubeVirtVersion: v1.9.0}\n")
    status, findings = doctor("--pod", pod, "--kubevirt-cr", cr)
    assert status == 1
    assert of(findings, "feature gates")[0]["what"].startswith("Plugins is closed")
    assert of(findings, "permitted")[0]["severity"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "doctor: there is nothing to look at; give --node on a node, or files: "),
        (["--vmi", "-", "--pod", "-"], "--pod -: stdin is --vmi already; give one of the two"),
        (["--vmi", "/nonexistent"], "/nonexistent: it cannot be read: No such file"),
        (["--vmi", CR], "it holds 'KubeVirt', and no VirtualMachineInstance or VirtualMachine"),
        (["--kubevirt-cr", VM], "it holds 'VirtualMachine', and no KubeVirt"),
        (["--domain", "/nonexistent"], "/nonexistent: it cannot be read"),
        (["--sysfs", "/nonexistent"], "there is no bus/pci/devices below it; give a node's /sys"),
        (["--vendor", "1002", "--kubevirt-cr", CR], "--kubevirt-cr says already what is for VMs"),
        (["--class", "02", "--plugin-config", CR], "--class: --plugin-config says already"),
        (["--domain", DOMAIN, "--set", "layout=x"], "--set layout=x: layout: 'x' is not allowed"),
        (["--domain", DOMAIN, "--env", "x"], "--env x: 'x' is not NAME=VALUE"),
        (["--domain", DOMAIN, "--schema-version", "1"], "there are no libvirt schemas of version"),
        (["--node", "--pci-ids", "/nonexistent"], "/nonexistent: it cannot be read"),
    ],
)
def test_what_cannot_be_read_is_bad_input(
    capsys: pytest.CaptureFixture[str], arguments: list[str | Path], message: str
) -> None:
    assert main(["doctor", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line


def test_two_objects_where_one_is_meant_are_bad_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    both = tmp_path / "both.yaml"
    both.write_text(f"{VM.read_text()}\n---\n{VM.read_text()}")
    assert main(["doctor", "--vmi", str(both)]) == 2
    assert "it holds 2 of kind VirtualMachineInstance or Virt" in capsys.readouterr().err


def test_a_hostile_name_stays_on_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars='[{"image": "\\u001b[2Jx\\n"}]')
    assert main(["doctor", "--vmi", str(manifest)]) == 0
    assert "\x1b" not in capsys.readouterr().out
