"""Which other functions must come along with an allocated one, and whether its group can work.

Pure. VFIO gives out whole IOMMU groups, and only viable ones: ``sysfs.keeps_group_viable`` has the
rule and its source. kubelet's device plugin put the group's node into the pod, so the members that
the guest can use are the guest's to have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from launcher_hook.assign import AliasBook
from launcher_hook.errors import HostError
from launcher_hook.model import Assignment, HostFacts, HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.settings import Settings
from launcher_hook.vfio import (
    has_own_vfio_device,
    is_bound_to_vfio,
    is_bridge,
    keeps_group_viable,
)


def add_companions(
    assignments: Sequence[Assignment], facts: HostFacts, settings: Settings, aliases: AliasBook
) -> tuple[Assignment, ...]:
    """Attach the other functions of each assigned slot: same group, bound to vfio.

    What the node knows of an assigned function is noted: a VF has a guest slot of its own, and a
    vGPU's VF keeps its driver. Nothing is added where nothing is known.

    Returns:
        The assignments in their order, each slot's companions behind its last one.
    """
    assignments = [_with_facts(assignment, facts, settings) for assignment in assignments]
    if settings.companions == "ignore":
        return tuple(assignments)
    assigned = {assignment.host_address for assignment in assignments}
    last_of_slot = {
        assignment.host_address.slot_key: assignment
        for assignment in assignments
        if assignment.host_address is not None
    }
    result = []
    for assignment in assignments:
        result.append(assignment)
        address = assignment.host_address
        if address is None or last_of_slot[address.slot_key] is not assignment:
            continue
        for function in _companions(address, facts):
            if function.address not in assigned:
                companion = Assignment(
                    source=function.address,
                    alias=aliases.give_for(function.address),
                    why=f"companion of {address}, IOMMU group {function.iommu_group}",
                    is_companion=True,
                )
                result.append(_with_facts(companion, facts, settings))
    return tuple(result)


def _with_facts(assignment: Assignment, facts: HostFacts, settings: Settings) -> Assignment:
    address = assignment.host_address
    function = facts.functions.get(address) if address is not None else None
    own_slot, keep_driver = assignment.own_slot, assignment.keep_driver
    if function is not None:
        own_slot = own_slot or function.physical_function is not None
        keep_driver = keep_driver or has_own_vfio_device(function)
    managed = "no" if keep_driver else _managed(assignment, settings)
    if (own_slot, keep_driver, managed) == (
        assignment.own_slot,
        assignment.keep_driver,
        assignment.managed,
    ):
        return assignment
    return replace(assignment, own_slot=own_slot, keep_driver=keep_driver, managed=managed)


def _managed(assignment: Assignment, settings: Settings) -> Literal["yes", "no"]:
    if settings.managed == "no":
        return "no"
    kept = assignment.present.managed if assignment.present is not None else None
    return "no" if settings.managed == "keep" and kept == "no" else "yes"


def _companions(address: PciAddress, facts: HostFacts) -> Iterator[HostFunction]:
    main = facts.functions.get(address)
    if main is None or main.iommu_group is None or main.physical_function is not None:
        return
    for other in sorted(facts.functions.values(), key=lambda function: function.address):
        if (
            other.address.slot_key == address.slot_key
            and other.iommu_group == main.iommu_group
            and other.physical_function is None
            and is_bound_to_vfio(other)
            and not is_bridge(other)
        ):
            yield other


def check_host(assignments: Sequence[Assignment], facts: HostFacts) -> None:
    """Refuse what the node cannot give; what is not known is not refused.

    Raises:
        HostError: A function or mediated device is not there, or its IOMMU group cannot work.
    """
    if not facts.known:
        return
    managed = {a.host_address: a.managed == "yes" for a in assignments}
    for assignment in assignments:
        address = assignment.host_address
        if address is None:
            _check_mediated_device(assignment, facts)
            continue
        function = facts.functions.get(address)
        if function is None:
            raise HostError(
                f"{address} ({assignment.alias})",
                "the node has no such function",
                "see whether it was unplugged or its device plugin is stale; start the VM again "
                "when kubelet offers it",
            )
        if function.iommu_group is None:
            continue
        for member in facts.functions.values():
            if member.iommu_group == function.iommu_group and not is_bridge(member):
                _check_member(member, function, managed.get(member.address))


def _check_mediated_device(assignment: Assignment, facts: HostFacts) -> None:
    if facts.mediated_devices.get(str(assignment.source)) is False:
        raise HostError(
            f"{assignment.source} ({assignment.alias})",
            "the node has no such mediated device",
            "create it, or start the VM again so that kubelet allocates one that is there",
        )


def _check_member(member: HostFunction, of: HostFunction, managed: bool | None) -> None:
    """Check one function of a group; ``managed`` is None for one that is not assigned."""
    if member.driver is None or is_bound_to_vfio(member) or managed:
        return
    # A member that is left alone may also have no driver at all, or one that does no DMA.
    if managed is None and keeps_group_viable(member):
        return
    driver = repr(member.driver) if member.driver else "no driver"
    raise HostError(
        f"{of.address}: IOMMU group {of.iommu_group}",
        f"its function {member.address} is bound to {driver}, so the group cannot be given to a VM",
        f"bind {member.address} to vfio-pci on the node",
    )
