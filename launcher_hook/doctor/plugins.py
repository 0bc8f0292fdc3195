"""Plugin objects of KubeVirt's plugin API, and the releases in which they stop other VMs. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any, Literal

from launcher_hook.doctor.clusterfacts import KubeVirt
from launcher_hook.doctor.finding import Finding, fail, fine, listed, unseen, warn
from launcher_hook.doctor.gates import PLUGINS, find_state
from launcher_hook.doctor.manifest import descend, text_of
from launcher_hook.doctor.sidecars import HOOK_SIDECARS, INJECT_LABEL
from launcher_hook.doctor.vmfacts import VmFacts

PLUGIN_GROUP = "plugin.kubevirt.io"
PLUGIN_COMMAND = f"kubectl get plugins.{PLUGIN_GROUP}"

FAULT = (
    "virt-launcher cannot convert a domain that has a PCI hostdev, and converts it before it looks "
    "at a Plugin's condition (KubeVirt issue 18861: Missing 'mode' attribute on domain hostdev)"
)

# The fault came with the API in 1.9.0-rc.0. The fix, PR 18866, was open on 2026-08-22; neither main
# (d923fdb815) nor release-1.9 (390cf886c3) had it. A release that has it gets a word here.
_RELEASE = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})(-.*)?", re.ASCII)
_FAULTY = re.compile(r"v?1\.9\.0(-rc\.[0-9]+)?", re.ASCII)
_FIRST_WITH_PLUGINS = (1, 9)

Judgement = Literal["no plugin API", "faulty", "not known"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """A Plugin object, by its name: nothing else in it counts for the VMs that it stops."""

    name: str


def is_plugin(document: Mapping[str, Any]) -> bool:
    """Say whether an object of kind Plugin is KubeVirt's; other groups have that kind too."""
    version = text_of(document.get("apiVersion"))  # the items of a PluginList have none
    return not version or version.startswith(f"{PLUGIN_GROUP}/")


def parse_plugin(document: Mapping[str, Any], where: str) -> Plugin:
    """Read a Plugin object.

    Raises:
        InputError: A field has the wrong type.
    """
    return Plugin(text_of(descend(document, where, "metadata").get("name")) or "without a name")


def judge_release(release: str) -> Judgement:
    """Say of a release whether VMs with PCI devices and Plugin objects go together in it."""
    match = _RELEASE.fullmatch(release)
    if match is None:
        return "not known"
    if (int(match[1]), int(match[2])) < _FIRST_WITH_PLUGINS:
        return "no plugin API"
    return "faulty" if _FAULTY.fullmatch(release) else "not known"


def check_plugins(
    kubevirt: KubeVirt | None,
    plugins: Sequence[Plugin] | None,
    vm: VmFacts | None,
    plugin_runs: bool,
) -> Iterator[Finding]:
    """Look for Plugin objects in a KubeVirt that cannot start VMs with PCI devices beside them.

    Args:
        kubevirt: The CR, which has the release and the gate.
        plugins: None where nobody said which there are.
        vm: Without it, any VM.
        plugin_runs: Whether a launcher pod has the hook by the plugin API.
    """
    if plugins is None:
        yield from _check_unknown(kubevirt, vm, plugin_runs)
        return
    if not plugins:
        yield fine("plugins", "Plugin objects", "there is none")
        return
    where = listed(f"plugin/{plugin.name}" for plugin in plugins)
    if kubevirt is None:
        what = "KubeVirt 1.9.0 starts no VM with a PCI device while a Plugin exists"
        yield warn("plugins", where, what, "give --kubevirt-cr: it has the release and the gate")
        return
    if _is_closed(kubevirt):
        what = f"{PLUGINS.name} is not open in {kubevirt.where}: they have no effect"
        yield fine("plugins", where, what)
        return
    judgement = _judge(kubevirt)
    if judgement == "no plugin API":
        what = f"{_releases(kubevirt.releases)} has no plugin API: they have no effect"
        yield fine("plugins", where, what)
        return
    fix = _way_out(plugins)
    if judgement == "not known":
        yield warn("plugins", where, _doubt(kubevirt), fix)
        return
    hits = _pci_devices(kubevirt, vm)
    what = (
        f"{_releases(kubevirt.releases)} starts no VM with a PCI device while a Plugin exists, "
        f"whatever its condition: {FAULT}"
    )
    if hits == []:
        yield warn("plugins", where, f"{what}; {_tell_none(vm)}", fix)
        return
    if vm is not None and hits:
        what = f"{what}; {vm.where} has {listed(hits)}"
        if HOOK_SIDECARS in vm.annotations:
            what += ", and starts only if a hook sidecar writes the mode, as launcher-hook does"
    yield fail("plugins", where, what, fix)


def _check_unknown(
    kubevirt: KubeVirt | None, vm: VmFacts | None, plugin_runs: bool
) -> Iterator[Finding]:
    """Nobody said which Plugin objects there are; the VM may depend on one."""
    if kubevirt is None or _is_closed(kubevirt):
        return
    judgement = _judge(kubevirt)
    if judgement == "no plugin API":
        return
    depends = plugin_runs or (vm is not None and vm.labels.get(INJECT_LABEL) == "true")
    has_sidecar = vm is not None and HOOK_SIDECARS in vm.annotations
    if not depends or has_sidecar or _pci_devices(kubevirt, vm) == []:
        what = "whether a Plugin object keeps VMs with PCI devices from starting"
        yield unseen("plugins", what, f"give --plugin-object ({PLUGIN_COMMAND} -o yaml)")
        return
    where = kubevirt.where if vm is None else vm.where
    if judgement == "not known":
        yield warn("plugins", where, f"it has the hook by a Plugin; {_doubt(kubevirt)}", _WAY_OUT)
        return
    yield fail(
        "plugins",
        where,
        f"it has the hook by a Plugin, and {_releases(kubevirt.releases)} starts no VM with a PCI "
        f"device beside one: {FAULT}",
        _WAY_OUT,
    )


_WAY_OUT = (
    f"delete the Plugin, or close the gate {PLUGINS.name}, and have the hook by the annotation "
    f"{HOOK_SIDECARS}; or run a KubeVirt that has PR 18866"
)


def _way_out(plugins: Sequence[Plugin]) -> str:
    names = " ".join(quote(plugin.name) for plugin in plugins[:6])
    return f"{_WAY_OUT} (kubectl delete plugins.{PLUGIN_GROUP} {names}; VMs that wait then start)"


def _is_closed(kubevirt: KubeVirt) -> bool:
    return find_state(kubevirt, PLUGINS) in ("closed", "disabled")


def _judge(kubevirt: KubeVirt) -> Judgement:
    """Judge by the worst of the releases that run: two while virt-operator updates."""
    judgements = [judge_release(release) for release in kubevirt.releases]
    if "faulty" in judgements:
        return "faulty"
    return "not known" if "not known" in judgements or not judgements else "no plugin API"


def _releases(releases: Sequence[str]) -> str:
    return f"KubeVirt {' and '.join(release.removeprefix('v') for release in releases)}"


def _doubt(kubevirt: KubeVirt) -> str:
    if not kubevirt.releases:
        said = "status.observedKubeVirtVersion does not say which KubeVirt this is; 1.9.0"
        return f"{said} starts no VM with a PCI device while a Plugin exists: {FAULT}"
    return (
        f"{_releases(kubevirt.releases)} may have the fault of 1.9.0, which starts no VM with a "
        f"PCI device while a Plugin exists: {FAULT}; see whether its release notes have PR 18866"
    )


def _tell_none(vm: VmFacts | None) -> str:
    if vm is None:
        return "permittedHostDevices has no pciHostDevices, so that SR-IOV interfaces are left"
    return f"{vm.where} has none, other VMs may"


def _pci_devices(kubevirt: KubeVirt, vm: VmFacts | None) -> list[str] | None:
    """Name the devices that are, or may be, PCI functions; None where any VM may have some."""
    permitted = kubevirt.permitted
    if vm is None:
        permits = permitted is None or any(entry.may_be_pci for entry in permitted)
        return None if permits else []
    if vm.vmi is None:
        return None  # the VM's own finding says why
    others = {entry.resource for entry in permitted or ()}  # mediated devices and USB
    others -= {entry.resource for entry in permitted or () if entry.may_be_pci}
    requests = [request.path for request in vm.vmi.requests if request.resource not in others]
    return [*requests, *vm.sriov_paths]
