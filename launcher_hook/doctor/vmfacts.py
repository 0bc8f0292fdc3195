"""What a VirtualMachineInstance, or a VirtualMachine's template, says beside its devices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from launcher_hook.doctor.manifest import descend, name_of, take_mappings
from launcher_hook.doctor.quantity import parse_quantity
from launcher_hook.errors import InputError
from launcher_hook.vmi import Vmi, read_vmi

KINDS = ("VirtualMachineInstance", "VirtualMachine")


@dataclass(frozen=True, slots=True)
class VmFacts:
    """A VM, as KubeVirt's controllers will see it.

    Attributes:
        where: Its name in messages.
        place: Where its annotations must stand.
        vmi: What the hook reads of it; None where the hook refuses it.
        fault: Why the hook refuses it.
        annotations: Those that count, of the VMI or the template.
        outer: Those of a VirtualMachine itself, which its VMIs do not get.
        labels: Those that count.
        is_guaranteed: Whether KubeVirt gives its hook sidecars limits by itself.
        locks_memory: Whether virt-handler lifts the limit of locked memory for it.
        sriov_paths: Its SR-IOV interfaces, each with its place.
        claimed_networks: Its networks that have their device by a resource claim, by their places.
    """

    where: str
    place: str = "metadata.annotations"
    vmi: Vmi | None = None
    fault: InputError | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)
    outer: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    is_guaranteed: bool = False
    locks_memory: bool = False
    sriov_paths: tuple[str, ...] = ()
    claimed_networks: tuple[str, ...] = ()


def parse_vm(document: Mapping[str, Any], where: str) -> VmFacts:
    """Read a VMI or a VirtualMachine.

    Raises:
        InputError: A field outside the devices has the wrong type.
    """
    name = name_of(document, where)
    outer: Mapping[str, Any] = {}
    inner = dict(document)
    place = "metadata.annotations"
    if document["kind"] == "VirtualMachine":
        outer = descend(document, name, "metadata", "annotations")
        inner = descend(document, name, "spec", "template")
        place = "spec.template.metadata.annotations"
    vmi = fault = None
    try:
        vmi = read_vmi(dict(document), where)
    except InputError as error:
        fault = error
    domain = descend(inner, name, "spec", "domain")
    return VmFacts(
        name,
        place,
        vmi,
        fault,
        descend(inner, name, "metadata", "annotations"),
        outer,
        descend(inner, name, "metadata", "labels"),
        _is_guaranteed(domain, name),
        _locks_memory(domain, name),
        tuple(_find_sriov(domain, name)),
        tuple(_find_claimed_networks(descend(inner, name, "spec"), name)),
    )


def _find_sriov(domain: Mapping[str, Any], where: str) -> Iterator[str]:
    interfaces = take_mappings(descend(domain, where, "devices"), "interfaces", where)
    for index, interface in enumerate(interfaces):
        if interface.get("sriov") is not None:
            yield f"spec.domain.devices.interfaces[{index}]"


def _find_claimed_networks(spec: Mapping[str, Any], where: str) -> Iterator[str]:
    for index, network in enumerate(take_mappings(spec, "networks", where)):
        if network.get("resourceClaim") is not None:
            yield f"spec.networks[{index}]"


def _is_guaranteed(domain: Mapping[str, Any], where: str) -> bool:
    """kubevirt.io/api core/v1: IsCPUDedicated, WantsToHaveQOSGuaranteed."""
    if descend(domain, where, "cpu").get("dedicatedCpuPlacement") is True:
        return True
    amounts = {}
    for kind in ("requests", "limits"):
        values = descend(domain, where, "resources", kind)
        for resource in ("cpu", "memory"):
            try:
                amounts[kind, resource] = parse_quantity(values.get(resource, 0))
            except ValueError:
                amounts[kind, resource] = Fraction(0)
    memory, most_memory = amounts["requests", "memory"], amounts["limits", "memory"]
    cpu, most_cpu = amounts["requests", "cpu"], amounts["limits", "cpu"]
    return bool(most_memory) and memory in (0, most_memory) and bool(cpu) and cpu == most_cpu


def _locks_memory(domain: Mapping[str, Any], where: str) -> bool:
    """kubevirt pkg/hypervisor/kvm/runtime.go: AdjustResources; pkg/vmitrait: HasVFIO."""
    devices = descend(domain, where, "devices")
    if devices.get("gpus") or devices.get("hostDevices"):
        return True
    if any("sriov" in interface for interface in take_mappings(devices, "interfaces", where)):
        return True
    overhead = descend(domain, where, "memory", "reservedOverhead")
    return (
        "realtime" in descend(domain, where, "cpu")
        or "sev" in descend(domain, where, "launchSecurity")
        or overhead.get("memLock") == "Required"
    )
