"""Reads all that the command line names, and has `render` try the domain."""

import argparse
import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from launcher_hook.arguments import make_parser
from launcher_hook.claims.directory import find_base
from launcher_hook.claims.named import parse_device
from launcher_hook.claims.sources import read_devices
from launcher_hook.config import read_settings
from launcher_hook.deviceplugin.configfile import MAX_CONFIG_BYTES, read_selection
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import PciSelector, Selection
from launcher_hook.deviceplugin.setup import make_selection, open_names
from launcher_hook.devnodes import DeviceNodes, NodeList
from launcher_hook.doctor.claimfacts import parse_claim, parse_slice
from launcher_hook.doctor.claims import ClaimFacts
from launcher_hook.doctor.clusterfacts import (
    KubeVirt,
    parse_cluster_node,
    parse_kubevirt,
    parse_pod,
)
from launcher_hook.doctor.examine import Domain, Facts
from launcher_hook.doctor.finding import Finding, refused
from launcher_hook.doctor.manifest import MAX_MANIFEST_BYTES, find_objects
from launcher_hook.doctor.nodefacts import NodeFacts, read_kernel, read_node
from launcher_hook.doctor.plugins import (
    PLUGIN_COMMAND,
    PLUGIN_GROUP,
    Plugin,
    is_plugin,
    parse_plugin,
)
from launcher_hook.doctor.sidecars import HOOK_SIDECARS, parse_sidecars
from launcher_hook.doctor.vmfacts import KINDS, VmFacts, parse_vm
from launcher_hook.domain.document import MAX_DOMAIN_BYTES
from launcher_hook.env import merge_environments, parse_allocations, parse_assignment
from launcher_hook.errors import HookError, HostError, InputError
from launcher_hook.files import check_stdin, read_file
from launcher_hook.host import Host
from launcher_hook.render import Inputs, render_domain
from launcher_hook.rompath import check_directories
from launcher_hook.schema import load_schemas
from launcher_hook.settings import Settings
from launcher_hook.snapshot import HostSnapshot, check_known, open_host, open_nodes
from launcher_hook.sysfs import HostTree
from launcher_hook.vmi import Vmi

_SYS, _PROC = Path("/sys"), Path("/proc")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sources:
    """What the command line names.

    Attributes:
        node: This machine is the node.
        environment: Of the compute container, less what ``env`` has.
        env: ``NAME=VALUE``, which win.
        config: Name and content of the hook's configuration.
    """

    node: bool = False
    sysfs: Path | None = None
    proc: Path | None = None
    dev: Path | None = None
    pci_ids: Path | None = None
    plugin_config: str | None = None
    vendors: Sequence[str] = ()
    classes: Sequence[str] = ()
    kubevirt_cr: str | None = None
    node_object: str | None = None
    plugin_object: str | None = None
    vmi: str | None = None
    pod: str | None = None
    domain: str | None = None
    environment: Mapping[str, str] | None = None
    env: Sequence[str] = ()
    config: tuple[str, bytes] | None = None
    set: Sequence[str] = ()
    rom_directories: Sequence[str] = ()
    schema_version: str | None = None
    device: Sequence[str] = ()
    dra_metadata: Path | None = None
    resource_claims: str | None = None
    resource_slices: str | None = None


def gather(sources: Sources) -> Facts:
    """Read everything; what is wrong in it becomes a finding.

    Raises:
        InputError: A file cannot be read, or is something else than it was given for.
    """
    _check_sources(sources)
    read_settings(sources.config, None, sources.set)  # the user's own mistakes are no findings
    kubevirt, plugins = _read_cluster(sources)
    vm = _read_one(sources.vmi, KINDS, "kubectl get vmi NAME", parse_vm)
    nodes = _read_all(sources.node_object, ("Node",), "kubectl get nodes", parse_cluster_node)
    pods = _read_all(sources.pod, ("Pod",), "kubectl get pod NAME", parse_pod)
    faults: list[Finding] = []
    selection = _select(sources, kubevirt, faults)
    host = _open_host(sources)
    settings, configuration_fault = _read_settings(sources, vm)
    claims = _read_claims(sources, vm)
    return Facts(
        takes_arguments=check_arguments,
        node=_read_node(sources, host, selection, kubevirt, faults),
        selection=selection,
        is_configured=sources.plugin_config is not None,
        kubevirt=kubevirt,
        plugins=plugins,
        nodes=nodes,
        vm=vm,
        configuration_fault=configuration_fault,
        pods=pods,
        domain=_try_domain(sources, host, vm, settings, claims),
        claims=claims,
        faults=tuple(faults),
    )


def _check_sources(sources: Sources) -> None:
    files = {
        "--plugin-config": sources.plugin_config,
        "--kubevirt-cr": sources.kubevirt_cr,
        "--node-object": sources.node_object,
        "--plugin-object": sources.plugin_object,
        "--vmi": sources.vmi,
        "--pod": sources.pod,
        "--resource-claims": sources.resource_claims,
        "--resource-slices": sources.resource_slices,
        "--domain": sources.domain,
    }
    config = None if sources.config is None else sources.config[0]
    check_stdin({"--config": config, **files})
    if not _has_node(sources) and not any(files.values()):
        raise InputError(
            "doctor",
            "there is nothing to look at",
            "give --node on a node, or files: --kubevirt-cr, --node-object, --plugin-object, "
            "--vmi, --pod, --domain",
        )
    if (sources.vendors or sources.classes) and (sources.plugin_config or sources.kubevirt_cr):
        says = "--plugin-config" if sources.plugin_config else "--kubevirt-cr"
        option = "--vendor" if sources.vendors else "--class"
        raise InputError(option, f"{says} says already what is for VMs", "leave one of them out")


def _has_node(sources: Sources) -> bool:
    return sources.node or sources.sysfs is not None


def _read_cluster(sources: Sources) -> tuple[KubeVirt | None, tuple[Plugin, ...] | None]:
    """Read the KubeVirt CR, and the Plugin objects, which may stand in the same file."""
    plugins = None
    if sources.plugin_object is not None:
        content = read_file(sources.plugin_object, MAX_MANIFEST_BYTES)
        plugins = _find_plugins(content, _name_file(sources.plugin_object))
    if sources.kubevirt_cr is None:
        return None, plugins
    where = _name_file(sources.kubevirt_cr)
    content = read_file(sources.kubevirt_cr, MAX_MANIFEST_BYTES)
    command = "kubectl -n kubevirt get kubevirt kubevirt"
    found = find_objects(content, where, ("KubeVirt",), command)
    kubevirt = _take_one(found, where, ("KubeVirt",))
    if PLUGIN_GROUP.encode() in content:
        with contextlib.suppress(InputError):  # it is in a text of the CR
            plugins = (*(plugins or ()), *_find_plugins(content, where))
    return parse_kubevirt(kubevirt, where), plugins


def _find_plugins(content: bytes, where: str) -> tuple[Plugin, ...]:
    objects = find_objects(content, where, ("Plugin",), PLUGIN_COMMAND, may_be_none=True)
    return tuple(parse_plugin(document, where) for document in objects if is_plugin(document))


def _name_file(name: str) -> str:
    return "stdin" if name == "-" else name


def _read_all(
    name: str | None,
    kinds: Sequence[str],
    command: str,
    parse: Callable[[Mapping[str, object], str], _T],
) -> tuple[_T, ...] | None:
    if name is None:
        return None
    where = _name_file(name)
    objects = find_objects(read_file(name, MAX_MANIFEST_BYTES), where, kinds, command)
    return tuple(parse(document, where) for document in objects)


def _read_one(
    name: str | None,
    kinds: Sequence[str],
    command: str,
    parse: Callable[[Mapping[str, object], str], _T],
) -> _T | None:
    found = _read_all(name, kinds, command, parse)
    return None if found is None else _take_one(found, str(name), kinds)


def _take_one(found: Sequence[_T], where: str, kinds: Sequence[str]) -> _T:
    if len(found) > 1:
        raise InputError(
            where, f"it holds {len(found)} of kind {' or '.join(kinds)}", "give one of them"
        )
    return found[0]


def _select(sources: Sources, kubevirt: KubeVirt | None, faults: list[Finding]) -> Selection | None:
    """What is for VMs; None where the plugin's configuration cannot tell."""
    if sources.plugin_config is not None:
        content = read_file(sources.plugin_config, MAX_CONFIG_BYTES)
        try:
            return read_selection(content, sources.plugin_config)
        except InputError as error:
            faults.append(refused("plugin config", error))
            return None
    if kubevirt is None or kubevirt.permitted is None:
        return make_selection(None, sources.vendors, sources.classes, None)
    selectors = [entry.selector for entry in kubevirt.permitted if entry.selector is not None]
    return Selection(
        tuple(s for s in selectors if isinstance(s, PciSelector)),
        tuple(s for s in selectors if not isinstance(s, PciSelector)),
    )


def _open_host(sources: Sources) -> Host:
    if not _has_node(sources):
        return HostTree(None)
    sysfs = sources.sysfs or _SYS
    host = open_host(sysfs)
    check_known(host, sysfs)
    return host


def _read_node(
    sources: Sources,
    host: Host,
    selection: Selection | None,
    kubevirt: KubeVirt | None,
    faults: list[Finding],
) -> NodeFacts | None:
    if not _has_node(sources):
        return None
    nodes = _open_nodes(sources, host)
    names = open_names(sources.pci_ids)
    if selection is None:
        selection = Selection()
    elif kubevirt is not None and sources.plugin_config is None:
        # Whoever offers it, it must be ready.
        selection = replace(
            selection,
            pci=tuple(replace(selector, external=True) for selector in selection.pci),
            mdev=tuple(replace(selector, external=True) for selector in selection.mdev),
        )
    is_here = sources.sysfs in (None, _SYS)
    proc = sources.proc or (_PROC if is_here else None)
    kernel = read_kernel(sources.sysfs or _SYS, proc, host)
    try:
        node = Node(host, nodes, selection, names.device_name)
        return read_node(node, kernel)
    except HostError as error:
        faults.append(refused("the node", error))
        return None


def _open_nodes(sources: Sources, host: Host) -> DeviceNodes:
    """The device nodes; not those of this machine for a copy of another's ``/sys``."""
    is_here = sources.sysfs in (None, _SYS)
    if sources.dev is None and not is_here and not isinstance(host, HostSnapshot):
        return NodeList()
    return open_nodes(host, sources.dev)


def parse_serve(words: Sequence[str]) -> argparse.Namespace | str:
    """Parse a sidecar's arguments as `serve` does, or say why it does not take them."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            return make_parser().parse_args(["serve", *words])
    except SystemExit:
        said = printed.getvalue().strip().removeprefix("launcher-hook: serve: ")
        return said or "they ask for help"


def check_arguments(words: Sequence[str]) -> str | None:
    """Say why `serve` does not start with some arguments; None where it does."""
    if words and words[0] == "serve":
        return "'serve' is in the image's entry point already"
    options = parse_serve(words)
    if isinstance(options, str):
        return options
    try:
        read_settings(None, None, options.set)
        check_directories(options.rom_dir)
        parse_allocations(dict(parse_assignment(text, f"--env {text}") for text in options.env))
    except InputError as error:
        return str(error)
    return None


def _read_settings(
    sources: Sources, vm: VmFacts | None
) -> tuple[Settings | None, HookError | None]:
    """What the hook will be told, in the order in which `serve` reads it."""
    annotation = None if vm is None or vm.vmi is None else vm.vmi.config_source
    told = _sidecar_options(vm)
    sets = [*([] if told is None else told.set), *sources.set]
    try:
        if annotation is not None:
            read_settings(None, annotation)  # by itself, for a fault that is its own
        return read_settings(sources.config, annotation, sets), None
    except InputError as error:
        return None, error


def _sidecar_options(vm: VmFacts | None) -> argparse.Namespace | None:
    """The options of the VM's own hook sidecar, where it has one that can start."""
    if vm is None or HOOK_SIDECARS not in vm.annotations:
        return None
    sidecars, _ = parse_sidecars(vm.annotations[HOOK_SIDECARS], "")
    for sidecar in sidecars:
        words = sidecar.options
        if sidecar.is_ours and words is not None and check_arguments(words) is None:
            options = parse_serve(words)
            return None if isinstance(options, str) else options
    return None


def _read_claims(sources: Sources, vm: VmFacts | None) -> ClaimFacts:
    """Read what there is of resource claims, and the devices that a user names."""
    for text in sources.device:  # the user's own mistakes are no findings
        parse_device(text)
    if sources.dra_metadata is not None:
        find_base(sources.dra_metadata)
    claims = _read_some(sources.resource_claims, "ResourceClaim", parse_claim)
    slices = _read_some(sources.resource_slices, "ResourceSlice", parse_slice)
    vmi = Vmi() if vm is None or vm.vmi is None else vm.vmi
    devices, fault = {}, None
    if vm is None or vm.vmi is not None:  # of a VMI that cannot be read nothing is known
        try:
            devices = read_devices(
                sources.device, sources.dra_metadata, vmi.requests, vmi.claims, vmi.reported
            )
        except InputError as error:
            fault = error
    return ClaimFacts(
        claims,
        None if slices is None else tuple(device for part in slices for device in part),
        devices,
        fault,
    )


def _read_some(
    name: str | None, kind: str, parse: Callable[[Mapping[str, object], str], _T]
) -> tuple[_T, ...] | None:
    """Read objects of which kubectl may have found none."""
    if name is None:
        return None
    where, command = _name_file(name), f"kubectl get {kind.lower()}s"
    data = read_file(name, MAX_MANIFEST_BYTES)
    objects = find_objects(data, where, (kind,), command, may_be_none=True)
    return tuple(parse(document, where) for document in objects)


def _try_domain(
    sources: Sources,
    host: Host,
    vm: VmFacts | None,
    settings: Settings | None,
    claims: ClaimFacts,
) -> Domain | None:
    if sources.domain is None:
        return None
    where = _name_file(sources.domain)
    domain_xml = read_file(sources.domain, MAX_DOMAIN_BYTES)
    schemas = load_schemas(sources.schema_version)
    if settings is None or (vm is not None and vm.vmi is None) or claims.fault is not None:
        return Domain(where)  # what the VM or its claims say is a finding of its own
    told = _sidecar_options(vm)
    vmi = Vmi() if vm is None or vm.vmi is None else vm.vmi
    env = [*([] if told is None else told.env), *sources.env]
    rom_directories = [*([] if told is None else told.rom_dir), *sources.rom_directories]
    variables = dict(parse_assignment(text, f"--env {text}") for text in env)
    environment = merge_environments([sources.environment or {}, variables])
    try:
        inputs = Inputs(
            domain_xml=domain_xml,
            where=where,
            vmi=vmi,
            allocations=parse_allocations(environment),
            host=host,
            settings=settings,
            rom_directories=rom_directories,
            devices=claims.devices,
        )
        return Domain(where, render_domain(inputs, schemas))
    except HookError as error:
        return Domain(where, fault=error)
