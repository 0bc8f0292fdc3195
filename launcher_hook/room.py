"""What is free in a guest, and what libvirt will need for the other devices. Pure.

libvirt gives a device without address the lowest free place, and it gives places out after the
hook has answered. Whatever we take below what it needs moves somebody else's disk or NIC, so we
stay above it. Read in libvirt 9.0 and 11.3, src/qemu/qemu_domain_address.c
(qemuDomainAssignPCIAddresses) and src/conf/domain_addr.c, and measured in
tests/test_real_libvirt.py:

- PCIe machines: every device gets a ``pcie-root-port`` of its own, by rising controller index.
  Gaps in the indexes are filled with root ports, also those below the bus of a device's address
  for which the domain has no controller. The ports themselves go to the root bus by index, eight to
  a slot, into the lowest free slots. A port of such a gap that no other device will need can be
  ours without being written: libvirt adds it in any case, and where it would be without us.
- An expander bus has its own bus numbers from ``busNr`` on, and the root's must end below: too many
  ports, also empty ones, and the guest does not find what is behind it. A virtio-iommu sits behind
  the ports on the root bus, so that ports which only fill a gap push it on. For such guests we
  leave no gap.
- i440fx: every device gets a slot of bus 0, the lowest free one first; one slot more is kept for
  a bridge, and when it is not there libvirt adds a bridge that moves everything.
"""

from collections.abc import Iterator

from launcher_hook.chipset import AVOIDED_SLOTS, RESERVED_SLOTS, owners_by_address
from launcher_hook.errors import PlanError, shorten
from launcher_hook.model import PORT_MODELS, GuestController, GuestTopology, Machine
from launcher_hook.pci import MAX_BUS, MAX_FUNCTION, MAX_SLOT, PciAddress
from launcher_hook.settings import Layout

FIRST_INDEX = 24
"""Our root ports begin here even in a small guest, so that a disk more does not renumber a GPU."""

_EXPANDER_ROOM = 64
"""Ports of ours that must fit between FIRST_INDEX and an expander bus, or we leave no gap."""

FUNCTIONS_A_SLOT = MAX_FUNCTION + 1

_FIRST_SLOT = 0x08
"""Of hostdevs on the root bus: the classic place."""
_FIRST_PORT_SLOT = 0x10
"""Of our root ports: leaves libvirt 14 slots of eight ports."""

_SPARE_BUSES = 32
"""Buses that the guest's root bus keeps free below our expander buses, for ports that come later:
virt-launcher adds up to 16 for hotplug."""

_CONVENTIONAL = {"pci-bridge": 1, "pcie-to-pci-bridge": 1, "dmi-to-pci-bridge": 0}
"""Lowest slot of each bus that takes plain devices."""


class GuestRoom:
    """Places of one guest, each given out once.

    Args:
        topology: The guest without our devices.
        ours: Guest addresses that our devices have already.
    """

    def __init__(self, topology: GuestTopology, ours: set[PciAddress]) -> None:
        self._topology = topology
        self._machine = topology.machine
        self._ours = set(ours)
        self._new_ports: set[int] = set()  # on the root bus
        self._off_root: set[int] = set()  # our expander buses, and what is behind them
        self._skipped: set[PciAddress] = set()  # left free on purpose
        used = {address.bus for address in (*topology.taken, *ours)}
        self._highest = max([0, *topology.controllers, *used])
        numbers = (c.bus_nr for c in topology.controllers.values() if c.bus_nr is not None)
        self._end = min([MAX_BUS + 1, *numbers])
        self._lowest_bus_nr = self._end
        gap = not topology.waiting_on_root and self._end >= FIRST_INDEX + _EXPANDER_ROOM
        self._first = FIRST_INDEX if gap else 1
        # An upper bound of what libvirt would use by itself.
        self._highest_foreign = self._highest + topology.waiting
        self._owners = owners_by_address(topology)
        self._filled = self._find_filled(used)

    def owner_of(self, address: PciAddress) -> str | None:
        """Who has this guest address; None where it is free of others."""
        return self._topology.taken.get(address)

    def _find_filled(self, used: set[int]) -> tuple[int, ...]:
        """The ports with which libvirt fills gaps and that no waiting device will need.

        A device that waits takes the lowest empty port, whether it is there or fills a gap.
        """
        if self._machine is Machine.I440FX:
            return ()
        controllers = self._topology.controllers
        waiting = self._topology.waiting
        filled = []
        for index in range(1, self._highest + 1):
            controller = controllers.get(index)
            if index in used or (controller and controller.model not in PORT_MODELS):
                continue
            if waiting:
                waiting -= 1
            elif controller is None:
                filled.append(index)
        return tuple(filled)

    def free_function(self, slot: PciAddress) -> PciAddress | None:
        """Give the lowest free function of a guest slot, or None."""
        for function in range(FUNCTIONS_A_SLOT):
            address = slot.with_function(function)
            if address not in self._ours and address not in self._owners:
                self._ours.add(address)
                return address
        return None

    # Pins

    def pin(self, address: PciAddress, where: str) -> None:
        """Take the place that a user asked for.

        Raises:
            PlanError: It is reserved, taken, or impossible, or libvirt needs it for others.
        """
        owner = self.owner_of(address)
        if address in self._ours:
            owner = "another passed-through device"
        if owner is not None:
            advice = self._advice(on_root=address.bus == 0)
            raise PlanError(where, f"'{address}' is that of {owner}", advice)
        if address.domain != 0:
            raise PlanError(where, f"'{address}': a guest has PCI domain 0 only", self._advice())
        if address.bus == 0:
            self._check_root_slot(address, where)
        else:
            self._check_bus(address, where)
        self._ours.add(address)

    def _check_root_slot(self, address: PciAddress, where: str) -> None:
        reserved = RESERVED_SLOTS[self._machine].get(address.slot)
        if reserved is not None:
            raise PlanError(
                where,
                f"'{address}': slot {address.slot:#04x} is reserved for the {reserved}",
                self._advice(on_root=True),
            )
        if address.slot in self._foreign_slots():
            raise PlanError(
                where,
                f"'{address}': libvirt will need slot {address.slot:#04x} for other devices, "
                "which would move",
                self._advice(on_root=True),
            )

    def _check_bus(self, address: PciAddress, where: str) -> None:
        controller = self._topology.controllers.get(address.bus)
        lowest, highest = self._slots_of(controller, where, address)
        if not lowest <= address.slot <= highest:
            allowed = "slot 0 only" if highest == 0 else f"slots {lowest:#04x} to {highest:#04x}"
            nearest = PciAddress(0, address.bus, lowest, 0)
            raise PlanError(
                where, f"'{address}': bus {address.bus:#04x} has {allowed}", f"pin to {nearest}"
            )
        if controller is None and address.bus not in self._filled:
            if address.bus <= self._highest_foreign:
                raise PlanError(
                    where,
                    f"'{address}': libvirt will need bus {address.bus:#04x} for other devices, "
                    "which would move",
                    self._advice(),
                )
            if address.bus >= self._end or (
                self._topology.waiting_on_root and address.bus > self._highest_foreign + 1
            ):
                raise PlanError(
                    where,
                    f"'{address}': ports up to bus {address.bus:#04x} would push an expander bus "
                    "or a virtio-iommu away",
                    self._advice(),
                )
            self._new_ports.add(address.bus)
        elif controller is not None and address.bus in self._foreign_buses():
            raise PlanError(
                where,
                f"'{address}': libvirt will give bus {address.bus:#04x} to a device that has no "
                "address yet",
                self._advice(),
            )

    def _slots_of(
        self, controller: GuestController | None, where: str, address: PciAddress
    ) -> tuple[int, int]:
        if controller is None:
            if self._machine is Machine.I440FX:
                raise PlanError(
                    where,
                    f"'{address}': there is no controller with index {address.bus}, and machine "
                    f"{shorten(self._topology.machine_type)} has no PCIe ports to add",
                    self._advice(),
                )
            return (0, 0)
        if controller.model in PORT_MODELS:
            return (0, 0)
        if controller.model in _CONVENTIONAL:
            return (_CONVENTIONAL[controller.model], MAX_SLOT)
        raise PlanError(
            where,
            f"'{address}': bus {address.bus:#04x} is a {controller.model or 'controller'}, which "
            "takes no devices",
            self._advice(),
        )

    def _advice(self, *, on_root: bool = False) -> str:
        """Where else a pin could go; on the root bus too where that was wanted."""
        free = self._free_root_slots() if on_root or self._machine is Machine.I440FX else []
        slot = f"pin to 0000:00:{free[0]:02x}.0" if free else ""
        if self._machine is Machine.I440FX:
            return slot or "this guest has no free slot"
        bus = self._next_index()
        if bus >= self._end:
            return slot or "this guest has no free bus"
        higher = "" if self._topology.waiting_on_root else " or a higher bus"
        return f"{slot + ', or' if slot else 'pin'} to 0000:{bus:02x}:00.0{higher}"

    def lowest_bus(self) -> int:
        """The lowest index of a new root port, which a full guest has no bus for."""
        return max(self._first, self._highest_foreign + 1)

    def advice_when_full(self, layout: Layout) -> str:
        """What else than fewer devices would help."""
        if layout == "root-bus":
            return ", or write layout: root-port on a q35 machine"
        if self._end <= MAX_BUS:
            return ", or give the expander bus a higher busNr"
        return ""

    # Places of our choice

    def next_root_slot(self) -> PciAddress | None:
        """Give function 0 of the next slot of the root bus for a device; None when it is full."""
        free = self._free_root_slots()
        if not free:
            return None
        address = PciAddress(0, 0, free[0], 0)
        self._ours.add(address)
        return address

    def _free_root_slots(self) -> list[int]:
        taken = self._taken_root_slots() | self._foreign_slots()
        unwanted = {*RESERVED_SLOTS[self._machine], *AVOIDED_SLOTS[self._machine]}
        unwanted |= {address.slot for address in self._skipped if address.bus == 0}
        return [slot for slot in range(_FIRST_SLOT, MAX_SLOT + 1) if slot not in taken | unwanted]

    def next_bus(self) -> PciAddress | None:
        """Give the one slot of a root port's bus; None when there are no numbers left."""
        index = self._next_index()
        if index >= self._end:
            return None
        if index not in self._filled:
            self._new_ports.add(index)
        return self.take(PciAddress(0, index, 0, 0))

    def has_places(self, count: int, *, on_root_bus: bool) -> bool:
        """Whether so many devices fit, each in a place of its own; False where it is close."""
        if on_root_bus:
            return count <= len(self._free_root_slots())
        new = count - len(self._filled)
        highest = self.lowest_bus() + len(self._new_ports) + new - 1
        closed = self._taken_root_slots() | set(RESERVED_SLOTS[self._machine])
        free = MAX_SLOT - 1 - len(closed) - self._topology.waiting_on_root
        fits = self._unplaced(highest) <= free * FUNCTIONS_A_SLOT
        return new <= 0 or (highest < self._end and fits)

    def skip_place(self, *, on_root_bus: bool) -> None:
        """Leave the next place of a device free."""
        if on_root_bus:
            slots = self._free_root_slots()[:1]
            self._skipped.update(PciAddress(0, 0, slot, 0) for slot in slots)
        else:
            self._skipped.add(PciAddress(0, self._next_index(), 0, 0))

    def next_expander_bus(self) -> tuple[int, PciAddress] | None:
        """Give the index of a new expander bus, and a slot of the root bus; None without room."""
        slot = next(self._slots_for_controllers(), None)
        index = None if slot is None else self.next_index_off_root()
        if slot is None or index is None:
            return None
        return index, self.take(PciAddress(0, 0, slot, 0))

    def next_index_off_root(self) -> int | None:
        """Give the index of a new expander bus, or of what is behind one; None: there is none."""
        index = self._next_new_index()
        if index > MAX_BUS:
            return None
        self._off_root.add(index)
        return index

    def next_bus_nr(self, buses: int) -> int | None:
        """Give an expander bus its bus number, from the top down.

        KubeVirt 1.9 gives the same (pci-placement.go, assignBusNr): the first expander bus with
        one port behind it is bus 254.

        Args:
            buses: Its own, and those behind it.

        Returns:
            None if the buses of the guest's root bus would not fit below it.
        """
        self._lowest_bus_nr -= buses
        highest = max(self._off_root | self._new_ports)  # they begin above the others
        on_root = highest - len(self._off_root)  # gaps in the indexes are ports on the root bus
        if on_root + _SPARE_BUSES >= self._lowest_bus_nr:
            return None
        return self._lowest_bus_nr

    def take(self, address: PciAddress) -> PciAddress:
        """Note that an address has its owner now."""
        self._ours.add(address)
        return address

    def _next_index(self) -> int:
        """The index of the next root port: one that libvirt adds in any case, or a new one."""
        taken = self._ours | self._skipped
        for index in self._filled:
            if index >= self._first and PciAddress(0, index, 0, 0) not in taken:
                return index
        return self._next_new_index()

    def _next_new_index(self) -> int:
        index = self.lowest_bus()
        skipped = {address.bus for address in self._skipped}
        while index in self._new_ports or index in self._off_root or index in skipped:
            index += 1
        return index

    def place_ports(self) -> dict[int, PciAddress] | None:
        """Give every new root port its place on the root bus, by index; None when it is full."""
        indexes = sorted(self._new_ports)
        if not indexes and not self._off_root:
            return {}
        places = (
            PciAddress(0, 0, slot, function)
            for slot in self._slots_for_controllers()
            for function in range(FUNCTIONS_A_SLOT)
        )
        placed = dict(zip(indexes, places, strict=False))
        slots = {place.slot for place in placed.values()}
        if len(placed) < len(indexes) or not self._gap_fits(slots):
            return None
        return placed

    def _slots_for_controllers(self) -> Iterator[int]:
        """The root bus's slots that our controllers may have, the best first."""
        unwanted = {*RESERVED_SLOTS[self._machine], *AVOIDED_SLOTS[self._machine]}
        closed = self._taken_root_slots() | self._foreign_slots() | unwanted
        upward = range(_FIRST_PORT_SLOT, MAX_SLOT + 1)
        downward = range(_FIRST_PORT_SLOT - 1, 0, -1)
        return (slot for slot in (*upward, *downward) if slot not in closed)

    def _gap_fits(self, slots: set[int]) -> bool:
        """Whether the root bus also has places for the ports with which libvirt fills the gaps."""
        ours = self._new_ports | self._off_root
        gaps = self._unplaced(max(ours)) - len(ours)
        closed = self._taken_root_slots() | slots | set(RESERVED_SLOTS[self._machine])
        free = MAX_SLOT + 1 - len(closed) - self._topology.waiting_on_root
        return gaps <= free * FUNCTIONS_A_SLOT

    def bridge_index(self) -> int | None:
        """Where libvirt will add a pcie-to-pci-bridge, as long as our new ports are not there.

        It counts the buses that it needs device by device; the first that needs conventional PCI
        makes it add a port and the bridge behind the ports of those before it.
        """
        if not self._new_ports and not self._off_root:
            return None
        controllers = self._topology.controllers
        # A slot other than 0 on a bus that has no controller: libvirt makes it a bridge's, unless
        # our ports have made it one of the gaps that it fills with ports.
        slotted = (a.bus for a in self._topology.taken if a.slot and a.bus not in controllers)
        implied = min((bus for bus in slotted if bus), default=None)
        before = self._topology.ports_before_bridge
        if implied is not None or before is None:
            return implied
        used = {address.bus for address in (*self._topology.taken, *self._ours)}
        free = 0
        for index in range(1, self._highest + 1):
            controller = controllers.get(index)
            if index not in used and (controller is None or controller.model in PORT_MODELS):
                free += 1
        return self._highest + max(0, before - free) + 2

    # What libvirt will need

    def _taken_root_slots(self) -> set[int]:
        return {
            address.slot for address in (*self._topology.taken, *self._ours) if address.bus == 0
        }

    def _unplaced(self, highest: int) -> int:
        """How many indexes up to this one have a controller without address, or none yet."""
        controllers = self._topology.controllers
        return sum(
            1
            for index in range(1, highest + 1)
            if index not in controllers or controllers[index].address is None
        )

    def _foreign_buses(self) -> set[int]:
        """The empty buses that libvirt will fill first."""
        used = {address.bus for address in (*self._topology.taken, *self._ours)}
        empty = [
            index
            for index, controller in sorted(self._topology.controllers.items())
            if controller.model in PORT_MODELS and index not in used
        ]
        return set(empty[: self._topology.waiting])

    def _foreign_slots(self) -> set[int]:
        """The root bus's slots that libvirt will fill: with ports, or with devices on i440fx.

        Ports that libvirt adds only to fill the gap up to our indexes come after these, and go
        round whatever we have taken.
        """
        topology = self._topology
        count = topology.waiting_on_root
        if self._machine is Machine.I440FX:
            count += topology.waiting + 1
        else:
            count += -(-self._unplaced(self._highest_foreign) // FUNCTIONS_A_SLOT)
        closed = self._taken_root_slots() | set(RESERVED_SLOTS[self._machine])
        free = [slot for slot in range(1, MAX_SLOT + 1) if slot not in closed]
        return set(free[:count])
