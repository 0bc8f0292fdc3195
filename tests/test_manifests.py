"""sidecar-image/manifests/ says what KubeVirt, kubelet and our program understand."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import HOOK_SIDECARS, parse_hook_sidecars, parse_injected_container, uncommented
from pydantic import ValidationError

from launcher_hook import __version__
from launcher_hook.arguments import make_parser
from launcher_hook.config import read_settings
from launcher_hook.env import variable_of
from launcher_hook.vmi import CONFIG_ANNOTATION, parse_vmi

REPOSITORY = Path(__file__).parent.parent
MANIFESTS = REPOSITORY / "sidecar-image" / "manifests"
DEVICE_PLUGIN = MANIFESTS / "device-plugin"
VARIABLE = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A"
IMAGE = f"launcher-hook:{__version__}"


def read_manifests(name: str) -> dict[str, Any]:
    """A file's documents by kind."""
    documents = yaml.safe_load_all((MANIFESTS / name).read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def container_of(daemonset: dict[str, Any]) -> dict[str, Any]:
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@pytest.fixture(scope="module")
def daemonset() -> dict[str, Any]:
    manifest = read_manifests("device-plugin/daemonset.yaml")["DaemonSet"]
    assert isinstance(manifest, dict)
    return manifest


@pytest.fixture(scope="module")
def injected() -> dict[str, Any]:
    """The container that the policy puts into a launcher pod."""
    policy = read_manifests("plugin.yaml")["MutatingAdmissionPolicy"]
    (mutation,) = policy["spec"]["mutations"]
    assert mutation["patchType"] == "JSONPatch"
    return parse_injected_container(mutation["jsonPatch"]["expression"])


def test_every_file_is_spoken_of_here() -> None:
    names = {str(path.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("*") if path.is_file()}
    assert names == {
        "vm.yaml", "vmi.yaml", "kubevirt.yaml", "plugin.yaml",
        "device-plugin/kustomization.yaml", "device-plugin/daemonset.yaml",
        "device-plugin/config.yaml",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["vm.yaml", "vmi.yaml"])
def test_a_vm_starts_our_image_with_arguments_that_it_takes(name: str) -> None:
    metadata = vmi_metadata(name)
    (sidecar,) = parse_hook_sidecars(metadata["annotations"][HOOK_SIDECARS])
    assert sidecar.image == IMAGE
    assert not sidecar.command  # the image's entry point
    options = make_parser().parse_args(["serve", *sidecar.args])
    assert options.command == "serve"
    read_settings(None, None, options.set)


def vmi_metadata(name: str) -> dict[str, Any]:
    (document,) = read_manifests(name).values()
    if document["kind"] == "VirtualMachine":
        document = document["spec"]["template"]
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    return metadata


@pytest.mark.parametrize(("name", "layout"), [("vm.yaml", "root-port"), ("vmi.yaml", "root-bus")])
def test_a_vms_configuration_is_one(name: str, layout: str) -> None:
    vmi = parse_vmi((MANIFESTS / name).read_bytes(), name)
    assert vmi.config_source is not None
    assert CONFIG_ANNOTATION in vmi_metadata(name)["annotations"]
    assert read_settings(None, vmi.config_source).layout == layout


@pytest.mark.parametrize("name", ["vm.yaml", "vmi.yaml"])
def test_a_vm_asks_for_what_the_kubevirt_cr_permits(name: str) -> None:
    permitted = read_manifests("kubevirt.yaml")["KubeVirt"]["spec"]["configuration"][
        "permittedHostDevices"
    ]["pciHostDevices"]
    offered = {device["resourceName"]: device for device in permitted}
    vmi = parse_vmi((MANIFESTS / name).read_bytes(), name)
    assert vmi.requests
    for request in vmi.requests:
        assert request.resource is not None
        assert offered[request.resource]["externalResourceProvider"] is True
        assert variable_of(request.resource) == VARIABLE


@pytest.mark.parametrize(
    "annotation",
    [
        '{"image": "x"}',
        '[{"image": "x"}]',
        '[{"imagePullPolicy": "Sometimes"}]',
        '[{"imagePullPolicy": "Always", "arguments": []}]',
        '[{"imagePullPolicy": "Always", "args": "--config"}]',
        '[{"imagePullPolicy": "Always", "configMap": {"name": "x"}}]',
    ],
)
def test_what_kubevirt_would_refuse_or_overlook_is_seen(annotation: str) -> None:
    with pytest.raises(ValidationError):
        parse_hook_sidecars(annotation)


def test_the_kubevirt_cr_opens_what_the_manifests_need_and_touches_nothing_else() -> None:
    configuration = read_manifests("kubevirt.yaml")["KubeVirt"]["spec"]["configuration"]
    gates = configuration["developerConfiguration"]["featureGates"]
    assert gates == ["HostDevices", "Sidecar"]
    assert set(configuration) == {"developerConfiguration", "permittedHostDevices"}
    assert set(configuration["permittedHostDevices"]) == {"pciHostDevices"}


def test_what_is_commented_out_in_the_kubevirt_cr_is_right_too() -> None:
    whole = yaml.safe_load(uncommented((MANIFESTS / "kubevirt.yaml").read_text(encoding="utf-8")))
    configuration = whole["spec"]["configuration"]
    assert "Plugins" in configuration["developerConfiguration"]["featureGates"]
    (support,) = configuration["supportContainerResources"]
    assert support["type"] == "sidecar"
    assert megabytes(support["resources"]["limits"]["memory"]) >= 64
    for devices in configuration["permittedHostDevices"].values():
        for device in devices:
            assert device["externalResourceProvider"] is True


def megabytes(quantity: str) -> float:
    units = {"M": 1.0, "Mi": 1.048576}
    number = quantity.rstrip("Mi")
    return float(number) * units[quantity.removeprefix(number)]


def test_plugin_policy_and_container_agree(injected: dict[str, Any]) -> None:
    documents = read_manifests("plugin.yaml")
    plugin, policy = documents["Plugin"], documents["MutatingAdmissionPolicy"]
    binding = documents["MutatingAdmissionPolicyBinding"]
    name = plugin["metadata"]["name"]
    (hook,) = plugin["spec"]["domainHooks"]
    socket = hook["sidecar"]["socketPath"]
    # KubeVirt's own admission: validatingadmissionpolicy_sidecar.go
    assert socket.startswith(f"/var/run/kubevirt-plugin/{name}/")
    assert socket.endswith(".sock")
    assert len(socket) <= 108
    assert plugin["spec"]["mutatingAdmissionPolicies"] == [{"name": policy["metadata"]["name"]}]
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    (mount,) = injected["volumeMounts"]
    assert mount == {
        "name": "kubevirt-plugin-sockets",
        "mountPath": f"/var/run/kubevirt-plugin/{name}",
        "subPath": name,
    }
    options = make_parser().parse_args(["serve", *injected["args"]])
    assert str(options.plugin_socket) == socket
    assert options.socket_dir is None


def test_the_plugin_is_for_the_vms_whose_pods_get_the_container() -> None:
    documents = read_manifests("plugin.yaml")
    selector = documents["MutatingAdmissionPolicy"]["spec"]["matchConstraints"]["objectSelector"]
    labels = dict(selector["matchLabels"])
    assert labels.pop("kubevirt.io") == "virt-launcher"
    ((label, value),) = labels.items()
    condition = documents["Plugin"]["spec"]["condition"]
    assert condition == f'"{label}" in vmi.Labels && vmi.Labels["{label}"] == "{value}"'


def test_the_injected_container_has_no_privileges(injected: dict[str, Any]) -> None:
    assert injected["image"] == IMAGE
    assert injected["restartPolicy"] == "Always"
    assert injected["securityContext"] == {
        "runAsUser": 107,
        "runAsGroup": 107,
        "runAsNonRoot": True,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    # A pod of Guaranteed QoS stays one.
    assert injected["resources"]["limits"] == injected["resources"]["requests"]


def test_the_device_plugin_has_no_privileges(daemonset: dict[str, Any]) -> None:
    context = container_of(daemonset)["securityContext"]
    assert context["privileged"] is False
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    pod = daemonset["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_the_device_plugin_sees_of_the_host_what_it_needs(daemonset: dict[str, Any]) -> None:
    volumes = {
        volume["name"]: volume for volume in daemonset["spec"]["template"]["spec"]["volumes"]
    }
    mounts = {mount["name"]: mount for mount in container_of(daemonset)["volumeMounts"]}
    assert mounts.keys() == volumes.keys()
    paths = {v["hostPath"]["path"]: name for name, v in volumes.items() if "hostPath" in v}
    assert paths.keys() == {"/var/lib/kubelet/device-plugins", "/dev"}
    writable = {name for name, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {paths["/var/lib/kubelet/device-plugins"]}


def test_the_device_plugins_probes_ask_where_it_answers(daemonset: dict[str, Any]) -> None:
    container = container_of(daemonset)
    (port,) = container["ports"]
    assert f"--metrics=:{port['containerPort']}" in container["args"]
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[kind]["httpGet"] == {"path": "/healthz", "port": port["name"]}


def test_the_device_plugins_pods_are_selected_by_their_labels(daemonset: dict[str, Any]) -> None:
    spec = daemonset["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_the_kustomize_base_names_what_is_there(daemonset: dict[str, Any]) -> None:
    base = yaml.safe_load((DEVICE_PLUGIN / "kustomization.yaml").read_text())
    assert base["kind"] == "Kustomization"
    assert all((DEVICE_PLUGIN / name).is_file() for name in base["resources"])
    (generated,) = base["configMapGenerator"]
    assert all((DEVICE_PLUGIN / name).is_file() for name in generated["files"])
    volumes = daemonset["spec"]["template"]["spec"]["volumes"]
    assert {"name": generated["name"]} in [volume.get("configMap") for volume in volumes]
    container = container_of(daemonset)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert f"--config={mounts['config']}/{generated['files'][0]}" in container["args"]
    (image,) = base["images"]
    assert image == {"name": container["image"], "newTag": __version__}


def test_the_device_plugins_arguments_are_ours(daemonset: dict[str, Any]) -> None:
    """As soon as the program has the command; from then on it must take them."""
    container = container_of(daemonset)
    program, command = container["command"]
    assert program == "launcher-hook"
    if not (REPOSITORY / "launcher_hook/deviceplugin").is_dir():
        assert command not in commands()
        return
    options = make_parser().parse_args([command, *container["args"]])
    assert options.command == command


def commands() -> set[str]:
    (actions,) = (
        action for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )  # fmt: skip
    return set(actions.choices)
