"""Plans of devices of which nothing but their addresses is known, and how tests write them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from launcher_hook.model import Assignment, GuestPlan, GuestTopology, Machine, PresentHostdev
from launcher_hook.pci import PciAddress
from launcher_hook.plan import plan_guest
from launcher_hook.settings import Layout, Settings

Q35 = GuestTopology(Machine.Q35, "q35", {}, {}, waiting=8, waiting_on_root=0)
I440FX = replace(Q35, machine=Machine.I440FX, machine_type="pc")
S390X = replace(Q35, machine=Machine.OTHER, machine_type="s390-ccw-virtio")
VIRT = replace(Q35, machine=Machine.VIRT, machine_type="virt")


def address(bdf: str) -> PciAddress:
    return PciAddress.parse(bdf)


def device(
    bdf: str, name: str | None = None, at: str | None = None, **others: object
) -> Assignment:
    source = address(bdf)
    alias = f"ua-gpu-{name}" if name else f"ua-pci-{bdf.replace(':', '-').replace('.', '-')}"
    present = PresentHostdev(source, alias, address(at)) if at else None
    assignment = Assignment(source, alias, "test", name=name, present=present)
    return replace(assignment, **others)  # type: ignore[arg-type]


def plan(
    devices: Sequence[Assignment],
    topology: GuestTopology = Q35,
    layout: Layout = "auto",
    slots: Mapping[str, str] | None = None,
) -> GuestPlan:
    pins = {key: address(bdf) for key, bdf in (slots or {}).items()}
    return plan_guest(devices, topology, Settings(layout=layout, slots=pins))


def guest(planned: GuestPlan) -> dict[str, str]:
    """Guest address by host source, with ``+`` for multifunction."""
    return {
        str(p.assignment.source): f"{p.guest_address}{'+' if p.multifunction else ''}"
        for p in planned.placements
    }
