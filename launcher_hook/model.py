"""Frozen values that the layers hand to each other. No I/O, no XML, no decisions."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from launcher_hook.errors import InputError
from launcher_hook.pci import PciAddress
from launcher_hook.settings import DeviceOptions

MOST_DEVICES = 1024
"""Passed through to one guest; 255 buses have room for less. It bounds time and memory."""

HostSource = PciAddress | str
"""What backs a guest device: a host function, or the UUID (lower case) of a mediated device."""


def source_order(source: HostSource) -> tuple[bool, int, int, int, int, str]:
    """Sort key: host functions by address, then mediated devices by UUID."""
    if isinstance(source, PciAddress):
        return (False, source.domain, source.bus, source.slot, source.function, "")
    return (True, 0, 0, 0, 0, source)


@dataclass(frozen=True, slots=True)
class HostFunction:
    """A PCI function as the node's ``/sys`` shows it; None is "not known", never a guess.

    Attributes:
        class_code: 24 bits: class, subclass, programming interface (0x030000 is VGA).
        iommu_group: Number of the group; equal for functions that must be passed together.
        numa_node: None also where sysfs says -1.
        driver: Name of the bound driver; "" where sysfs shows that none is bound.
        vfio_device: Name of the function's vfio device, e.g. ``vfio12``; None where the kernel
            shows none: bound to no vfio driver, or Linux before 6.1.
        physical_function: The PF of an SR-IOV VF.
        bridges: Those above, from the root bus down; empty on a root bus.
    """

    address: PciAddress
    vendor_id: int | None = None
    device_id: int | None = None
    class_code: int | None = None
    iommu_group: int | None = None
    numa_node: int | None = None
    driver: str | None = None
    vfio_device: str | None = None
    physical_function: PciAddress | None = None
    bridges: tuple[PciAddress, ...] = ()

    @property
    def parent(self) -> PciAddress | None:
        """The bridge above; None on a root bus."""
        return self.bridges[-1] if self.bridges else None

    @property
    def host_bridge(self) -> tuple[int, int]:
        """PCI domain and number of the root bus that it is on or below."""
        top = self.bridges[0] if self.bridges else self.address
        return (top.domain, top.bus)

    @property
    def base_class(self) -> int | None:
        """The upper 8 bits of its class: 0x03 is a display controller."""
        return None if self.class_code is None else self.class_code >> 16

    @property
    def ids(self) -> str | None:
        """Vendor and device as lspci writes them, ``10de:1f08``; None where one is not known."""
        if self.vendor_id is None or self.device_id is None:
            return None
        return f"{self.vendor_id:04x}:{self.device_id:04x}"


@dataclass(frozen=True, slots=True)
class MediatedDevice:
    """A mediated device as the node's ``/sys`` shows it; None is "not known", never a guess.

    Attributes:
        uuid: Lower case.
        type_name: What its driver calls the type, e.g. ``GRID T4-1Q``; where it gives no name,
            the type's own directory, e.g. ``i915-GVTg_V5_4``.
        parent: The function that it is a part of.
    """

    uuid: str
    type_name: str | None = None
    iommu_group: int | None = None
    parent: PciAddress | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of the node around the assigned functions.

    Attributes:
        known: False where there was no ``/sys`` to read: then nothing is concluded from absence.
        functions: The assigned functions that exist, every function of their slots, and every
            member of their IOMMU groups.
        mediated_devices: Whether a UUID exists; one that is not in here is not known about.
        mediated_parents: The function, which is among ``functions``, that a UUID is a part of.
        node_cpus: The CPUs of the functions' NUMA nodes; one that is not in here is not known.
    """

    known: bool = False
    functions: Mapping[PciAddress, HostFunction] = field(default_factory=dict)
    mediated_devices: Mapping[str, bool] = field(default_factory=dict)
    mediated_parents: Mapping[str, PciAddress] = field(default_factory=dict)
    node_cpus: Mapping[int, Set[int]] = field(default_factory=dict)

    def function_at(self, address: PciAddress | None) -> HostFunction | None:
        """What is known of a function; None too for a device that is none."""
        return None if address is None else self.functions.get(address)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """The request of a resource claim (DRA) that is to bring an entry's device.

    Attributes:
        claim: ``claimName``: the name of an entry of the VMI's ``spec.resourceClaims[]``, and with
            it of the pod's.
        request: ``requestName``: one of the claim's ``spec.devices.requests[]``; "" where the VMI
            does not say.
    """

    claim: str
    request: str

    def __str__(self) -> str:
        return f"{self.claim}/{self.request}"


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One entry of the VMI's ``gpus[]`` or ``hostDevices[]``.

    Attributes:
        kind: ``gpu`` or ``hostdevice``, as in the launcher's alias.
        resource: Extended resource, e.g. ``nvidia.com/GH100``; None for a resource claim's device.
        path: Where the entry stands in the VMI, for messages.
        claim: An entry with a resource should have none: KubeVirt does not use it.
        display: ``virtualGPUOptions.display.enabled``; None where the VMI does not say.
        ramfb: ``virtualGPUOptions.display.ramFB.enabled``; None where the VMI does not say.
    """

    kind: Literal["gpu", "hostdevice"]
    name: str
    resource: str | None
    path: str
    display: bool | None = None
    ramfb: bool | None = None
    claim: ClaimRequest | None = None

    @property
    def launcher_alias(self) -> str:
        """The alias that virt-launcher gives the entry's hostdev, without ``ua-``.

        kubevirt pkg/virt-launcher/virtwrap/device/hostdevice: AliasPrefix of gpu, generic and dra,
        the last from 1.6 on.
        """
        return f"{'dra-' if self.resource is None else ''}{self.kind}-{self.name}"


@dataclass(frozen=True, slots=True)
class PodClaim:
    """An entry of the VMI's ``spec.resourceClaims[]``, which the launcher pod gets as it is.

    Attributes:
        claim: ``resourceClaimName``: the ResourceClaim itself; None where it is made of a template.
        template: ``resourceClaimTemplateName``.
    """

    claim: str | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True)
class EntryDevice:
    """The device of one entry, as somebody else tells it than the domain and the variables.

    Attributes:
        source: None where there is none to be had.
        origin: Who tells it, for messages.
        is_demand: Whether the user asks for this very device, so that nothing may contradict it.
        fault: Why there is no source; it is raised where the device is needed.
        versions: Those of a metadata file.
    """

    source: HostSource | None
    origin: str
    is_demand: bool = False
    fault: InputError | None = None
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocation:
    """One variable: what kubelet's device plugin gave the pod of one resource.

    Attributes:
        variable: ``PCI_RESOURCE_NVIDIA_COM_GH100`` or ``MDEV_PCI_RESOURCE_...``.
        sources: In the variable's order; empty is an allocation of nothing.
    """

    variable: str
    sources: tuple[HostSource, ...]


@dataclass(frozen=True, slots=True)
class PresentHostdev:
    """A PCI or mdev ``<hostdev>`` that stands in the domain already.

    Attributes:
        guest_address: None where it has none, or one that is not a PCI address.
        address_type: As written, such as pci, unassigned or ccw; None where it has no address.
        managed: As written; None where it is not.
        driver_name: Of its ``<driver>``; None where it has none.
        driver_model: As driver_name.
        display: As written, on or off; the launcher writes it for a vGPU.
        line: Line of the element in the text it was read from.
        iommufd: As its driver has it, yes or no; None where the domain decides.
    """

    source: HostSource
    alias: str | None
    guest_address: PciAddress | None
    managed: str | None = None
    driver_name: str | None = None
    driver_model: str | None = None
    display: str | None = None
    line: int | None = None
    address_type: str | None = None
    iommufd: str | None = None


@dataclass(frozen=True, slots=True)
class GuestScreen:
    """What of a guest decides whether a vGPU can have a screen.

    Attributes:
        has_graphics: libvirt refuses display='on' without a ``<graphics>``.
        has_ramfb: A device of the domain has the boot framebuffer already; QEMU takes one.
    """

    has_graphics: bool = True
    has_ramfb: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """A host device that this domain gets, and on whose behalf.

    Attributes:
        name: The VMI entry's name; None for companions and unclaimed devices.
        alias: With ``ua-``.
        why: For people: where this assignment comes from.
        present: The hostdev that is adopted; None where one must be written.
        own_slot: Never shares a guest slot. True for mediated devices, and for SR-IOV virtual
            functions: virt-launcher unplugs those one by one before a migration, and libvirt
            does not unplug one function of a multi-function slot.
        keep_driver: libvirt must not bind the function to vfio-pci: it is a vGPU's VF, whose
            own driver provides the vfio device.
        unplugged_by_launcher: It is an SR-IOV interface, which virt-launcher unplugs by itself
            before a migration: ``managed`` and driver stay as it wrote them.
        managed: What libvirt's attribute is to be, for a function.
        driver_model: The host driver that libvirt is told to bind a managed function to; None
            tells it nothing.
        is_companion: It comes along with an assigned function of its slot.
        is_claimed: It is the device of a resource claim, and not of a device plugin.
        display: For a mediated device that must be written: "on", "off" or None.
        ramfb: As display.
    """

    source: HostSource
    alias: str
    why: str
    name: str | None = None
    present: PresentHostdev | None = None
    own_slot: bool = False
    keep_driver: bool = False
    unplugged_by_launcher: bool = False
    managed: Literal["yes", "no"] = "yes"
    driver_model: str | None = None
    is_companion: bool = False
    is_claimed: bool = False
    display: Literal["on", "off"] | None = None
    ramfb: Literal["on", "off"] | None = None

    @property
    def host_address(self) -> PciAddress | None:
        """The host function; None for a mediated device."""
        return self.source if isinstance(self.source, PciAddress) else None

    @property
    def is_unassigned(self) -> bool:
        """Whether libvirt takes the function and keeps it from the guest (address 'unassigned')."""
        present = self.present
        return (
            present is not None
            and present.address_type == "unassigned"
            and self.host_address is not None
        )

    @property
    def is_unclaimed(self) -> bool:
        """Whether it was allocated, and nobody asked for it: no entry, no hostdev, no companion."""
        return self.name is None and self.present is None and not self.is_companion


class Machine(Enum):
    """What a guest's machine type means for PCI."""

    Q35 = "q35"
    VIRT = "virt"
    I440FX = "i440fx"
    OTHER = "other"
    """No PCI, or a topology that we leave to libvirt (s390x, pseries)."""


OUR_MODELS = (
    "pcie-root-port",
    "pcie-expander-bus",
    "pcie-switch-upstream-port",
    "pcie-switch-downstream-port",
)
"""Controllers that we make for our devices."""

PORT_MODELS = ("pcie-root-port", "pcie-switch-downstream-port")
"""Controllers whose bus has one slot, 0 (libvirt domain_addr.c, virDomainPCIAddressBusSetModel)."""


@dataclass(frozen=True, slots=True)
class GuestController:
    """A ``<controller type='pci'>`` of the domain.

    Attributes:
        index: Also the number of the guest bus that it provides, as the XML counts.
        model: libvirt's, e.g. ``pcie-root-port``; "" where the XML gives none.
        bus_nr: Of an expander bus: its bus number, as the guest counts.
        node: Of an expander bus: the guest NUMA cell that it belongs to; None for none.
    """

    index: int
    model: str
    address: PciAddress | None
    bus_nr: int | None = None
    node: int | None = None


@dataclass(frozen=True, slots=True)
class GuestNuma:
    """How the guest's NUMA cells lie on the host.

    Attributes:
        cells: The vCPUs of each cell.
        memory_nodes: The host nodes that a cell's memory is bound to, by cell.
        pins: The host CPUs that a vCPU is pinned to.
    """

    cells: Mapping[int, Set[int]] = field(default_factory=dict)
    memory_nodes: Mapping[int, Set[int]] = field(default_factory=dict)
    pins: Mapping[int, Set[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuestTopology:
    """What a plan must know of the guest: everything in it that is not a passed-through device.

    Attributes:
        machine_type: The XML's own word, for messages.
        controllers: By index.
        taken: Owner (for messages) of each guest address that something else has.
        waiting: How many other devices libvirt will give an address behind a port of their own
            (PCIe machines) or a slot (i440fx); an upper bound.
        waiting_on_root: How many other devices libvirt will put on the root bus itself; an upper
            bound.
        ports_before_bridge: How many of those that wait get their port before libvirt adds a
            pcie-to-pci-bridge for the first conventional one; None where it adds none.
        numa: Empty where it has not been asked for.
    """

    machine: Machine
    machine_type: str
    controllers: Mapping[int, GuestController]
    taken: Mapping[PciAddress, str]
    waiting: int
    waiting_on_root: int
    ports_before_bridge: int | None = None
    numa: GuestNuma = field(default_factory=GuestNuma)

    def controllers_with(
        self, planned: Iterable["PlannedController"]
    ) -> dict[int, "GuestController | PlannedController"]:
        """Its controllers and those of a plan, which go before its own, by index."""
        return {**self.controllers, **{controller.index: controller for controller in planned}}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a device appears in the guest.

    Attributes:
        guest_address: None where libvirt decides (machines that we do not lay out), and for a
            device that is kept from the guest.
        multifunction: Whether ``multifunction='on'`` must be written.
        why: For people: what decided this address.
    """

    assignment: Assignment
    guest_address: PciAddress | None
    multifunction: bool
    why: str

    @property
    def guest_place(self) -> str:
        """Where the device is in the guest, for people."""
        if self.guest_address is not None:
            return str(self.guest_address)
        return "not in the guest" if self.assignment.is_unassigned else "libvirt's choice"


@dataclass(frozen=True, slots=True)
class PlannedController:
    """A PCI controller that carries our devices and nothing else.

    Attributes:
        index: Controller index, and number of the bus behind it, as the XML counts.
        model: ``pcie-root-port``, ``pcie-expander-bus``, ``pcie-switch-upstream-port`` or
            ``pcie-switch-downstream-port``.
        address: None for one that libvirt has yet to place.
        bus_nr: Of an expander bus: its bus number, as the guest counts.
        node: Of an expander bus: the guest NUMA cell that it belongs to; None for none.
    """

    index: int
    model: str
    address: PciAddress | None
    multifunction: bool = False
    bus_nr: int | None = None
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Hole:
    """The address space above the guest's memory in which 64-bit BARs are mapped.

    Attributes:
        size_bytes: Whole MiB.
        tell_firmware: Whether OVMF is told too, which does not look at the machine's own size.
    """

    size_bytes: int
    tell_firmware: bool = False


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """Everything that is to be written, in the order in which it is written.

    Attributes:
        controllers: By index, so that what is above comes before what is below.
        bridge_index: Where libvirt would add a pcie-to-pci-bridge by itself if it were not for our
            controllers, behind which it would come now: written out so that it stays there.
        warnings: What was asked for and could not be had, a sentence each.
        options: What is asked of single devices, by alias.
        hole: None where nothing is written about it.
    """

    placements: tuple[Placement, ...]
    controllers: tuple[PlannedController, ...]
    bridge_index: int | None = None
    warnings: tuple[str, ...] = ()
    options: Mapping[str, DeviceOptions] = field(default_factory=dict)
    hole: Hole | None = None
