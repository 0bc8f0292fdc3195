"""Guest slots: layouts, ports, what does not fit."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slotplans import I440FX, Q35, S390X, VIRT, address, device, guest, plan

from launcher_hook.errors import InputError, PlanError
from launcher_hook.model import (
    Assignment,
    GuestController,
    GuestPlan,
    GuestTopology,
    Machine,
    PresentHostdev,
)
from launcher_hook.pci import PciAddress
from launcher_hook.plan import plan_guest
from launcher_hook.settings import Layout, Settings


def test_each_host_slot_gets_a_root_port_from_index_24_on() -> None:
    planned = plan([device("0000:af:00.0"), device("0000:86:00.0")])
    assert guest(planned) == {"0000:af:00.0": "0000:18:00.0", "0000:86:00.0": "0000:19:00.0"}
    assert [(p.index, str(p.address), p.multifunction) for p in planned.controllers] == [
        (24, "0000:00:10.0", True),
        (25, "0000:00:10.1", False),
    ]


def test_functions_of_one_host_slot_share_a_guest_slot_and_count_from_0() -> None:
    planned = plan([device("0000:3b:00.6"), device("0000:3b:00.3"), device("0000:3b:01.3")])
    assert guest(planned) == {
        "0000:3b:00.6": "0000:18:00.0+",
        "0000:3b:00.3": "0000:18:00.1",
        "0000:3b:01.3": "0000:19:00.0",
    }


def test_devices_of_their_own_slot_do_not_share() -> None:
    planned = plan([device("0000:65:00.2", own_slot=True), device("0000:65:00.3", own_slot=True)])
    assert guest(planned) == {"0000:65:00.2": "0000:18:00.0", "0000:65:00.3": "0000:19:00.0"}


def test_a_placement_says_why() -> None:
    devices = [device("0000:86:00.0"), device("0000:86:00.1")]
    assert [p.why for p in plan(devices).placements] == ["root port 24, host slot 0000:86:00"] * 2
    (classic,) = plan(devices[:1], layout="root-bus").placements
    assert classic.why == "root bus, host slot 0000:86:00"
    uuid = "4b20d080-1b54-4048-85b3-a6a62d165c01"
    (kept,) = plan([device("0000:86:00.0", at="0000:09:00.0")]).placements
    assert kept.why == "the address that it has"
    (mediated,) = plan([Assignment(uuid, "ua-gpu-v", "test", own_slot=True)]).placements
    assert mediated.why == f"root port 24, host slot {uuid}"


def test_a_mediated_device_takes_its_turn_like_a_function() -> None:
    mdev = Assignment("4b20d080-1b54-4048-85b3-a6a62d165c01", "ua-gpu-v", "test", own_slot=True)
    planned = plan([mdev, device("0000:86:00.0")])
    assert guest(planned) == {str(mdev.source): "0000:18:00.0", "0000:86:00.0": "0000:19:00.0"}


def test_ports_go_above_what_libvirt_will_need() -> None:
    controllers = {
        index: GuestController(index, "pcie-root-port", PciAddress(0, 0, 2 + index // 8, index % 8))
        for index in range(1, 31)
    }
    planned = plan([device("0000:86:00.0")], replace(Q35, controllers=controllers))
    assert guest(planned) == {"0000:86:00.0": "0000:27:00.0"}  # 30 + 8 waiting + 1


@pytest.mark.parametrize("owner", ["ours", "another"])
def test_an_address_on_a_high_bus_leaves_room_for_more_below_it(owner: str) -> None:
    """libvirt fills the buses below it with ports, and one of those is as good as a new one."""
    high = address("0000:d0:00.0")
    devices = [device("0000:86:00.0", "gpu0"), device("0000:af:00.0", "gpu1")]
    topology = Q35
    if owner == "ours":
        devices.append(device("0000:3b:02.0", "nic", at=str(high), own_slot=True))
    else:
        topology = replace(Q35, taken={high: "interface"})
    planned = plan(devices, topology)
    assert [str(p.guest_address) for p in planned.placements[:2]] == [
        "0000:18:00.0",
        "0000:19:00.0",
    ]
    assert planned.controllers == ()  # written, they would move libvirt's own


def test_what_waits_takes_the_lowest_ports_of_a_gap() -> None:
    taken = {address("0000:30:00.0"): "interface", address("0000:02:00.0"): "disk"}
    topology = replace(Q35, taken=taken, waiting=30)  # 1 and 3 to 31
    planned = plan([device("0000:86:00.0")], topology)
    assert guest(planned) == {"0000:86:00.0": "0000:20:00.0"}
    with pytest.raises(PlanError, match="will need bus 0x1f for other devices"):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:1f:00.0"})
    pinned = plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:21:00.0"})
    assert (guest(pinned), pinned.controllers) == ({"0000:86:00.0": "0000:21:00.0"}, ())


def test_no_gap_is_left_before_an_expander_bus_with_a_low_number() -> None:
    expander = GuestController(2, "pcie-expander-bus", address("0000:00:05.0"), bus_nr=20)
    topology = replace(Q35, controllers={2: expander})
    assert guest(plan([device("0000:86:00.0")], topology)) == {"0000:86:00.0": "0000:0b:00.0"}
    with pytest.raises(
        PlanError, match="; attach fewer devices, or give the expander bus a higher busNr$"
    ):
        plan([device(f"0000:{bus:02x}:00.0") for bus in range(10)], topology)
    with pytest.raises(PlanError, match="would push an expander bus .* away; pin to 0000:0b:00.0"):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:14:00.0"})
    for bus_nr, bus in ((87, "0b"), (88, "18"), (254, "18")):  # 64 ports of ours fit below
        high = {2: replace(expander, bus_nr=bus_nr)}
        planned = plan([device("0000:86:00.0")], replace(Q35, controllers=high))
        assert guest(planned) == {"0000:86:00.0": f"0000:{bus}:00.0"}


def test_no_gap_is_left_before_a_virtio_iommu() -> None:
    topology = replace(Q35, waiting_on_root=1)
    assert guest(plan([device("0000:86:00.0")], topology)) == {"0000:86:00.0": "0000:09:00.0"}
    alone = plan([device("0000:86:00.0")], replace(topology, waiting=0))
    assert guest(alone) == {"0000:86:00.0": "0000:01:00.0"}
    for high in ("0000:40:00.0", "0000:0a:00.0"):
        with pytest.raises(
            PlanError, match="^slots.gpu0: .* would push .* away; pin to 0000:09:00.0$"
        ):
            plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": high})
    lowest = plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:09:00.0"})
    assert guest(lowest) == {"0000:86:00.0": "0000:09:00.0"}


def test_the_bridge_that_libvirt_would_add_is_written_where_it_would_be() -> None:
    # Three devices have their ports before the first conventional one: 1, 2, 3, its port 4.
    topology = replace(Q35, ports_before_bridge=3)
    assert plan([device("0000:86:00.0")], topology).bridge_index == 5
    assert plan([device("0000:86:00.0")], topology, layout="root-bus").bridge_index is None
    assert plan([], topology).bridge_index is None
    assert plan([device("0000:86:00.0")]).bridge_index is None
    slotted = replace(Q35, taken={PciAddress(0, 4, 5, 0): "interface"})
    assert plan([device("0000:86:00.0")], slotted).bridge_index == 4
    # Two ports that are there and empty serve two of the three.
    ports = {
        index: GuestController(index, "pcie-root-port", PciAddress(0, 0, 2, index))
        for index in (1, 2, 3)
    }
    there = replace(topology, controllers=ports, taken={PciAddress(0, 3, 0, 0): "disk"})
    assert plan([device("0000:86:00.0")], there).bridge_index == 6
    # More ports than it takes are empty.
    fewer = replace(there, ports_before_bridge=1)
    assert plan([device("0000:86:00.0")], fewer).bridge_index == 5
    # Of two lower buses one has no controller yet, and the other's takes no devices.
    expander = {2: GuestController(2, "pcie-expander-bus", None)}
    ports_only = replace(topology, controllers=expander)
    assert plan([device("0000:86:00.0")], ports_only).bridge_index == 6
    # A bridge that is there is none that libvirt adds.
    bridge = {1: GuestController(1, "pcie-to-pci-bridge", None)}
    behind = replace(Q35, controllers=bridge, taken={PciAddress(0, 1, 3, 0): "interface"})
    assert plan([device("0000:86:00.0")], behind).bridge_index is None


def test_ports_fill_slots_of_eight_and_go_round_what_is_taken() -> None:
    taken = {address("0000:00:10.0"): "controller", address("0000:00:12.3"): "controller"}
    planned = plan([device(f"0000:{bus:02x}:00.0") for bus in range(10)], replace(Q35, taken=taken))
    slots = [port.address.slot for port in planned.controllers if port.address]
    assert slots == [0x11] * 8 + [0x13] * 2


@pytest.mark.parametrize("slot", [0x01, 0x1E, 0x1F])
def test_a_port_goes_into_any_slot_that_is_left(slot: int) -> None:
    taken = {PciAddress(0, 0, n, 0): "disk" for n in range(1, 0x20) if n != slot}
    expander = {1: GuestController(1, "pcie-expander-bus", PciAddress(0, 0, 2, 0), bus_nr=20)}
    topology = replace(VIRT, controllers=expander, taken=taken, waiting=0)
    (port,) = plan([device("0000:86:00.0")], topology).controllers
    assert port.address == PciAddress(0, 0, slot, 0)


def test_the_arm_machine_is_laid_out_like_q35() -> None:
    assert guest(plan([device("0000:86:00.0")], VIRT)) == {"0000:86:00.0": "0000:18:00.0"}


def test_root_bus_is_the_classic_form_from_slot_8() -> None:
    planned = plan([device("0000:86:00.0"), device("0000:af:00.0")], layout="root-bus")
    assert guest(planned) == {"0000:86:00.0": "0000:00:08.0", "0000:af:00.0": "0000:00:09.0"}
    assert planned.controllers == ()


def test_root_bus_starts_higher_where_libvirt_needs_the_slots() -> None:
    # 60 devices: 60 ports, eight a slot, from slot 2 on: 0x02 to 0x09.
    planned = plan([device("0000:86:00.0")], replace(Q35, waiting=60), layout="root-bus")
    assert guest(planned) == {"0000:86:00.0": "0000:00:0a.0"}
    # And two that go to the root bus themselves.
    more = replace(Q35, waiting=60, waiting_on_root=2)
    planned = plan([device("0000:86:00.0")], more, layout="root-bus")
    assert guest(planned) == {"0000:86:00.0": "0000:00:0c.0"}


def test_root_bus_leaves_the_chipsets_slots_alone() -> None:
    planned = plan([device(f"0000:{bus:02x}:00.0") for bus in range(19)], layout="root-bus")
    slots = {placement.guest_address.slot for placement in planned.placements}  # type: ignore[union-attr]
    assert slots == {*range(0x08, 0x1A), 0x1C}


def test_i440fx_has_its_devices_on_the_root_bus_above_the_others() -> None:
    planned = plan([device("0000:86:00.0")], I440FX)
    assert guest(planned) == {"0000:86:00.0": "0000:00:0c.0"}  # 3 + 8 waiting + 1 for a bridge
    assert plan([device("0000:86:00.0")], I440FX, layout="root-bus") == planned
    iommu = plan([device("0000:86:00.0")], replace(I440FX, waiting_on_root=1))
    assert guest(iommu) == {"0000:86:00.0": "0000:00:0d.0"}
    full = plan([device(f"0000:{bus:02x}:00.0") for bus in range(20)], I440FX)
    assert guest(full)["0000:13:00.0"] == "0000:00:1f.0"


def test_a_machine_without_pci_slots_is_left_to_libvirt() -> None:
    planned = plan([device("0000:86:00.0")], S390X)
    assert guest(planned) == {"0000:86:00.0": "None"}
    assert planned.placements[0].why == "left to libvirt on machine 's390-ccw-virtio'"
    assert planned.placements[0].multifunction is False
    assert planned.controllers == ()
    there = device("0000:86:00.0", at="0000:00:01.0")
    assert guest(plan([there], S390X)) == {"0000:86:00.0": "0000:00:01.0"}


def test_multifunction_counts_the_functions_of_others_too() -> None:
    taken = {address("0000:00:08.1"): "disk", address("0000:00:10.1"): "controller"}
    port = GuestController(24, "pcie-root-port", address("0000:00:10.0"))
    topology = replace(Q35, taken=taken, controllers={24: port})
    planned = plan(
        [device("0000:86:00.0", at="0000:00:08.0"), device("0000:af:00.0", at="0000:18:00.0")],
        topology,
    )
    assert guest(planned)["0000:86:00.0"] == "0000:00:08.0+"
    assert [port.multifunction for port in planned.controllers] == [True]


def test_more_ports_than_fit_upward_go_downward() -> None:
    planned = plan([device(f"0000:{n:02x}:00.0") for n in range(100)], replace(Q35, waiting=0))
    slots = [port.address.slot for port in planned.controllers if port.address]
    assert slots[:88] == [slot for slot in (*range(0x10, 0x1A), 0x1C) for _ in range(8)]
    assert slots[88:] == [0x0F] * 8 + [0x0E] * 4


def test_root_ports_are_refused_where_there_are_none() -> None:
    with pytest.raises(PlanError, match="write layout: root-bus, or give the VM machine type q35"):
        plan([device("0000:86:00.0")], I440FX, layout="root-port")


@pytest.mark.parametrize(
    ("topology", "layout", "count", "message"),
    [
        (
            Q35,
            "root-bus",
            20,
            "no free slot on bus 0 for it that libvirt does not need for other "
            "devices; attach fewer devices, or write layout: root-port on a q35 machine$",
        ),
        (I440FX, "auto", 21, "no free slot on bus 0 for it"),
        (
            Q35,
            "root-port",
            233,
            r"^0000:..:...0 \(ua-pci-0000-..-..-0\): the guest has no free bus "
            "for it that libvirt does not need for other devices; attach fewer devices$",
        ),
        (Q35, "root-port", 230, "bus 0 has no room for the root ports of so many devices"),
    ],
)
def test_more_devices_than_there_is_room_for_are_refused(
    topology: GuestTopology, layout: Layout, count: int, message: str
) -> None:
    devices = [device(f"0000:{n // 31:02x}:{n % 31:02x}.0") for n in range(count)]
    with pytest.raises(PlanError, match=message):
        plan(devices, topology, layout)


HOST_FUNCTIONS = st.lists(
    st.builds(
        PciAddress,
        domain=st.just(0),
        bus=st.integers(1, 4),
        slot=st.integers(0, 2),
        function=st.integers(0, 7),
    ),
    unique=True,
    max_size=60,
)
TOPOLOGIES = st.builds(
    GuestTopology,
    machine=st.sampled_from([Machine.Q35, Machine.VIRT]),
    machine_type=st.just("generated"),
    controllers=st.just({}),
    taken=st.dictionaries(
        st.builds(
            PciAddress,
            domain=st.just(0),
            bus=st.just(0),
            slot=st.integers(1, 0x1F),
            function=st.integers(0, 7),
        ),
        st.just("something"),
        max_size=8,
    ),
    waiting=st.integers(0, 40),
    waiting_on_root=st.integers(0, 2),
)


def entries(planned: GuestPlan) -> dict[str, str]:
    return {p.assignment.alias: f"{p.guest_address} {p.multifunction}" for p in planned.placements}


def elsewhere(devices: list[Assignment], random: Random) -> list[Assignment]:
    """The same entries on other functions, with the same ones together in a host slot."""
    slots = sorted({a.host_address.slot_key for a in devices if a.host_address})
    places = dict(zip(slots, random.sample(slots, len(slots)), strict=True))
    order = random.sample(range(8), 8)
    moved = []
    for a in devices:
        assert a.host_address is not None
        domain, bus, slot = places[a.host_address.slot_key]
        at = PciAddress(domain, bus, slot, order[a.host_address.function])
        moved.append(replace(a, source=at))
    return moved


@given(
    st.lists(st.sampled_from(["alone", "shares the first slot"]), min_size=1, max_size=12),
    st.sampled_from(["root-port", "root-bus"]),
    st.randoms(use_true_random=False),
)
def test_an_entry_keeps_its_address_whatever_kubelet_allocates(
    kinds: list[str], layout: Layout, random: Random
) -> None:
    """Also where another entry's function is in a slot with an earlier one's this time."""
    buses = random.sample(range(1, 0x80), len(kinds))
    alone = [device(f"0000:{bus:02x}:00.0", f"d{n}") for n, bus in enumerate(buses)]
    shared = [
        replace(d, source=PciAddress(0, buses[0], 0, n % 8))
        if n and n < 8 and "first" in kind
        else d
        for n, (d, kind) in enumerate(zip(alone, kinds, strict=True))
    ]
    one, other = entries(plan(alone, layout=layout)), entries(plan(shared, layout=layout))
    for n, kind in enumerate(kinds):
        if n >= 8 or "first" not in kind:
            assert one[f"ua-gpu-d{n}"].split()[0] == other[f"ua-gpu-d{n}"].split()[0]


def test_entries_come_before_companions_and_those_before_what_nobody_asked_for() -> None:
    planned = plan(
        [
            device("0000:86:00.1", "audio"),
            device("0000:86:00.0", is_companion=True),
            device("0000:af:00.0", "gpu"),
            device("0000:01:00.0"),
            device("0000:86:00.2"),
        ]
    )
    assert guest(planned) == {
        "0000:86:00.1": "0000:18:00.0+",
        "0000:86:00.0": "0000:18:00.1",
        "0000:86:00.2": "0000:18:00.2",
        "0000:af:00.0": "0000:19:00.0",
        "0000:01:00.0": "0000:1a:00.0",
    }


def test_an_entry_that_shares_a_slot_leaves_the_place_of_its_turn_free() -> None:
    sources = {"gpu": "0000:86:00.0", "audio": "0000:86:00.1", "nic": "0000:3b:00.0"}
    devices = [device(bdf, name) for name, bdf in sources.items()]
    assert guest(plan(devices))["0000:3b:00.0"] == "0000:1a:00.0"
    assert guest(plan(devices, layout="root-bus"))["0000:3b:00.0"] == "0000:00:0a.0"


def test_later_entries_close_up_where_the_guest_has_no_room_for_every_turn() -> None:
    pairs = [device(f"0000:{0x80 + n // 2:02x}:00.{n % 2}", f"d{n}") for n in range(30)]
    slots = {a.rpartition(".")[0] for a in guest(plan(pairs, layout="root-bus")).values()}
    assert slots == {f"0000:00:{slot:02x}" for slot in range(8, 0x17)}
    many = [device(f"0000:{n // 2:02x}:00.{n % 2}", f"d{n}") for n in range(260)]
    assert len({a.rpartition(".")[0] for a in guest(plan(many)).values()}) == 130


def test_a_function_does_not_join_its_sibling_on_a_function_of_the_chipset() -> None:
    def beside(at: str, topology: GuestTopology) -> str:
        there = [device("0000:86:00.1", at=at), device("0000:86:00.0")]
        return guest(plan(there, topology))["0000:86:00.0"]

    assert beside("0000:00:1f.7", Q35) == "0000:00:1f.1"
    assert beside("0000:00:01.7", I440FX) == "0000:00:01.4"
    assert beside("0000:00:00.7", VIRT) == "0000:00:00.1"
    assert beside("0000:00:02.7", Q35) == "0000:00:02.0+"
    with pytest.raises(
        InputError, match="its guest address 0000:00:1f.2 is that of the chipset too"
    ):
        plan([device("0000:86:00.0", at="0000:00:1f.2")])


@given(HOST_FUNCTIONS, TOPOLOGIES, st.sampled_from(["root-port", "root-bus"]), st.randoms())
def test_a_plan_is_sound_whatever_the_devices_and_the_guest(
    functions: list[PciAddress], topology: GuestTopology, layout: Layout, random: Random
) -> None:
    devices = [device(str(function), f"d{n}") for n, function in enumerate(functions)]
    planned = plan(devices, topology, layout)
    addresses = [p.guest_address for p in planned.placements]
    ports = [port.address for port in planned.controllers]
    # Nothing twice, nothing that was taken.
    everything = [*addresses, *ports]
    assert len(set(everything)) == len(everything)
    assert not set(everything) & set(topology.taken)
    # Every slot has a function 0, which says so where there are more.
    used = {a for a in addresses if a is not None}
    for placement in planned.placements:
        place = placement.guest_address
        assert place is not None
        assert place.with_function(0) in used
        siblings = [a for a in used if a.slot_key == place.slot_key]
        assert placement.multifunction == (place.function == 0 and len(siblings) > 1)
    # One host slot, one guest slot, and the other way round.
    slots = {p.assignment.source.slot_key: p.guest_address.slot_key for p in planned.placements}  # type: ignore[union-attr]
    assert len(set(slots.values())) == len(slots)
    # Every bus but 0 is behind a port of ours.
    assert {a.bus for a in used} - {0} == {port.index for port in planned.controllers}
    # Which function backs an entry does not matter, as long as they are in as many slots.
    assert entries(plan(elsewhere(devices, random), topology, layout)) == entries(planned)
    # What is placed stays where it is.
    placed = [
        replace(p.assignment, present=PresentHostdev(p.assignment.source, None, p.guest_address))
        for p in planned.placements
    ]
    kept = plan_guest(placed, topology, Settings(layout=layout))
    assert guest(kept) == guest(planned)
