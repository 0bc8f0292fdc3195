"""A launcher pod as it is, and the limits that its hook has or will have. Pure."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from launcher_hook.doctor.clusterfacts import Amounts, Container, KubeVirt, LauncherPod
from launcher_hook.doctor.finding import Finding, fail, fine, listed, unseen, warn
from launcher_hook.doctor.vmfacts import VmFacts

# README.md, "The sidecar": made for what KubeVirt gives a sidecar of a VM with dedicated CPUs
# (pkg/virt-controller/services/renderresources.go: sidecarResources).
NEEDED = {"memory": Fraction(64_000_000), "cpu": Fraction(200, 1000)}
_SPELT = {"memory": "64M", "cpu": "200m"}

# kubevirt pkg/virt-controller/services/template.go: sidecarContainerName; the plugin API's
# container is found by what it is told.
_SIDECAR = "hook-sidecar-"
_PLUGIN_OPTION = "--plugin-socket"
_COMPUTE = "compute"
_PROGRAM = "launcher-hook"


def runs_plugin(pod: LauncherPod) -> bool:
    """Whether it has the hook by the plugin API."""
    return any(_is_plugin(container) for container in pod.containers)


def check_pod(pod: LauncherPod, wanted: Counter[str], nodes_known: bool) -> Iterator[Finding]:
    """That it has the hook, with room enough, and the devices.

    Args:
        pod: The pod.
        wanted: How many of each resource its VM asks for.
        nodes_known: Whether what the nodes have is looked at too.
    """
    if pod.unscheduled is not None:
        yield fail(
            "pod",
            pod.where,
            f"no node takes it: {pod.unscheduled}",
            "see what kubelet's findings say that they lack, and the pod's own conditions"
            if nodes_known
            else "give the nodes by --node-object to see what they lack",
        )
    hooks = _hooks(pod)
    if not hooks:
        yield fail(
            "pod",
            pod.where,
            f"none of its containers is the hook: {listed(c.name for c in pod.containers)}"
            if pod.containers
            else "it has no containers",
            "give the VM the annotation hooks.kubevirt.io/hookSidecars, and start it anew",
        )
    for hook in hooks:
        where = f"{pod.where}: {hook.name}"
        if hook.out_of_memory:
            yield fail(
                "sidecar limits",
                where,
                f"it was killed for its memory, with {_spell(hook.limits)}",
                _raise_limits("memory", "96M"),
            )
        elif hook.restarts:
            yield warn(
                "pod",
                where,
                f"it was started {hook.restarts + 1} times",
                f"see kubectl logs --previous, container {hook.name}",
            )
        yield from check_limits(hook.limits, where)
    compute = next((c for c in pod.containers if c.name == _COMPUTE), None)
    for resource, amount in wanted.items():
        given = None if compute is None else compute.limits.get(resource)
        if given is None or given < amount:
            yield fail(
                "pod",
                f"{pod.where}: {_COMPUTE}",
                f"the VM asks for {amount} {resource}, and it has {int(given or 0)}",
                "start the VM anew: the pod is of an older one",
            )


def check_limits(limits: Amounts, where: str) -> Iterator[Finding]:
    """Too little memory ends the hook, too little CPU makes it late."""
    short = [name for name, least in NEEDED.items() if limits.get(name, least) < least]
    for name in short:
        yield (fail if name == "memory" else warn)(
            "sidecar limits",
            where,
            f"its limit of {name} is {_amount(name, limits[name])}, and it is made for "
            f"{_SPELT[name]}",
            _raise_limits(name, _SPELT[name]),
        )
    if not short:
        yield fine("sidecar limits", where, _spell(limits))


def check_coming_limits(kubevirt: KubeVirt | None, vm: VmFacts | None) -> Iterator[Finding]:
    """The limits that the VM's next pod will give its hook, where there is no pod to look at."""
    if kubevirt is None:
        yield unseen(
            "sidecar limits", "what the hook may use", "give --pod, or --kubevirt-cr and --vmi"
        )
        return
    limits = dict(kubevirt.sidecar_limits)
    where = f"{kubevirt.where}: supportContainerResources"
    if vm is not None and vm.is_guaranteed:
        where += f", for {vm.where}"
        for name, least in NEEDED.items():
            limits.setdefault(name, least)
    yield from check_limits(limits, where)


def _hooks(pod: LauncherPod) -> list[Container]:
    """Those that are ours by what is written there; else every sidecar, any of which may be."""
    hooks = [c for c in pod.containers if c.name.startswith(_SIDECAR) or _is_plugin(c)]
    ours = [c for c in hooks if any(_PROGRAM in word for word in (c.image, *c.words))]
    return ours or hooks


def _is_plugin(container: Container) -> bool:
    return any(word.startswith(_PLUGIN_OPTION) for word in container.words)


def _spell(limits: Amounts) -> str:
    said = [f"{_amount(name, limits[name])} {name}" for name in NEEDED if name in limits]
    return " and ".join(said) or "no limits"


def _amount(name: str, amount: Fraction) -> str:
    if name == "cpu":
        return f"{int(amount * 1000)}m"
    return f"{float(amount / 1_000_000):g}M"


def _raise_limits(name: str, amount: str) -> str:
    return (
        "write into the KubeVirt CR, spec.configuration.supportContainerResources: "
        f"[{{type: sidecar, resources: {{limits: {{{name}: {amount}}}}}}}], or more, and "
        "start the VM anew"
    )
