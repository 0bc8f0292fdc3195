"""The story of the program: read, decide, write, check."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace

from launcher_hook.assign import AliasBook, assign_devices
from launcher_hook.binding import binding_warnings, take_asked_driver
from launcher_hook.companions import add_companions, check_host
from launcher_hook.domain.aliases import find_lost_overrides
from launcher_hook.domain.attached import read_attached
from launcher_hook.domain.document import Element, parse_domain, print_domain
from launcher_hook.domain.edit import put_plan
from launcher_hook.domain.inspect import (
    opens_by_iommufd,
    passed_hostdevs,
    read_aliases,
    read_hostdev,
    read_screen,
    read_topology,
    read_usb_aliases,
)
from launcher_hook.entries import name_contradictions
from launcher_hook.errors import HostError, InputError
from launcher_hook.hidden import warn_of_hidden
from launcher_hook.host import Host
from launcher_hook.iommufd import leave_out_companions
from launcher_hook.model import (
    MOST_DEVICES,
    Allocation,
    EntryDevice,
    GuestPlan,
    GuestTopology,
    HostFacts,
    PresentHostdev,
)
from launcher_hook.plan import plan_guest
from launcher_hook.schema import SchemaSet, check_options, check_written, look_before
from launcher_hook.settings import BY_NODE, Settings
from launcher_hook.sysfs import HostTree
from launcher_hook.vmi import Vmi

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that decides what a domain will look like.

    Attributes:
        domain_xml: As the launcher or ``virsh dumpxml`` gives it.
        where: The domain's name in messages.
        vmi: An empty one where there is none.
        allocations: By variable; empty in a stock sidecar.
        host: The node's ``/sys``; ``HostTree(None)`` where there is none.
        settings: The merged configuration.
        rom_directories: Where the deployment lets ROM files be.
        devices: What a user, a pod's metadata or the VMI's status tells of entries' devices, by the
            entry's path; none for a hook, which takes nobody's word but the launcher's.
    """

    domain_xml: bytes
    where: str = "domain XML"
    vmi: Vmi = field(default_factory=Vmi)
    allocations: Mapping[str, Allocation] = field(default_factory=dict)
    host: Host = field(default_factory=lambda: HostTree(None))
    settings: Settings = field(default_factory=Settings)
    rom_directories: Sequence[str] = ()
    devices: Mapping[str, EntryDevice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided for a domain, before anything is written."""

    plan: GuestPlan
    topology: GuestTopology
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class Rendered:
    """A domain with its devices.

    Attributes:
        xml: The input's own bytes where nothing had to change.
        warnings: Faults in the document that were there before us.
    """

    xml: bytes
    decision: Decision
    warnings: tuple[str, ...]


def render_domain(inputs: Inputs, schemas: SchemaSet, *, explain: bool = False) -> Rendered:
    """Give a domain its passed-through devices: read, decide, write, check.

    Args:
        inputs: The domain and all that decides.
        schemas: What the result is checked against.
        explain: Whether faults that were there before are named in the warnings (slower).

    Raises:
        HookError: In one of its branches; nothing has been written then.
    """
    tree = parse_domain(inputs.domain_xml, inputs.where)
    root = tree.getroot()
    present = _read_present(root, inputs.where)
    decision = _decide(root, present, inputs)
    before = look_before(root, schemas, explain=explain)
    printed = print_domain(tree, inputs.domain_xml)
    written = put_plan(root, decision.plan, present, decision.topology.machine)
    check_options(written, decision.plan.options, schemas)
    warnings = check_written(written, before, root, schemas)
    xml = print_domain(tree, inputs.domain_xml)
    if xml == printed:
        xml = inputs.domain_xml
    return Rendered(xml, decision, tuple(str(fault) for fault in warnings))


def plan_domain(inputs: Inputs) -> Decision:
    """Decide what a domain would get, and write nothing; where devices are on the node is read too.

    Raises:
        HookError: As for ``render_domain``.
    """
    root = parse_domain(inputs.domain_xml, inputs.where).getroot()
    return _decide(root, _read_present(root, inputs.where), inputs, placing=True)


def has_passed_devices(domain_xml: bytes) -> bool:
    """Say whether a domain has a passed-through device; True of one that cannot be read."""
    try:
        root = parse_domain(domain_xml).getroot()
    except InputError:
        return True
    return next(passed_hostdevs(root), None) is not None


def _read_present(root: Element, where: str) -> list[tuple[Element, PresentHostdev]]:
    hostdevs = tuple(passed_hostdevs(root))
    if len(hostdevs) > MOST_DEVICES:
        raise InputError(
            where,
            f"it has {len(hostdevs)} passed-through devices",
            f"give at most {MOST_DEVICES}: no guest has room for more",
        )
    return [(element, read_hostdev(element, where)) for element in hostdevs]


def _decide(
    root: Element,
    present: Sequence[tuple[Element, PresentHostdev]],
    inputs: Inputs,
    *,
    placing: bool = False,
) -> Decision:
    by_node = inputs.settings.layout in BY_NODE
    topology = read_topology(root, inputs.where, with_numa=by_node)
    aliases = AliasBook(read_aliases(root))
    attached = read_attached(root, inputs.where)
    hostdevs = [hostdev for _, hostdev in present]
    assigned = assign_devices(
        inputs.vmi.requests,
        inputs.allocations,
        hostdevs,
        aliases,
        read_usb_aliases(root),
        attached,
        read_screen(root),
        inputs.devices,
    )
    contradictions = name_contradictions(inputs.vmi.requests, hostdevs, inputs.devices)
    facts = inputs.host.facts(
        (assignment.source for assignment in assigned), placing=by_node or placing
    )
    assigned = add_companions(assigned, facts, inputs.settings, aliases, attached)
    openable = leave_out_companions(
        assigned, facts, inputs.settings, by_default=opens_by_iommufd(root)
    )
    inputs = replace(inputs, settings=openable.settings)
    check_host(openable.assignments, facts, attached)
    plan = plan_guest(openable.assignments, topology, inputs.settings, facts)
    if inputs.settings.devices:
        plan = _with_options(plan, root, present, facts, inputs)
    plan = _with_binding_warnings(plan, facts, inputs.settings)
    if inputs.settings.pci_hole64 != "off":
        plan = _with_hole(plan, root, topology, inputs)
    found = (
        *contradictions,
        *openable.warnings,
        *warn_of_hidden(plan, topology),
        *find_lost_overrides(root),
    )
    plan = replace(plan, warnings=(*plan.warnings, *found))
    for placement in plan.placements:
        unclaimed = placement.assignment.is_unclaimed and inputs.vmi.requests
        log.log(
            logging.WARNING if unclaimed else logging.INFO,
            "%s %s at %s: %s; %s",
            placement.assignment.alias,
            placement.assignment.source,
            placement.guest_place,
            placement.assignment.why,
            placement.why,
        )
    for warning in plan.warnings:
        log.warning("%s", warning)
    return Decision(plan, topology, facts)


def _with_options(
    plan: GuestPlan,
    root: Element,
    present: Sequence[tuple[Element, PresentHostdev]],
    facts: HostFacts,
    inputs: Inputs,
) -> GuestPlan:
    # Loaded only where it is asked for, as in _with_hole: most VMs ask for neither.
    from launcher_hook.domain.parts import read_parts
    from launcher_hook.options import resolve_options, take_for_vgpu
    from launcher_hook.pciids import load_names

    options, warnings = resolve_options(
        inputs.settings.devices,
        [placement.assignment for placement in plan.placements],
        facts,
        read_parts(root, present, inputs.where),
        inputs.rom_directories,
        load_names().function_name,
    )
    placements = []
    for placement in plan.placements:
        asked = options.get(placement.assignment.alias)
        assignment = take_for_vgpu(placement.assignment, asked)
        if asked is not None and asked.driver_model is not None:
            function = facts.function_at(assignment.host_address)
            assignment = take_asked_driver(
                assignment, asked.driver_model, function, inputs.settings
            )
        placements.append(replace(placement, assignment=assignment))
    return replace(
        plan, placements=tuple(placements), options=options, warnings=(*plan.warnings, *warnings)
    )


def _with_binding_warnings(plan: GuestPlan, facts: HostFacts, settings: Settings) -> GuestPlan:
    warnings = [
        warning
        for placement in plan.placements
        for warning in binding_warnings(
            placement.assignment, facts.function_at(placement.assignment.host_address), settings
        )
    ]
    return replace(plan, warnings=(*plan.warnings, *warnings)) if warnings else plan


def _with_hole(
    plan: GuestPlan, root: Element, topology: GuestTopology, inputs: Inputs
) -> GuestPlan:
    from launcher_hook.domain.space import read_space
    from launcher_hook.mmio import plan_hole

    setting = inputs.settings.pci_hole64
    bars = {}
    for placement in plan.placements:
        address = placement.assignment.host_address
        if address is not None and not placement.assignment.is_unassigned:
            # A given size is what one writes where the node's word for a BAR cannot be had.
            with nullcontext() if setting == "auto" else suppress(HostError):
                bars[address] = inputs.host.bars64(address)
    hole, warnings = plan_hole(setting, plan, topology, read_space(root), bars)
    return replace(plan, hole=hole, warnings=(*plan.warnings, *warnings))
