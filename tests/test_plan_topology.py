"""The layouts numa and mirror: expander buses, switches, bus numbers, and what cannot be kept."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodeplans import GPUS, PORT, Q35, SWITCH, address, device, function, places, plan, tree

from launcher_hook.errors import PlanError
from launcher_hook.model import (
    Assignment,
    GuestController,
    GuestNuma,
    GuestPlan,
    HostFacts,
    Machine,
)
from launcher_hook.pci import PciAddress
from launcher_hook.plan import plan_guest
from launcher_hook.settings import Layout, Settings


def test_each_cell_has_an_expander_bus_with_a_root_port_for_each_host_slot() -> None:
    planned = plan(GPUS, "numa")
    assert tree(planned) == [
        "24 expander-bus 00:10.0 253@0",
        "25 root-port 18:00.0",
        "26 root-port 18:01.0",
        "27 expander-bus 00:11.0 251@1",
        "28 root-port 1b:00.0",
    ]
    assert places(planned) == {
        "0000:17:00.0": "0000:19:00.0",
        "0000:18:00.0": "0000:1a:00.0",
        "0000:98:00.0": "0000:1c:00.0",
    }
    assert planned.warnings == ()


def test_the_first_expander_bus_with_one_port_is_bus_254() -> None:
    assert tree(plan(GPUS[:1], "numa"))[0] == "24 expander-bus 00:10.0 254@0"


def test_functions_of_a_slot_share_a_port_and_vfs_have_one_each() -> None:
    functions = [function(f"0000:17:00.{n}", PORT) for n in range(4)]
    devices = [device(str(f.address), own_slot=f.address.function > 1) for f in functions]
    planned = plan(functions, "numa", devices=devices)
    assert places(planned) == {
        "0000:17:00.0": "0000:19:00.0",
        "0000:17:00.1": "0000:19:00.1",
        "0000:17:00.2": "0000:1a:00.0",
        "0000:17:00.3": "0000:1b:00.0",
    }
    assert [p.multifunction for p in planned.placements] == [True, False, False, False]


def test_a_device_of_another_node_is_left_on_the_root_bus_with_a_warning() -> None:
    planned = plan([*GPUS, function("0000:c8:00.0", "0000:c7:01.0", numa=2)], "numa")
    assert places(planned)["0000:c8:00.0"] == "0000:18:00.0"
    assert tree(planned)[0] == "24 root-port 00:12.0"
    assert planned.warnings == (
        "0000:c8:00.0 (ua-0000-c8-00-0): host NUMA node 2 is no guest NUMA cell",
    )


@pytest.mark.parametrize("layout", ["numa", "mirror"])
def test_strict_is_an_error_where_a_node_is_no_cell(layout: Layout) -> None:
    with pytest.raises(
        PlanError,
        match=r"strict: 0000:c8:00.0 \(ua-0000-c8-00-0\): host NUMA node 2 is no guest NUMA cell; "
        r"give the VM dedicated CPUs and memory of its devices' NUMA nodes .*guestMappingPassthrou",
    ):
        plan([function("0000:c8:00.0", "0000:c7:01.0", numa=2)], layout, strict=True)
    both = [function(f"0000:{bus}:00.0", "0000:c7:01.0", numa=2) for bus in ("c8", "c9")]
    with pytest.raises(
        PlanError, match=r"is no guest NUMA cell; 0000:c9:00.0 \(ua-0000-c9-00-0\):"
    ):
        plan(both, layout, strict=True)


def test_numa_says_that_the_guest_has_no_cells() -> None:
    planned = plan(GPUS[:1], "numa", replace(Q35, numa=GuestNuma()))
    assert "host NUMA node 0 has no cell: the guest has none" in planned.warnings[0]
    assert tree(planned) == ["24 root-port 00:10.0"]


def test_numa_says_that_the_node_does_not_tell() -> None:
    planned = plan([function("0000:17:00.0", PORT, numa=None)], "numa")
    assert planned.warnings == ("0000:17:00.0 (ua-0000-17-00-0): its NUMA node is not known",)


@pytest.mark.parametrize("layout", ["numa", "mirror"])
def test_a_device_that_the_node_does_not_show_is_behind_a_root_port(layout: Layout) -> None:
    devices = [device("0000:04:00.0"), device("0000:17:00.0")]
    planned = plan(GPUS[:1], layout, devices=devices)
    assert tree(planned)[0] == "24 root-port 00:11.0"
    assert planned.warnings == (
        "0000:04:00.0 (ua-0000-04-00-0): where it is on the node is not known, so it stays on the "
        "guest's own root bus",
    )


def test_what_is_left_to_root_ports_comes_before_the_expander_buses() -> None:
    functions = [GPUS[0], function("0000:c8:00.0", "0000:c7:01.0", numa=2)]
    devices = [device(bdf) for bdf in ("0000:04:00.0", "0000:17:00.0", "0000:c8:00.0")]
    planned = plan(functions, "numa", devices=devices)
    assert list(places(planned).values()) == ["0000:18:00.0", "0000:1b:00.0", "0000:19:00.0"]


@pytest.mark.parametrize("layout", ["numa", "mirror"])
def test_without_a_node_devices_are_behind_root_ports_with_a_warning(layout: Layout) -> None:
    planned = plan_guest([device("0000:17:00.0")], Q35, Settings(layout=layout))
    assert tree(planned) == ["24 root-port 00:10.0"]
    assert "the node's /sys is not known" in planned.warnings[0]


def test_a_placement_says_which_complex_it_is_in() -> None:
    functions = [
        function("0000:18:00.0", *SWITCH, "0000:17:00.0"),
        function("0000:19:00.0", *SWITCH, "0000:17:01.0"),
        function("0000:38:00.0", "0000:37:01.0"),
    ]
    assert [p.why for p in plan(functions, "mirror").placements] == [
        "host root complex pci0000:15, expander bus 24, switch 26, port 27, host slot 0000:18:00",
        "host root complex pci0000:15, expander bus 24, switch 26, port 28, host slot 0000:19:00",
        "host root complex pci0000:37, expander bus 29, port 30, host slot 0000:38:00",
    ]
    assert plan(functions, "numa").placements[0].why == (
        "NUMA cell 0, expander bus 24, port 25, host slot 0000:18:00"
    )


def test_a_mediated_device_is_placed_where_its_parent_is() -> None:
    uuid = "aa618089-8b16-4d01-a136-25a0f3c73123"
    gpu = GPUS[2]
    facts = HostFacts(True, {gpu.address: gpu}, {uuid: True}, {uuid: gpu.address})
    assigned = [Assignment(uuid, "ua-gpu-v", "test", own_slot=True)]
    planned = plan_guest(assigned, Q35, Settings(layout="numa"), facts)
    assert tree(planned) == ["24 expander-bus 00:10.0 254@1", "25 root-port 18:00.0"]


# mirror


def test_devices_of_one_switch_are_behind_one_switch() -> None:
    planned = plan(
        [
            function("0000:18:00.0", *SWITCH, "0000:17:00.0"),
            function("0000:19:00.0", *SWITCH, "0000:17:01.0"),
            function("0000:25:00.0", "0000:15:03.0"),
        ],
        "mirror",
    )
    assert tree(planned) == [
        "24 expander-bus 00:10.0 250@0",
        "25 root-port 18:00.0",
        "26 switch-upstream-port 19:00.0",
        "27 switch-downstream-port 1a:00.0",
        "28 switch-downstream-port 1a:01.0",
        "29 root-port 18:01.0",
    ]
    assert list(places(planned).values()) == ["0000:1b:00.0", "0000:1c:00.0", "0000:1d:00.0"]


def test_a_switch_with_one_device_behind_it_is_a_port() -> None:
    planned = plan([function("0000:18:00.0", *SWITCH, "0000:17:00.0")], "mirror")
    assert tree(planned) == ["24 expander-bus 00:10.0 254@0", "25 root-port 18:00.0"]


def test_two_bridges_of_one_card_are_behind_one_port_of_the_switch() -> None:
    card = (*SWITCH, "0000:17:00.0")
    functions = [
        function("0000:19:00.0", *card, "0000:18:00.0"),
        function("0000:1a:00.0", *card, "0000:18:00.2"),
        function("0000:1c:00.0", *SWITCH, "0000:17:02.0"),
    ]
    planned = plan(functions, "mirror", strict=True)
    assert [line.split()[1] for line in tree(planned)] == [
        "expander-bus",
        "root-port",
        "switch-upstream-port",
        "switch-downstream-port",
        "switch-upstream-port",
        "switch-downstream-port",
        "switch-downstream-port",
        "switch-downstream-port",
    ]


def test_a_function_beside_a_switch_stays_beside_it() -> None:
    functions = [function("0000:16:00.1", PORT), function("0000:18:00.0", *SWITCH, "0000:17:00.0")]
    assert plan(functions, "mirror", strict=True).warnings == ()


def test_a_device_further_down_stays_further_down() -> None:
    deep = ("0000:17:02.0", "0000:1c:00.0", "0000:1d:00.0")
    planned = plan(
        [
            function("0000:18:00.0", *SWITCH, "0000:17:00.0"),
            function("0000:1e:00.0", *SWITCH, *deep),
        ],
        "mirror",
    )
    assert [line.split()[1] for line in tree(planned)] == [
        "expander-bus",
        "root-port",
        "switch-upstream-port",
        "switch-downstream-port",
        "switch-downstream-port",
        "switch-upstream-port",
        "switch-downstream-port",
    ]


def test_each_host_bridge_has_an_expander_bus() -> None:
    planned = plan([*GPUS, function("0000:38:00.0", "0000:37:01.0")], "mirror")
    buses = [line for line in tree(planned) if "expander" in line]
    assert buses == [
        "24 expander-bus 00:10.0 253@0",
        "27 expander-bus 00:11.0 251@1",
        "29 expander-bus 00:12.0 249@0",
    ]


@pytest.mark.parametrize("layout", ["numa", "mirror"])
@given(st.randoms(use_true_random=False))
def test_an_entry_keeps_its_address_on_a_node_of_like_parts(layout: Layout, random: Random) -> None:
    """Two sockets, on each a switch with two GPUs; kubelet gives any of them to any entry."""
    node = [
        function(f"0000:{bus + 3 + n:02x}:00.0", f"0000:{bus:02x}:01.0", f"0000:{bus + 1:02x}:00.0",
                 f"0000:{bus + 2:02x}:{n:02x}.0", numa=numa)
        for numa, bus in ((0, 0x10), (1, 0x90)) for n in (0, 1)
    ]  # fmt: skip
    sockets = [node[:2], node[2:]]
    for gpus in sockets:
        random.shuffle(gpus)
    if layout == "mirror":
        random.shuffle(sockets)
    allocated = [function.address for gpus in sockets for function in gpus]
    devices = [
        Assignment(address, f"ua-gpu-gpu{n}", "test", f"gpu{n}")
        for n, address in enumerate(allocated)
    ]
    planned = plan(node, layout, devices=devices)
    expected = {"numa": [0x19, 0x1A, 0x1C, 0x1D], "mirror": [0x1B, 0x1C, 0x20, 0x21]}[layout]
    assert [p.guest_address for p in planned.placements] == [
        PciAddress(0, bus, 0, 0) for bus in expected
    ]


def test_distances_that_the_guest_cannot_have_are_said() -> None:
    planned = plan(GPUS, "mirror", replace(Q35, numa=GuestNuma()))
    assert planned.warnings == (
        "ua-0000-17-00-0 and ua-0000-98-00-0 are SYS on the node and NODE in the guest",
        "ua-0000-18-00-0 and ua-0000-98-00-0 are SYS on the node and NODE in the guest",
    )
    with pytest.raises(
        PlanError,
        match="^strict: ua-0000-17-00-0 and ua-0000-98-00-0 are SYS on the node and NODE in the "
        "guest; ua-0000-18-00-0 and ua-0000-98-00-0 are SYS on the node and NODE in the guest; "
        "give the VM NUMA cells for its devices' NUMA nodes, take out pins and let the launcher "
        r"give no addresses \(feature gate PCINUMAAwareTopology\), or write strict: false$",
    ):
        plan(GPUS, "mirror", replace(Q35, numa=GuestNuma()), strict=True)


def test_only_the_first_of_many_distances_are_named() -> None:
    many = [
        function(f"0000:{n:02x}:00.0", f"0000:{n - 1:02x}:01.0", numa=n % 2) for n in range(1, 9)
    ]
    planned = plan(many, "mirror", replace(Q35, numa=GuestNuma()))
    assert len(planned.warnings) == 9
    assert planned.warnings[-1] == "and 8 more distances are not kept"


def test_no_more_than_are_named_are_counted() -> None:
    # Two of node 0 and four of node 1: eight pairs.
    eight = [
        function(f"0000:{n:02x}:00.0", f"0000:{n - 1:02x}:01.0", numa=int(n > 2))
        for n in range(1, 7)
    ]
    planned = plan(eight, "mirror", replace(Q35, numa=GuestNuma()))
    assert len(planned.warnings) == 8
    assert "more distances" not in planned.warnings[-1]


def test_a_guest_without_cells_keeps_the_distances_of_one_socket() -> None:
    planned = plan(GPUS[:2], "mirror", replace(Q35, numa=GuestNuma()), strict=True)
    assert planned.warnings == ()


def test_a_pin_goes_before_the_host_s_tree() -> None:
    planned = plan(GPUS, "mirror", slots={"0000:17:00.0": address("0000:40:00.0")})
    assert places(planned)["0000:17:00.0"] == "0000:40:00.0"
    assert any("PHB on the node and SYS in the guest" in warning for warning in planned.warnings)


# What is there already


def controllers(planned: GuestPlan) -> dict[int, GuestController]:
    """As they come back in the next pass."""
    return {
        c.index: GuestController(c.index, c.model, c.address, c.bus_nr, c.node)
        for c in planned.controllers
    }


@pytest.mark.parametrize("layout", ["numa", "mirror"])
def test_a_later_pass_writes_the_same_controllers_again(layout: Layout) -> None:
    first = plan(GPUS, layout)
    taken = {c.address: f"controller {c.index}" for c in first.controllers if c.address}
    devices = [device(str(p.assignment.source), at=str(p.guest_address)) for p in first.placements]
    later = replace(Q35, controllers=controllers(first), taken=taken, waiting=0)
    again = plan(GPUS, layout, later, devices)
    assert again.controllers == first.controllers
    assert places(again) == places(first)


def test_what_the_launcher_has_placed_is_adopted() -> None:
    # KubeVirt 1.9 with PCINUMAAwareTopology: its indexes begin at 1.
    there = {
        1: GuestController(1, "pcie-expander-bus", None, bus_nr=253, node=0),
        2: GuestController(2, "pcie-root-port", address("0000:01:00.0")),
        3: GuestController(3, "pcie-root-port", address("0000:01:01.0")),
    }
    topology = replace(Q35, controllers=there, waiting_on_root=1)
    devices = [
        device("0000:17:00.0", at="0000:02:00.0"),
        device("0000:18:00.0", at="0000:03:00.0"),
    ]
    planned = plan(GPUS[:2], "numa", topology, devices)
    assert planned.controllers == ()
    assert places(planned) == {"0000:17:00.0": "0000:02:00.0", "0000:18:00.0": "0000:03:00.0"}


def test_a_new_expander_bus_goes_below_those_that_are_there() -> None:
    there = {1: GuestController(1, "pcie-expander-bus", address("0000:00:02.0"), 200, 0)}
    planned = plan(GPUS[:1], "numa", replace(Q35, controllers=there))
    assert tree(planned)[0].endswith("198@0")


# What does not fit


@pytest.mark.parametrize("layout", ["numa", "mirror"])
def test_i440fx_has_no_expander_buses(layout: Layout) -> None:
    topology = replace(Q35, machine=Machine.I440FX, machine_type="pc")
    with pytest.raises(
        PlanError, match="layout: machine 'pc' has no PCIe root ports; write layout"
    ):
        plan(GPUS, layout, topology)


@pytest.mark.parametrize("layout", ["numa", "mirror"])
def test_a_machine_that_libvirt_lays_out_says_that_the_layout_is_not_kept(layout: Layout) -> None:
    topology = replace(Q35, machine=Machine.OTHER, machine_type="s390-ccw-virtio")
    lost = f"layout {layout} is left to libvirt on machine 's390-ccw-virtio'"
    planned = plan(GPUS, layout, topology)
    assert planned.warnings == (lost,)
    assert [p.guest_address for p in planned.placements] == [None] * 3
    assert planned.controllers == ()
    with pytest.raises(PlanError, match=f"strict: {lost}; give the VM machine type q35"):
        plan(GPUS, layout, topology, strict=True)
