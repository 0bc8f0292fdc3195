"""Which other functions must come along with an allocated one, and whether its group can work.

Pure. VFIO gives out whole IOMMU groups, and only viable ones: ``vfio.keeps_group_viable`` has the
rule and its source. kubelet's device plugin put the group's node into the pod, so the members that
the guest can use are the guest's to have.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from launcher_hook.assign import AliasBook
from launcher_hook.binding import decide_binding
from launcher_hook.errors import HostError
from launcher_hook.model import Assignment, HostFacts, HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.settings import Settings
from launcher_hook.vfio import is_bound_to_vfio, is_bridge, keeps_group_viable

_NONE_ATTACHED: Mapping[PciAddress, bool] = {}


def add_companions(
    assignments: Sequence[Assignment],
    facts: HostFacts,
    settings: Settings,
    aliases: AliasBook,
    attached: Collection[PciAddress] = (),
) -> tuple[Assignment, ...]:
    """Attach the other functions of each assigned slot: same group, bound to vfio.

    What the node knows of an assigned function is noted: a VF has a guest slot of its own, and a
    function that is on a driver of its own keeps it. Nothing is added where nothing is known. A
    function in ``attached``, which another device of the domain has, is no companion.

    Returns:
        The assignments in their order, companions behind the last one of their slot and group.
    """
    assignments = [_with_facts(assignment, facts, settings) for assignment in assignments]
    if settings.companions == "ignore":
        return tuple(assignments)
    assigned = {*attached, *(assignment.host_address for assignment in assignments)}
    # By slot and group: a slot may be in several groups, and each has its own.
    last = {_neighbourhood(a, facts): a for a in assignments}
    result = []
    for assignment in assignments:
        result.append(assignment)
        place = _neighbourhood(assignment, facts)
        if place is None or last[place] is not assignment:
            continue
        for function in _functions_of(place, facts):
            if function.address not in assigned:
                companion = Assignment(
                    source=function.address,
                    alias=aliases.give_for(function.address),
                    why=f"companion of {assignment.source}, IOMMU group {function.iommu_group}",
                    is_companion=True,
                )
                result.append(_with_facts(companion, facts, settings, assignment))
    return tuple(result)


def _with_facts(
    assignment: Assignment,
    facts: HostFacts,
    settings: Settings,
    accompanied: Assignment | None = None,
) -> Assignment:
    address = assignment.host_address
    function = facts.function_at(address)
    if function is not None and function.physical_function is not None:
        assignment = replace(assignment, own_slot=True)
    return decide_binding(assignment, function, settings, accompanied)


_Neighbourhood = tuple[tuple[int, int, int], int]
"""A slot, and an IOMMU group in it."""


def _neighbourhood(assignment: Assignment, facts: HostFacts) -> _Neighbourhood | None:
    """Where the companions of an assigned function are; None where it has none.

    A VF has none, nor has a function that is kept from the guest.
    """
    address = None if assignment.is_unassigned else assignment.host_address
    function = facts.function_at(address)
    if function is None or function.iommu_group is None or function.physical_function is not None:
        return None
    return function.address.slot_key, function.iommu_group


def _functions_of(place: _Neighbourhood, facts: HostFacts) -> Iterator[HostFunction]:
    slot, group = place
    for function in sorted(facts.functions.values(), key=lambda function: function.address):
        if (
            function.address.slot_key == slot
            and function.iommu_group == group
            and function.physical_function is None
            and is_bound_to_vfio(function)
            and not is_bridge(function)
        ):
            yield function


def check_host(
    assignments: Sequence[Assignment],
    facts: HostFacts,
    attached: Mapping[PciAddress, bool] = _NONE_ATTACHED,
) -> None:
    """Refuse what the node cannot give; what is not known is not refused.

    Args:
        assignments: With companions.
        facts: Of the node.
        attached: The functions that other devices of the domain have, and whether libvirt binds
            each to vfio-pci by itself.

    Raises:
        HostError: A function or mediated device is not there, or its IOMMU group cannot work.
    """
    if not facts.known:
        return
    managed: dict[PciAddress | None, bool] = dict(attached.items())
    managed |= {a.host_address: a.managed == "yes" for a in assignments}
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
