"""Devices that the guest does not find: nobody has function 0 of their slot, or unassigned. Pure.

A guest looks at functions 1 to 7 of a slot only where function 0 answers. libvirt takes such an
address and starts the VM, and the guest does not see the device.
"""

from collections.abc import Iterable, Iterator

from launcher_hook.chipset import CHIPSET_FUNCTIONS
from launcher_hook.model import GuestPlan, GuestTopology, Machine
from launcher_hook.pci import PciAddress

# libvirt puts the functions of one ICH9 USB controller into one slot, also beside one that has its
# address already (qemuDomainAssignDevicePCISlots).
_COMPLETED = "controller usb ich9-"

FIX = "number its functions from 0: a guest does not look at the others without it"


def find_hidden(addresses: Iterable[PciAddress], machine: Machine) -> Iterator[PciAddress]:
    """The lowest function of each slot that has no function 0."""
    lowest: dict[tuple[int, int, int], PciAddress] = {}
    for address in addresses:
        lowest[address.slot_key] = min(address, lowest.get(address.slot_key, address))
    chipset = {
        (0, 0, slot) for slot, function in CHIPSET_FUNCTIONS.get(machine, ()) if not function
    }
    return (a for slot, a in lowest.items() if a.function and slot not in chipset)


def describe_hidden(address: PciAddress) -> str:
    """What is wrong with a slot, by its lowest function; nothing that names a device."""
    where = str(address).rpartition(".")[0]
    return f"guest slot {where} has function {address.function} but no function 0"


def warn_of_hidden(plan: GuestPlan, topology: GuestTopology) -> Iterator[str]:
    """A sentence for each slot, and each device asked for, that the guest will not find."""
    for placement in plan.placements:
        assignment = placement.assignment
        if assignment.is_unassigned and assignment.name is not None:
            yield (
                f"{assignment.alias}: the VM asks for it, and the domain keeps it from the guest: "
                "<address type='unassigned'/>; take that address out of the hostdev"
            )
    owners = dict(topology.taken)
    for controller in plan.controllers:
        if controller.address is not None:
            owners[controller.address] = f"controller pci {controller.index}"
    for placement in plan.placements:
        if placement.guest_address is not None:
            owners[placement.guest_address] = placement.assignment.alias
    for address in find_hidden(owners, topology.machine):
        if not owners[address].startswith(_COMPLETED):
            yield f"{owners[address]}: {describe_hidden(address)}; {FIX}"
