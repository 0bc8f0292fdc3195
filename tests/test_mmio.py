"""How large a hole is: BARs and windows at multiples of their sizes, laid out by hand again."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.errors import HostError, InputError, PlanError
from launcher_hook.mmio import AddressSpace, end_of_hole, plan_hole, smallest_hole
from launcher_hook.model import (
    Assignment,
    GuestController,
    GuestPlan,
    GuestTopology,
    Hole,
    Machine,
    Placement,
    PlannedController,
)
from launcher_hook.pci import PciAddress
from launcher_hook.sizes import GIB, MIB, TIB, round_up
from launcher_hook.windows import windows_of

H100 = (16 * MIB, 128 * GIB, 32 * MIB)
UUID = "4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10"

Bars = Mapping[PciAddress, tuple[int, ...] | None]


def guest(machine: Machine = Machine.Q35, waiting: int = 0) -> GuestTopology:
    return GuestTopology(machine, machine.value, {}, {}, waiting, 0)


def hole_for(plan: GuestPlan, topology: GuestTopology, bars: Bars, *, is_uefi: bool = False) -> int:
    known = {address: sizes or () for address, sizes in bars.items()}
    return smallest_hole(windows_of(plan, topology, known), is_uefi=is_uefi)


def host(number: int, function: int = 0) -> PciAddress:
    return PciAddress(0, 0x80 + number, 0, function)


def behind_ports(count: int, functions: int = 1) -> GuestPlan:
    """As many slots, each behind a root port of its own."""
    placements = [
        Placement(Assignment(host(n, f), f"ua-{n}-{f}", ""), PciAddress(0, 24 + n, 0, f), False, "")
        for n in range(count)
        for f in range(functions)
    ]
    ports = [
        PlannedController(24 + n, "pcie-root-port", PciAddress(0, 0, 16 + n // 8, n % 8))
        for n in range(count)
    ]
    return GuestPlan(tuple(placements), tuple(ports))


def bars_of(plan: GuestPlan, *sizes: int) -> Bars:
    addresses = [p.assignment.host_address for p in plan.placements]
    return {address: sizes for address in addresses if address is not None}


@pytest.mark.parametrize(
    ("count", "sizes", "gib"),
    [
        (1, H100, 257),
        (2, H100, 513),
        (8, H100, 2049),
        (1, (128 * GIB,), 129),
        (1, (16 * MIB, 32 * GIB, 32 * MIB), 65),
        (4, (256 * MIB, 2 * MIB), 3),
        (1, (16384,), 2),
        (1, (), 0),
    ],
    ids=["H100", "2 H100", "8 H100", "one BAR", "RTX 4090", "small", "NVMe", "none"],
)
def test_seabios_makes_a_window_a_multiple_of_its_largest_bar(
    count: int, sizes: tuple[int, ...], gib: int
) -> None:
    plan = behind_ports(count)
    assert hole_for(plan, guest(), bars_of(plan, *sizes)) == gib * GIB


@pytest.mark.parametrize(
    ("count", "sizes", "gib"),
    [
        (1, H100, 256),  # 128, and 1 in each of 23 empty ports
        (2, H100, 512),  # 256 and 128, and 2 in each of 23
        (4, H100, 1024),
        (8, H100, 4096),  # 2048: 7 * 256 and 128, and 8 in each of 23, which is too much
        (4, (16 * GIB, 32 * MIB), 128),  # 113, and half of one in each of 23; 129 is too small
        (8, (16 * GIB, 32 * MIB), 512),
        (3, (8 * GIB,), 25),  # OVMF's own is no more than 32, and then nothing is kept
        (1, (32 * GIB, 32 * MIB), 64),
        (4, (8 * GIB,), 64),  # and 1 for the others
        (1, (), 0),
    ],
    ids=["H100", "2 H100", "4 H100", "8 H100", "4 of 16", "8 of 16", "3 of 8", "RTX 4090",
         "4 of 8", "none"],
)  # fmt: skip
def test_ovmf_keeps_a_part_of_the_hole_in_every_port(
    count: int, sizes: tuple[int, ...], gib: int
) -> None:
    plan = behind_ports(count)
    assert hole_for(plan, guest(), bars_of(plan, *sizes), is_uefi=True) == gib * GIB


def test_ports_are_the_vms_own_ours_and_those_that_libvirt_adds() -> None:
    plan = behind_ports(2)
    assert windows_of(plan, guest(), {}).ports == set(range(1, 26))
    assert windows_of(plan, guest(waiting=23), {}).ports == set(range(1, 26))
    assert windows_of(plan, guest(waiting=25), {}).ports == set(range(1, 28))
    place = PciAddress(0, 0, 3, 0)
    models = {1: "dmi-to-pci-bridge", 2: "pcie-to-pci-bridge", 30: "pcie-root-port"}
    controllers = {index: GuestController(index, model, place) for index, model in models.items()}
    taken = {PciAddress(0, 30, 0, 0): "a disk"}
    topology = GuestTopology(Machine.Q35, "q35", controllers, taken, 27, 0)
    assert windows_of(plan, topology, {}).ports == set(range(2, 32))
    on_i440fx = GuestTopology(Machine.I440FX, "pc", controllers, taken, 27, 0)
    assert windows_of(GuestPlan((), ()), on_i440fx, {}).ports == {2, 30}


def test_no_hole_is_large_enough_for_ovmf_where_the_ports_are_too_many() -> None:
    plan = behind_ports(1)
    bars = bars_of(plan, 64 * GIB)
    assert hole_for(plan, guest(waiting=300), bars, is_uefi=True) > 16 * TIB
    with pytest.raises(PlanError, match="attach fewer devices"):
        plan_hole("auto", plan, guest(waiting=300), AddressSpace(is_uefi=True), bars)


def test_functions_of_a_slot_share_a_window() -> None:
    plan = behind_ports(1, functions=4)
    assert hole_for(plan, guest(), bars_of(plan, 32 * GIB)) == 129 * GIB


def test_on_the_root_bus_there_is_no_window() -> None:
    placement = Placement(Assignment(host(0), "ua-0", ""), PciAddress(0, 0, 8, 0), False, "")
    plan = GuestPlan((placement,), ())
    assert hole_for(plan, guest(), bars_of(plan, *H100)) == 130 * GIB
    assert hole_for(plan, guest(), bars_of(plan, 128 * GIB)) == 129 * GIB
    on_i440fx = hole_for(plan, guest(Machine.I440FX), bars_of(plan, *H100), is_uefi=True)
    assert on_i440fx == 130 * GIB


def test_windows_below_a_switch_are_in_its_window() -> None:
    below = PlannedController(26, "pcie-switch-downstream-port", PciAddress(0, 25, 0, 0))
    switch = PlannedController(25, "pcie-switch-upstream-port", PciAddress(0, 24, 0, 0))
    port = PlannedController(24, "pcie-root-port", PciAddress(0, 0, 16, 0))
    placement = Placement(Assignment(host(0), "ua-0", ""), PciAddress(0, 26, 0, 0), False, "")
    plan = GuestPlan((placement,), (port, switch, below))
    assert hole_for(plan, guest(), bars_of(plan, *H100)) == 257 * GIB
    assert hole_for(plan, guest(), bars_of(plan, *H100), is_uefi=True) == 256 * GIB


def test_ovmf_lays_root_buses_out_one_after_the_other() -> None:
    plan = behind_ports(2)
    expanders = [
        PlannedController(index, "pcie-expander-bus", PciAddress(0, 0, index, 0), bus_nr=bus_nr)
        for index, bus_nr in ((1, 200), (2, 100))
    ]
    ports = [
        replace(port, address=PciAddress(0, index, 0, 0))
        for index, port in zip((1, 2), plan.controllers, strict=True)
    ]
    plan = GuestPlan(plan.placements, (*expanders, *ports))
    windows = windows_of(plan, guest(), {host(0): H100, host(1): H100})
    assert windows.roots == (2, 1)
    # 2 in each of 21 ports of bus 0, from 128 on the one, from 384 the other.
    bar = 128 * GIB + 48 * MIB
    assert windows.bytes_taken(512 * GIB, is_uefi=True) == 384 * GIB + bar
    assert windows.bytes_taken(512 * GIB, is_uefi=False) == 512 * GIB
    assert hole_for(plan, guest(), bars_of(plan, *H100), is_uefi=True) == 1024 * GIB


sizes_of_functions = st.lists(
    st.lists(st.integers(4, 40).map(lambda power: 1 << power), max_size=3), min_size=1, max_size=12
)


@given(sizes_of_functions, st.integers(0, 1 << 20))
def test_the_largest_first_everything_fits_from_the_base_that_firmware_takes(
    functions: list[list[int]], memory_gib: int
) -> None:
    plan = behind_ports(len(functions))
    bars = {host(n): tuple(sizes) for n, sizes in enumerate(functions)}
    hole = hole_for(plan, guest(), bars)
    assert hole % GIB == 0
    windows = []
    for sizes in filter(None, functions):
        step = max(MIB, *sizes)
        windows.append((step, round_up(sum(sizes), step)))
    base = end_of_hole(hole, AddressSpace(memory_bytes=memory_gib * GIB)) - hole if hole else 0
    place = base
    for step, size in sorted(windows, reverse=True):
        place = round_up(place, step) + size
    assert place <= base + hole
    assert hole == 0 or hole - (place - base) <= 2 * GIB  # and little is left over


def ask(
    setting: object,
    plan: GuestPlan,
    space: AddressSpace,
    machine: Machine = Machine.Q35,
    bars: Bars | None = None,
) -> tuple[Hole | None, tuple[str, ...]]:
    found = bars_of(plan, *H100) if bars is None else bars
    return plan_hole(setting, plan, guest(machine), space, found)  # type: ignore[arg-type]


def test_off_writes_nothing_and_so_does_a_guest_without_devices() -> None:
    assert ask("off", behind_ports(1), AddressSpace(hole_bytes=0)) == (None, ())
    assert ask("auto", behind_ports(0), AddressSpace()) == (None, ())


def test_ovmf_is_told_where_the_guest_has_it() -> None:
    plan = behind_ports(1)
    assert ask("auto", plan, AddressSpace(is_uefi=True)) == (Hole(256 * GIB, True), ())
    assert ask("auto", plan, AddressSpace()) == (Hole(257 * GIB, False), ())
    assert ask(512 * GIB, plan, AddressSpace(is_uefi=True)) == (Hole(512 * GIB, True), ())


def test_what_qemu_has_by_itself_is_left_where_it_is_enough() -> None:
    plan = behind_ports(1)
    small = bars_of(plan, 8 * GIB)
    assert ask("auto", plan, AddressSpace(is_uefi=True), bars=small) == (None, ())
    assert ask("auto", plan, AddressSpace(), Machine.I440FX, small) == (Hole(9 * GIB), ())
    assert ask("auto", plan, AddressSpace(hole_bytes=4 * GIB), bars=small) == (Hole(9 * GIB), ())


def test_a_hole_that_is_there_is_widened_and_never_narrowed() -> None:
    plan = behind_ports(1)
    for there, after in ((64, 257), (257, 257), (512, 512)):
        hole, _ = ask("auto", plan, AddressSpace(hole_bytes=there * GIB))
        assert hole == Hole(after * GIB)


def test_a_hole_that_is_there_and_too_small_for_ovmf_is_widened_to_a_power_of_two() -> None:
    plan = behind_ports(4)
    bars = bars_of(plan, 16 * GIB, 32 * MIB)
    for there, after in ((64, 128), (128, 128), (129, 256), (255, 255), (512, 512)):
        space = AddressSpace(is_uefi=True, hole_bytes=there * GIB)
        assert ask("auto", plan, space, bars=bars) == (Hole(after * GIB, True), ())


def test_a_size_that_is_too_small_is_written_with_a_warning() -> None:
    plan = behind_ports(4)
    bars = bars_of(plan, 16 * GIB, 32 * MIB)
    told = AddressSpace(is_uefi=True)
    hole, (warning,) = ask(129 * GIB, plan, told, bars=bars)
    assert hole == Hole(129 * GIB, True)
    assert warning == (
        "pciHole64: the devices' BARs, and what OVMF keeps free in the guest's 27 ports, need more "
        "than 129 GiB: the guest does not map every BAR; write auto, or 256 GiB"
    )
    assert ask(256 * GIB, plan, told, bars=bars) == (Hole(256 * GIB, True), ())
    assert ask(129 * GIB, plan, AddressSpace(), bars=bars) == (Hole(129 * GIB), ())
    _, (warning,) = ask(64 * GIB, plan, AddressSpace(), bars=bars)
    assert "the devices' BARs need more than 64 GiB" in warning
    assert "write auto, or 129 GiB" in warning
    too_many = bars_of(plan, 16 * TIB)
    assert ask(GIB, plan, told, bars=too_many)[1][0].endswith("attach fewer devices")


def test_a_size_is_taken_as_it_is_where_nothing_is_known_of_the_node() -> None:
    plan = behind_ports(2)
    for bars in ({}, {host(0): None, host(1): None}):
        space = AddressSpace(is_uefi=True)
        assert ask(GIB, plan, space, bars=bars) == (Hole(GIB, True), ())


def test_on_a_machine_without_a_size_nothing_is_written_with_a_warning() -> None:
    for machine in (Machine.VIRT, Machine.OTHER):
        hole, (warning,) = ask("auto", behind_ports(1), AddressSpace(), machine)
        assert hole is None
        assert "has no size to be set" in warning


def test_a_hole_that_is_switched_off_is_the_vms_owners_to_decide() -> None:
    with pytest.raises(PlanError, match="take the annotation kubevirt.io/disablePCIHole64 out"):
        ask(64 * GIB, behind_ports(1), AddressSpace(hole_bytes=0))


def test_somebody_elses_size_for_ovmf_is_left_with_a_warning() -> None:
    space = AddressSpace(is_uefi=True, told_mib=("65536",))
    hole, (warning,) = ask("auto", behind_ports(1), space)
    assert hole == Hole(256 * GIB, False)
    assert "is told 65536 MiB" in warning
    ours = AddressSpace(is_uefi=True, told_mib=(str(256 * 1024),))
    assert ask("auto", behind_ports(1), ours) == (Hole(256 * GIB, True), ())
    twice = AddressSpace(is_uefi=True, told_mib=(str(256 * 1024),) * 2)
    assert len(ask("auto", behind_ports(1), twice)[1]) == 1


@pytest.mark.parametrize(
    ("bits", "memory_gib", "reaches"),
    [(40, 16, True), (39, 16, False), (40, 600, False), (46, 4096, True), (None, 1 << 20, True)],
)
def test_physical_address_bits_that_do_not_reach_are_warned_of(
    bits: int | None, memory_gib: int, reaches: bool
) -> None:
    space = AddressSpace(memory_bytes=memory_gib * GIB, phys_bits=bits, phys_bits_said=True)
    _, warnings = ask(512 * GIB, behind_ports(1), space)
    assert all("cpu.model: host-passthrough" in warning for warning in warnings)
    assert [f"{bits} physical address bits of its CPU (as configured)" in w for w in warnings] == (
        [] if reaches else [True]
    )


def test_memory_that_may_be_plugged_in_is_below_the_hole() -> None:
    grows = AddressSpace(memory_bytes=4 * GIB, hotplug_bytes=100 * GIB)
    assert end_of_hole(32 * GIB, grows) == 160 * GIB
    assert end_of_hole(32 * GIB, AddressSpace(memory_bytes=GIB)) == 64 * GIB


def test_more_than_ovmf_takes_is_refused() -> None:
    plan = behind_ports(16)
    with pytest.raises(PlanError, match="need 32769 GiB, and OVMF takes 16 TiB; attach fewer"):
        ask("auto", plan, AddressSpace(), bars=bars_of(plan, TIB, GIB))


def test_bars_that_are_not_known_are_asked_for() -> None:
    plan = behind_ports(2)
    with pytest.raises(InputError, match=r"BARs of 0000:80:00.0 are not known; give the node's"):
        ask("auto", plan, AddressSpace(), bars={host(0): None, host(1): None})
    with pytest.raises(HostError, match="0000:81:00.0: resource: its BARs cannot be read; let"):
        ask("auto", plan, AddressSpace(), bars={host(0): H100, host(1): None})


def test_a_mediated_devices_bars_are_not_counted_and_that_is_said() -> None:
    placement = Placement(Assignment(UUID, "ua-mdev", ""), PciAddress(0, 24, 0, 0), False, "")
    plan = GuestPlan((placement,), ())
    hole, (warning,) = ask("auto", plan, AddressSpace(), bars={})
    assert hole is None
    assert "the BARs of ua-mdev are not counted" in warning
