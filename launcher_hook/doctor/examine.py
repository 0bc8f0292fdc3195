"""All checks over all facts, in the order in which a device comes to a VM. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from launcher_hook.deviceplugin.selection import MdevSelector, PciSelector, Selection
from launcher_hook.doctor import iommu
from launcher_hook.doctor.claims import ClaimFacts, check_claims
from launcher_hook.doctor.clusterfacts import ClusterNode, KubeVirt, LauncherPod
from launcher_hook.doctor.devices import check_devices, has_selected
from launcher_hook.doctor.finding import Finding, counted, fail, fine, listed, refused, unseen, warn
from launcher_hook.doctor.gates import check_gates
from launcher_hook.doctor.names import Names, check_amounts, check_names
from launcher_hook.doctor.nodefacts import NodeFacts
from launcher_hook.doctor.plugins import Plugin, check_plugins
from launcher_hook.doctor.pods import check_coming_limits, check_pod, runs_plugin
from launcher_hook.doctor.sidecars import CheckArguments, check_annotation, check_placement
from launcher_hook.doctor.vmfacts import VmFacts
from launcher_hook.errors import HookError
from launcher_hook.render import Rendered
from launcher_hook.vmi import CONFIG_ANNOTATION

_CHOOSE = "say by --vendor, --kubevirt-cr or --plugin-config what is for VMs"


_MATCH = "write the ids of what is for VMs, as lspci -nn has them, into the --plugin-config"


@dataclass(frozen=True, slots=True)
class Domain:
    """What `render` made of the domain: one of the two."""

    where: str
    rendered: Rendered | None = None
    fault: HookError | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known; None where it was not asked for or not given.

    Attributes:
        faults: What was found wrong while it was read.
        selection: What our device plugin offers.
        is_configured: Whether a configuration of the plugin says so.
        takes_arguments: Whether `serve` takes a sidecar's arguments.
        configuration_fault: Why the hook refuses the VM's configuration annotation.
        claims: Of resource claims.
    """

    takes_arguments: CheckArguments
    faults: tuple[Finding, ...] = ()
    node: NodeFacts | None = None
    selection: Selection | None = None
    is_configured: bool = False
    kubevirt: KubeVirt | None = None
    plugins: tuple[Plugin, ...] | None = None
    nodes: tuple[ClusterNode, ...] | None = None
    vm: VmFacts | None = None
    configuration_fault: HookError | None = None
    pods: tuple[LauncherPod, ...] | None = None
    domain: Domain | None = None
    claims: ClaimFacts = field(default_factory=ClaimFacts)
    wanted: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        requests = () if self.vm is None or self.vm.vmi is None else self.vm.vmi.requests
        wanted = Counter(request.resource for request in requests if request.resource is not None)
        object.__setattr__(self, "wanted", wanted)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Make every check for which there are facts, and name those for which there are none."""
    return (
        *facts.faults,
        *_check_node(facts),
        *_check_cluster(facts),
        *_check_vm(facts),
        *_check_pods(facts),
        *_check_claims(facts),
        *_check_domain(facts),
    )


def _check_node(facts: Facts) -> Iterator[Finding]:
    node = facts.node
    if node is None:
        yield unseen(
            "the node",
            "IOMMU, vfio-pci, groups, /dev/vfio, memlock",
            "run it there with --node, or give a copy or a snapshot by --sysfs",
        )
        return
    yield from iommu.check_iommu(node)
    yield from iommu.check_vfio(node, wanted=has_selected(node))
    if facts.selection is None:
        yield unseen("devices", "which are for VMs", "mend the device plugin's configuration first")
    else:
        choose = _MATCH if facts.is_configured else _CHOOSE
        yield from check_devices(node, facts.selection, choose)
        yield from _check_selectors(facts, facts.selection, node)
    yield iommu.check_locked_memory(node.kernel)


def _check_selectors(facts: Facts, selection: Selection, node: NodeFacts) -> Iterator[Finding]:
    if not facts.is_configured and (facts.kubevirt is None or facts.kubevirt.permitted is None):
        return
    for selector in selection.pci:
        if not any(selector.matches(function) for function in node.functions):
            name = f" ({selector.resource})" if selector.resource else ""
            yield warn(
                "devices",
                f"{selector.where}{name}",
                "it matches no function of this node",
                "see lspci -nn, unless this node has none of them",
            )


def _check_cluster(facts: Facts) -> Iterator[Finding]:
    kubevirt = facts.kubevirt
    plugin_runs = any(runs_plugin(pod) for pod in facts.pods or ())
    if kubevirt is None:
        yield unseen(
            "KubeVirt CR",
            "feature gates, permittedHostDevices",
            "give --kubevirt-cr (kubectl -n kubevirt get kubevirt kubevirt -o yaml)",
        )
    else:
        yield from check_gates(kubevirt, facts.vm, plugin_runs)
        for entry in kubevirt.permitted or ():
            if entry.fault is not None:
                yield refused("permitted", entry.fault)
        if kubevirt.permitted is None:
            yield fine(
                "permitted",
                kubevirt.where,
                "it has no permittedHostDevices, so KubeVirt permits every resource",
            )
    yield from check_plugins(kubevirt, facts.plugins, facts.vm, plugin_runs)
    yield from check_names(_names(facts))
    if facts.nodes is None:
        yield unseen(
            "kubelet",
            "whether kubelet has the resources",
            "give --node-object (kubectl get nodes -o yaml)",
        )
    else:
        yield from check_amounts(
            {resource: Fraction(amount) for resource, amount in facts.wanted.items()},
            _asked(facts),
            facts.nodes,
        )


def _asked(facts: Facts) -> Mapping[str, str]:
    asked: dict[str, str] = {}
    if facts.vm is not None and facts.vm.vmi is not None:
        for request in facts.vm.vmi.requests:
            if request.resource is not None:
                asked.setdefault(request.resource, f"{facts.vm.where}: {request.path}")
    return asked


def _names(facts: Facts) -> Names:
    kubevirt = facts.kubevirt
    return Names(
        _asked(facts),
        None if kubevirt is None else tuple(e for e in kubevirt.permitted or () if e.resource),
        kubevirt is not None and kubevirt.permitted is None,
        _offered(facts),
        facts.is_configured,
        facts.nodes,
    )


def _offered(facts: Facts) -> Mapping[str, str] | None:
    """What our plugin offers anywhere, as far as its configuration or this node says."""
    if facts.selection is None:
        return None
    every: tuple[PciSelector | MdevSelector, ...] = (*facts.selection.pci, *facts.selection.mdev)
    selectors = [selector for selector in every if selector.external]
    offered = {s.resource: s.where for s in selectors if s.resource is not None}
    if facts.node is not None:
        for resource in facts.node.inventory.resources:
            offered.setdefault(resource, f"{facts.node.kernel.sysfs}: {resource}")
    elif any(s.resource is None for s in selectors):
        return None  # names from pci.ids: only a node has them
    return offered


def _check_vm(facts: Facts) -> Iterator[Finding]:
    vm = facts.vm
    if vm is None:
        yield unseen(
            "the VM", "its devices and annotations", "give --vmi (kubectl get vmi NAME -o yaml)"
        )
        return
    if vm.fault is not None:
        yield refused("VMI", vm.fault)
    elif vm.vmi is not None and vm.vmi.requests:
        yield fine("VMI", vm.where, f"it asks for {_devices(facts)}")
    elif not vm.locks_memory:
        yield warn(
            "VMI",
            vm.where,
            "it asks for no device",
            "write spec.domain.devices.gpus: [{name: gpu0, deviceName: VENDOR/NAME}]",
        )
    yield from check_placement(vm)
    yield from check_annotation(vm, facts.takes_arguments)
    if facts.configuration_fault is not None:
        yield refused("configuration", facts.configuration_fault)
    elif CONFIG_ANNOTATION in vm.annotations:
        yield fine("configuration", f"{vm.where}: {CONFIG_ANNOTATION}", "the hook can read it")
    yield from _check_locked_memory(facts, vm)


def _devices(facts: Facts) -> str:
    assert facts.vm is not None
    assert facts.vm.vmi is not None
    claims = sum(request.resource is None for request in facts.vm.vmi.requests)
    texts = [f"{amount} {resource}" for resource, amount in facts.wanted.items()]
    return listed([*texts, counted(claims, "claim")] if claims else texts)


def _check_locked_memory(facts: Facts, vm: VmFacts) -> Iterator[Finding]:
    if vm.locks_memory:
        yield fine("memlock", vm.where, "virt-handler lifts the limit for a VM with its devices")
        return
    rendered = None if facts.domain is None else facts.domain.rendered
    if rendered is None or not rendered.decision.plan.placements:
        return
    locked = None if facts.node is None else facts.node.kernel.locked
    if locked is not None and locked.most_bytes is None:
        return
    limit = "its container's limit" if locked is None else f"{locked.most_bytes} bytes"
    yield fail(
        "memlock",
        vm.where,
        "the domain has passed-through devices, and the VM asks for none, so that virt-handler "
        f"leaves {limit} as it is: QEMU cannot lock the VM's memory",
        "ask for the devices in spec.domain.devices.gpus or hostDevices",
    )


def _check_pods(facts: Facts) -> Iterator[Finding]:
    if facts.pods is None:
        yield unseen(
            "launcher pod", "its hook and devices", "give --pod (kubectl get pod NAME -o yaml)"
        )
        if facts.kubevirt is not None or facts.vm is not None:
            yield from check_coming_limits(facts.kubevirt, facts.vm)
        return
    for pod in facts.pods:
        yield from check_pod(pod, facts.wanted, facts.nodes is not None)


def _check_claims(facts: Facts) -> Iterator[Finding]:
    rendered = None if facts.domain is None else facts.domain.rendered
    placements = () if rendered is None else rendered.decision.plan.placements
    assignments = [placement.assignment for placement in placements]
    yield from check_claims(facts.vm, facts.kubevirt, facts.pods, facts.claims, assignments)


def _check_domain(facts: Facts) -> Iterator[Finding]:
    domain = facts.domain
    if domain is None:
        yield unseen(
            "domain",
            "what the hook makes of it",
            "give --domain (virsh dumpxml --inactive NAME in the compute container)",
        )
    elif domain.fault is not None:
        yield refused("domain", domain.fault)
    elif domain.rendered is None:
        yield unseen("domain", "what the hook makes of it", "mend the VM first")
    else:
        yield from _check_rendered(domain.where, domain.rendered, bool(facts.wanted))


def _check_rendered(where: str, rendered: Rendered, asks: bool) -> Iterator[Finding]:
    plan = rendered.decision.plan
    for warning in plan.warnings:
        yield warn("domain", where, warning, "see launcher-hook plan")
    for placement in plan.placements:
        assignment = placement.assignment
        if asks and assignment.is_unclaimed:
            yield warn(
                "domain",
                where,
                f"{assignment.source} is allocated, and no entry of the VM claims it",
                "write an entry in spec.domain.devices.gpus for it",
            )
    places = [
        f"{p.assignment.source} {f'at {p.guest_address}' if p.guest_address else p.guest_place}"
        for p in plan.placements
    ]
    if places:
        yield fine("domain", where, f"render gives it {listed(places)}")
    else:
        yield warn(
            "domain",
            where,
            "it gets no passed-through device",
            "give the VM (--vmi) and its variables (--env-file)",
        )
