"""What is asked of single devices, and whether each device and this guest can have it. Pure.

Refused is what libvirt or QEMU would refuse later, at a start that nobody looks at, or take and
do nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher_hook.cpuset import parse_cpuset
from launcher_hook.errors import PlanError
from launcher_hook.model import Assignment, HostFacts, HostFunction, HostSource
from launcher_hook.naming import find_named
from launcher_hook.rompath import check_rom_file
from launcher_hook.settings import NO_OPTIONS, DeviceOptions
from launcher_hook.vfio import has_own_vfio_device

_NVIDIA = 0x10DE
_DISPLAY = 0x03
_VGA = 0x0300

# What libvirt has for functions only; a mediated device it refuses or overlooks.
_OF_FUNCTIONS = {
    "rom_bar": "rom.bar",
    "rom_file": "rom.file",
    "driver_name": "driver.name",
    "driver_model": "driver.model",
    "driver_iommufd": "driver.iommufd",
    "boot_order": "bootOrder",
    "x_vga": "xVga",
    "p2p_clique": "p2pClique",
    "acpi_nodeset": "acpiNodeset",
}
_SPELT = {**_OF_FUNCTIONS, "display": "display", "ramfb": "ramfb"}


def spell_options(options: DeviceOptions) -> dict[str, str | int]:
    """What is asked of a device, by the configuration's own keys: ``rom.bar``."""
    values = {key: getattr(options, name) for name, key in _SPELT.items()}
    return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class GuestParts:
    """What of a guest decides whether an option can be had.

    Attributes:
        boot_orders: Owner, for messages, by place in the boot order; without our hostdevs.
        our_boot_orders: Place of the hostdevs of ours that have one already.
        boots_by_kind: Whether ``<os><boot dev=>`` stands there, with which no device has a place.
        has_graphics: Whether there is somewhere to show a screen.
        cells: The guest's NUMA cells.
    """

    boot_orders: Mapping[int, str] = field(default_factory=dict)
    our_boot_orders: Mapping[HostSource, int] = field(default_factory=dict)
    boots_by_kind: bool = False
    has_graphics: bool = False
    cells: frozenset[int] = frozenset()


def resolve_options(
    asked: Mapping[str, DeviceOptions],
    assignments: Sequence[Assignment],
    facts: HostFacts,
    guest: GuestParts,
    rom_directories: Sequence[str],
    name_of: Callable[[HostFunction], str | None],
) -> tuple[dict[str, DeviceOptions], tuple[str, ...]]:
    """Find the device of each set of options, and see whether it can have them.

    Args:
        asked: By device name, alias, host BDF or mdev UUID.
        assignments: The devices of this VM.
        facts: Of the node; what is not known is not refused.
        guest: The domain.
        rom_directories: Where ROM files may be.
        name_of: What pci.ids calls a function.

    Returns:
        Options by alias, and warnings.

    Raises:
        InputError: A name is that of no device, or a ROM file is not allowed.
        PlanError: The device or the guest cannot have an option.
    """
    by_alias = {assignment.alias: assignment for assignment in assignments}
    named = find_named(asked, assignments, "devices")
    warnings = []
    for alias, (key, options) in named.items():
        check = _Check(f"devices.{key}", by_alias[alias], options, facts, guest)
        check.kind()
        check.display()
        check.boot()
        check.vga()
        check.cells()
        if options.rom_file is not None:
            check_rom_file(options.rom_file, rom_directories, f"devices.{key}.rom.file")
        warnings += check.clique(name_of)
    found = {alias: options for alias, (_, options) in named.items()}
    _check_boot_orders(named, by_alias, guest)
    return found | _of_companions(found, by_alias), tuple(warnings)


def take_for_vgpu(assignment: Assignment, options: DeviceOptions | None) -> Assignment:
    """A function with a display is a vGPU's, and stays with its driver; see ``assign``."""
    if options is None or options.display is None or assignment.host_address is None:
        return assignment
    return replace(assignment, keep_driver=True, managed="no", driver_model=None)


def _of_companions(
    found: Mapping[str, DeviceOptions], by_alias: Mapping[str, Assignment]
) -> dict[str, DeviceOptions]:
    """What comes along is opened in the same way: the kernel gives a group out in one way only."""
    more = {}
    for alias, options in found.items():
        address = by_alias[alias].host_address
        if options.driver_iommufd is None or address is None:
            continue
        for other in by_alias.values():
            own = found.get(other.alias, NO_OPTIONS)
            beside = (
                other.host_address is not None and other.host_address.slot_key == address.slot_key
            )
            if other.name is None and beside and own.driver_iommufd is None:
                more[other.alias] = replace(own, driver_iommufd=options.driver_iommufd)
    return more


def _check_boot_orders(
    named: Mapping[str, tuple[str, DeviceOptions]],
    by_alias: Mapping[str, Assignment],
    guest: GuestParts,
) -> None:
    owners = dict(guest.boot_orders)
    orders = {alias: options.boot_order for alias, (_, options) in named.items()}
    for alias, assignment in by_alias.items():
        there = guest.our_boot_orders.get(assignment.source)
        if there is not None and orders.get(alias) is None:
            owners[there] = alias
    for alias, (key, options) in named.items():
        order = options.boot_order
        if order is None:
            continue
        if order in owners:
            raise PlanError(
                f"devices.{key}.bootOrder",
                f"{order} is the place of {owners[order]} too",
                "give each device a place of its own",
            )
        owners[order] = alias


class _Check:
    """One device's options against what is known."""

    def __init__(
        self,
        where: str,
        assignment: Assignment,
        options: DeviceOptions,
        facts: HostFacts,
        guest: GuestParts,
    ) -> None:
        self._where = where
        self._assignment = assignment
        self._options = options
        self._guest = guest
        address = assignment.host_address
        self._function = facts.function_at(address)
        self._class = self._function.class_code if self._function is not None else None

    def kind(self) -> None:
        """Refuse what mediated devices do not have, and what only a device in the guest has."""
        if self._assignment.is_unassigned:
            for name, key in _SPELT.items():
                if getattr(self._options, name) is not None and not key.startswith("driver."):
                    raise self._refuse(
                        key,
                        "the domain keeps it from the guest: <address type='unassigned'/>",
                        "take it out, or that address",
                    )
        if self._assignment.host_address is not None:
            return
        for name, key in _OF_FUNCTIONS.items():
            if getattr(self._options, name) is not None:
                raise self._refuse(
                    key, "it is a mediated device, and this is for PCI functions", "take it out"
                )

    def display(self) -> None:
        """A screen: of a vGPU, and where there is something to show it on."""
        present = self._assignment.present
        there = present.display if present is not None else None
        display = self._options.display or self._assignment.display or there
        for key, value in (("display", self._options.display), ("ramfb", self._options.ramfb)):
            function = self._function
            if value and function is not None and not has_own_vfio_device(function):
                raise self._refuse(
                    key,
                    "QEMU shows the screen of a vGPU only, and this is a whole function",
                    "take it out; a monitor at the GPU shows its screen",
                )
            if value == "on" and not self._guest.has_graphics:
                raise self._refuse(
                    key,
                    "the VM has no graphics device to show it",
                    "let it have one (autoattachGraphicsDevice), or take it out",
                )
        if self._options.ramfb == "on" and display != "on":
            raise self._refuse("ramfb", "QEMU wants a display with it", "write display: on too")

    def boot(self) -> None:
        """A place in the boot order excludes booting by kind of device."""
        if self._options.boot_order is not None and self._guest.boots_by_kind:
            raise self._refuse(
                "bootOrder",
                "the domain says what to boot by <os><boot dev=...>, and libvirt takes one or the "
                "other",
                "give its other devices a bootOrder in the VMI, or take it out",
            )

    def vga(self) -> None:
        """x-vga is for VGA functions."""
        if self._options.x_vga == "on" and self._class is not None and self._class >> 8 != _VGA:
            raise self._refuse(
                "xVga", f"its class is {self._class:06x}, not VGA (0300)", "take it out"
            )

    def cells(self) -> None:
        """The cells are in the guest."""
        if self._options.acpi_nodeset is None:
            return
        missing = sorted(parse_cpuset(self._options.acpi_nodeset) - self._guest.cells)
        if missing:
            there = ", ".join(map(str, sorted(self._guest.cells))) or "none"
            raise self._refuse(
                "acpiNodeset", f"the guest has no NUMA cell {missing[0]}", f"its cells are: {there}"
            )

    def clique(self, name_of: Callable[[HostFunction], str | None]) -> list[str]:
        """QEMU refuses others than NVIDIA's; NVIDIA's driver does nothing on a GeForce."""
        function = self._function
        if self._options.p2p_clique is None or function is None:
            return []
        if function.vendor_id not in (None, _NVIDIA):
            raise self._refuse(
                "p2pClique", f"its vendor is {function.vendor_id:04x}, not NVIDIA (10de)",
                "take it out",
            )  # fmt: skip
        if self._class is not None and self._class >> 16 != _DISPLAY:
            raise self._refuse(
                "p2pClique", f"its class is {self._class:06x}, not that of a GPU (03)",
                "write it at the GPU",
            )  # fmt: skip
        name = name_of(function) or ""
        if "geforce" not in name.lower():
            return []
        return [
            f"{self._where}.p2pClique: {name} is a GeForce, on which NVIDIA's driver does no "
            "peer-to-peer; the guest will see the clique and not use it"
        ]

    def _refuse(self, key: str, what: str, fix: str) -> PlanError:
        source = self._assignment.source
        return PlanError(f"{self._where}.{key}", f"{source}: {what}", fix)
