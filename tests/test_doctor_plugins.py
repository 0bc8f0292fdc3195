"""Plugin objects on a KubeVirt that starts no VM with a PCI device beside one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from doctored import Findings, of

from launcher_hook.cli import main

MANIFESTS = Path(__file__).parent.parent / "sidecar-image/manifests"
SIDECARS = '[{"image": "registry.example/launcher-hook:1"}]'


def plugin(name: str = "somebody-elses", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "plugin.kubevirt.io/v1alpha1", "kind": "Plugin", "metadata": metadata,
            "spec": spec}  # fmt: skip


def kubevirt(
    observed: str | None = "v1.9.0",
    gates: tuple[str, ...] = ("Sidecar", "HostDevices", "Plugins"),
    target: str | None = None,
    permitted: dict[str, Any] | None = None,
) -> dict[str, Any]:
    status = {"observedKubeVirtVersion": observed, "targetKubeVirtVersion": target or observed}
    configuration: dict[str, Any] = {"developerConfiguration": {"featureGates": list(gates)}}
    if permitted is not None:
        configuration["permittedHostDevices"] = permitted
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {"configuration": configuration},
        "status": {key: value for key, value in status.items() if value is not None},
    }


def vmi(label: bool = False, sidecars: bool = False, **devices: Any) -> dict[str, Any]:
    labels = {"passthrough.launcher-hook.io/inject": "true"} if label else {}
    annotations = {"hooks.kubevirt.io/hookSidecars": SIDECARS} if sidecars else {}
    return {
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm", "labels": labels, "annotations": annotations},
        "spec": {"domain": {"devices": devices}},
    }


GPU = {"gpus": [{"name": "g", "deviceName": "nvidia.com/GH100"}]}
QAT = {"hostDevices": [{"name": "q", "deviceName": "intel.com/qat"}]}
CLAIM = {"gpus": [{"name": "g", "claimName": "c", "requestName": "r"}]}
SRIOV = {"interfaces": [{"name": "default", "masquerade": {}}, {"name": "net", "sriov": {}}]}
KEY = {"hostDevices": [{"name": "k", "deviceName": "kubevirt.io/key"}]}
VGPU = {"gpus": [{"name": "v", "deviceName": "nvidia.com/GRID_T4-1Q"}]}
PERMITTED = {
    "pciHostDevices": [{"pciVendorSelector": "10DE:2342", "resourceName": "nvidia.com/GH100"}],
    "mediatedDevices": [
        {"mdevNameSelector": "GRID T4-1Q", "resourceName": "nvidia.com/GRID_T4-1Q"}
    ],
    "usb": [{"resourceName": "kubevirt.io/key", "selectors": [{"vendor": "1", "product": "2"}]}],
}


@pytest.fixture
def examine(doctor: Any, tmp_path: Path) -> Any:
    """Run doctor over objects; give its findings about Plugin objects."""

    def run(
        cr: dict[str, Any] | None,
        plugins: list[dict[str, Any]] | None,
        vm: dict[str, Any] | None = None,
    ) -> Findings:
        arguments: list[str | Path] = []
        listed = None if plugins is None else {"kind": "List", "apiVersion": "v1", "items": plugins}
        for option, document in (("kubevirt-cr", cr), ("plugin-object", listed), ("vmi", vm)):
            if document is not None:
                path = tmp_path / f"{option}.yaml"
                path.write_text(yaml.safe_dump(document))
                arguments += [f"--{option}", path]
        _, findings = doctor(*arguments)
        return of(findings, "plugins")

    return run


@pytest.mark.parametrize("devices", [GPU, QAT, CLAIM, SRIOV], ids=["gpu", "qat", "claim", "sriov"])
@pytest.mark.parametrize("condition", ["false", '"x" in vmi.Labels'])
def test_every_vm_with_a_pci_device_is_an_error_whoevers_plugin_it_is(
    examine: Any, devices: dict[str, Any], condition: str
) -> None:
    (finding,) = examine(kubevirt(), [plugin(condition=condition)], vmi(**devices))
    assert finding["severity"] == "error"
    assert finding["where"] == "plugin/somebody-elses"
    assert "issue 18861" in finding["what"]
    assert "virtualmachineinstance/vm has spec.domain.devices." in finding["what"]
    for way_out in (
        "kubectl delete plugins.plugin.kubevirt.io somebody-elses",
        "close the gate Plugins",
        "hooks.kubevirt.io/hookSidecars",
        "PR 18866",
    ):
        assert way_out in finding["fix"]


def test_a_plugin_without_a_hook_for_the_domain_is_one_too(examine: Any) -> None:
    hooks = [{"socket": "/run/x.sock", "permittedHooks": ["PreVMStart"]}]
    (finding,) = examine(kubevirt(), [plugin(nodeHooks=hooks)], vmi(**GPU))
    assert finding["severity"] == "error"


def test_without_a_vm_the_cluster_is_an_error_if_it_permits_pci_devices(examine: Any) -> None:
    (finding,) = examine(kubevirt(), [plugin()])
    assert finding["severity"] == "error"
    (finding,) = examine(kubevirt(permitted=PERMITTED), [plugin()])
    assert finding["severity"] == "error"
    others = {key: PERMITTED[key] for key in ("mediatedDevices", "usb")}
    (finding,) = examine(kubevirt(permitted=others), [plugin()])
    assert finding["severity"] == "warning"
    assert "no pciHostDevices" in finding["what"]


@pytest.mark.parametrize("devices", [VGPU, KEY, {}], ids=["vGPU", "USB", "none"])
def test_for_a_vm_without_pci_devices_it_is_a_warning(
    examine: Any, devices: dict[str, Any]
) -> None:
    (finding,) = examine(kubevirt(permitted=PERMITTED), [plugin()], vmi(**devices))
    assert finding["severity"] == "warning"
    assert "has none, other VMs may" in finding["what"]


def test_a_hook_sidecar_starts_its_own_vm_and_no_other(examine: Any) -> None:
    (finding,) = examine(kubevirt(), [plugin()], vmi(sidecars=True, **GPU))
    assert finding["severity"] == "error"
    assert "starts only if a hook sidecar writes the mode" in finding["what"]


@pytest.mark.parametrize(
    ("observed", "target", "severity"),
    [
        ("v1.9.0", None, "error"),
        ("v1.9.0-rc.2", None, "error"),
        ("v1.8.4", "v1.9.0", "error"),
        (None, "v1.9.0", "error"),
        ("v1.9.0", "v1.10.0", "error"),
        (None, None, "warning"),
        ("devel", None, "warning"),
        ("v1.9.1", None, "warning"),
        ("v1.10.0-alpha.0", None, "warning"),
        ("v1.9.0-31-gd923fdb815", None, "warning"),
        ("v1.8.4", None, "ok"),
        ("v0.59.2", None, "ok"),
    ],
)
def test_the_release_decides(
    examine: Any, observed: str | None, target: str | None, severity: str
) -> None:
    (finding,) = examine(kubevirt(observed, target=target), [plugin()], vmi(**GPU))
    assert finding["severity"] == severity, finding


def test_a_closed_gate_is_fine(examine: Any) -> None:
    (finding,) = examine(kubevirt(gates=("Sidecar",)), [plugin()], vmi(**GPU))
    assert finding["severity"] == "ok"
    assert "Plugins is not open" in finding["what"]


def test_no_plugin_is_fine_and_not_knowing_is_said(examine: Any) -> None:
    (finding,) = examine(kubevirt(), [], vmi(**GPU))
    assert (finding["severity"], finding["what"]) == ("ok", "there is none")
    (finding,) = examine(kubevirt(), None, vmi(**GPU))
    assert finding["severity"] == "not checked"
    assert "--plugin-object (kubectl get plugins.plugin.kubevirt.io -o yaml)" in finding["fix"]
    assert examine(kubevirt(gates=("Sidecar",)), None, vmi(**GPU)) == []
    assert examine(kubevirt("v1.8.4"), None, vmi(**GPU)) == []


def test_plugins_without_the_kubevirt_cr_are_a_warning(examine: Any) -> None:
    (finding,) = examine(None, [plugin()], vmi(**GPU))
    assert finding["severity"] == "warning"
    assert "--kubevirt-cr" in finding["fix"]


@pytest.mark.parametrize(
    ("observed", "severity"), [("v1.9.0", "error"), ("v1.9.1", "warning"), (None, "warning")]
)
def test_a_vm_that_has_the_hook_by_our_plugin_is_told_without_the_plugin(
    examine: Any, observed: str | None, severity: str
) -> None:
    (finding,) = examine(kubevirt(observed), None, vmi(label=True, **GPU))
    assert finding["severity"] == severity
    assert finding["where"] == "virtualmachineinstance/vm"
    (finding,) = examine(kubevirt(observed), None, vmi(label=True, sidecars=True, **GPU))
    assert finding["severity"] == "not checked"


def test_our_own_manifest_is_a_plugin(doctor: Any, tmp_path: Path) -> None:
    cr = tmp_path / "kv.json"
    cr.write_text(json.dumps(kubevirt()))
    status, findings = doctor("--kubevirt-cr", cr, "--plugin-object", MANIFESTS / "plugin.yaml")
    (finding,) = of(findings, "plugins")
    assert (status, finding["severity"], finding["where"]) == (1, "error", "plugin/launcher-hook")


def test_one_file_may_have_the_cr_and_the_plugins(doctor: Any, tmp_path: Path) -> None:
    """As `kubectl get kubevirt,plugins -A -o yaml` prints them."""
    both = tmp_path / "both.yaml"
    both.write_text(yaml.safe_dump({"kind": "List", "items": [kubevirt(), plugin()]}))
    _, findings = doctor("--kubevirt-cr", both)
    assert [finding["severity"] for finding in of(findings, "plugins")] == ["error"]


def test_a_plugin_of_another_group_is_none_of_kubevirts(examine: Any) -> None:
    other = {**plugin(), "apiVersion": "krew.googlecontainertools.github.com/v1alpha2"}
    (finding,) = examine(kubevirt(), [other], vmi(**GPU))
    assert finding["what"] == "there is none"


@pytest.mark.parametrize("content", ["", "kind: Pod\n", "kind: List\nitems: [{kind: Pod}]\n"])
def test_what_is_no_list_of_plugins_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    path = tmp_path / "plugins.yaml"
    path.write_text(content)
    assert main(["doctor", "--plugin-object", str(path)]) == 2
    assert "kubectl get plugins.plugin.kubevirt.io -o yaml" in capsys.readouterr().err
