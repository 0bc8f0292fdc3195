"""Pins: where a user may put a device, and what is said where that cannot be."""

from dataclasses import replace

import pytest
from slotplans import I440FX, Q35, S390X, VIRT, address, device, guest, plan

from launcher_hook.errors import InputError, PlanError
from launcher_hook.model import GuestController
from launcher_hook.pci import PciAddress


def test_a_guest_that_needs_all_buses_below_its_expander_bus_has_none_to_pin_to() -> None:
    expander = GuestController(2, "pcie-expander-bus", address("0000:00:05.0"), bus_nr=20)
    full = replace(Q35, controllers={2: expander}, waiting=17)
    with pytest.raises(PlanError, match="; this guest has no free bus$"):
        plan([device("0000:86:00.0", "gpu0")], full, slots={"gpu0": "0000:01:00.0"})
    with pytest.raises(PlanError, match="video; pin to 0000:00:08.0$"):
        plan([device("0000:86:00.0", "gpu0")], full, slots={"gpu0": "0000:00:01.0"})
    one_left = replace(full, waiting=16)
    with pytest.raises(PlanError, match="; pin to 0000:13:00.0 or a higher bus$"):
        plan([device("0000:86:00.0", "gpu0")], one_left, slots={"gpu0": "0000:01:00.0"})


@pytest.mark.parametrize("key", ["gpu0", "ua-gpu-gpu0", "gpu-gpu0", "0000:86:00.0", "GPU0"])
def test_a_pin_names_its_device_in_any_way(key: str) -> None:
    planned = plan([device("0000:86:00.0", "gpu0")], slots={key: "0000:00:08.0"})
    assert guest(planned) == {"0000:86:00.0": "0000:00:08.0"}


def test_a_pin_to_a_high_bus_brings_its_root_port() -> None:
    planned = plan([device("0000:86:00.0", "gpu0")], slots={"gpu0": "0000:40:00.0"})
    assert [(p.index, str(p.address)) for p in planned.controllers] == [(64, "0000:00:10.0")]


def test_a_pin_to_a_free_port_that_is_there_takes_it() -> None:
    controllers = {
        index: GuestController(index, "pcie-root-port", PciAddress(0, 0, 2, index))
        for index in (1, 2, 3)
    }
    topology = replace(Q35, controllers=controllers, waiting=2)
    planned = plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:03:00.0"})
    assert guest(planned) == {"0000:86:00.0": "0000:03:00.0"}
    with pytest.raises(
        PlanError,
        match="^slots.gpu0: '0000:02:00.0': libvirt will give bus 0x02 to a device that has no "
        "address yet; pin to 0000:18:00.0 or a higher bus",
    ):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:02:00.0"})
    with pytest.raises(PlanError, match="bus 0x03 has slot 0 only; pin to 0000:03:00.0"):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:03:01.0"})


def test_a_pin_may_go_behind_a_conventional_bridge() -> None:
    bridge = GuestController(1, "pci-bridge", address("0000:00:05.0"))
    topology = replace(I440FX, controllers={1: bridge})
    planned = plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:01:04.0"})
    assert guest(planned) == {"0000:86:00.0": "0000:01:04.0"}
    with pytest.raises(PlanError, match="bus 0x01 has slots 0x01 to 0x1f; pin to 0000:01:01.0"):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:01:00.0"})


def test_a_pin_that_is_kept_already_is_no_conflict() -> None:
    planned = plan(
        [device("0000:86:00.0", "gpu0", at="0000:40:00.0")], slots={"gpu0": "0000:40:00.0"}
    )
    assert guest(planned) == {"0000:86:00.0": "0000:40:00.0"}


def test_a_pin_replaces_an_address_that_is_there() -> None:
    planned = plan(
        [device("0000:86:00.0", "gpu0", at="0000:09:00.0")], slots={"gpu0": "0000:00:08.0"}
    )
    assert guest(planned) == {"0000:86:00.0": "0000:00:08.0"}


def test_a_pin_that_replaces_an_address_is_checked_as_any() -> None:
    with pytest.raises(PlanError, match="slot 0x1f is reserved"):
        plan([device("0000:86:00.0", "gpu0", at="0000:09:00.0")], slots={"gpu0": "0000:00:1f.0"})


def test_a_pin_to_the_highest_bus_leaves_the_lower_ones_to_the_others() -> None:
    devices = [device("0000:86:00.0", "gpu0"), device("0000:af:00.0")]
    planned = plan(devices, slots={"gpu0": "0000:80:00.0"})
    assert guest(planned) == {"0000:86:00.0": "0000:80:00.0", "0000:af:00.0": "0000:18:00.0"}


def test_of_two_pins_the_higher_one_is_to_blame_for_the_gap() -> None:
    devices = [device("0000:86:00.0", "gpu0"), device("0000:af:00.0", "gpu1")]
    with pytest.raises(PlanError, match=r"^slots.gpu0: '0000:ff:00.0'"):
        plan(devices, slots={"gpu0": "0000:ff:00.0", "gpu1": "0000:80:00.0"})
    with pytest.raises(PlanError, match=r"^slots.gpu1: '0000:ff:00.0'"):
        plan(devices, slots={"gpu0": "0000:80:00.0", "gpu1": "0000:ff:00.0"})


def test_a_pin_whose_gap_libvirt_could_not_fill_is_refused() -> None:
    # 27 slots of the root bus are left for the ports of 216 lower buses.
    planned = plan([device("0000:86:00.0", "gpu0")], slots={"gpu0": "0000:d9:00.0"})
    assert guest(planned) == {"0000:86:00.0": "0000:d9:00.0"}
    for bus in ("da", "ff"):
        with pytest.raises(
            PlanError,
            match=f"^slots.gpu0: '0000:{bus}:00.0': libvirt fills the gap below bus 0x{bus} with "
            "root ports, for which bus 0 has no room; pin to a lower bus, e.g. 0000:18:00.0$",
        ):
            plan([device("0000:86:00.0", "gpu0")], slots={"gpu0": f"0000:{bus}:00.0"})


def test_a_guest_that_needs_every_bus_itself_has_none_for_a_device() -> None:
    full = replace(Q35, waiting=300)
    with pytest.raises(PlanError, match="the guest has no free bus for it"):
        plan([device("0000:86:00.0", "gpu0")], full)
    with pytest.raises(PlanError, match="; this guest has no free bus$"):
        plan([device("0000:86:00.0", "gpu0")], full, slots={"gpu0": "0000:ff:00.0"})


def test_of_several_pins_the_highest_is_to_blame() -> None:
    devices = [device("0000:86:00.0", "gpu0"), device("0000:af:00.0", "gpu1")]
    with pytest.raises(PlanError, match="^slots.gpu1: '0000:ff:00.0': libvirt fills the gap"):
        plan(devices, slots={"gpu0": "0000:f0:00.0", "gpu1": "0000:ff:00.0"})


def test_a_pin_just_above_the_others_is_not_to_blame() -> None:
    devices = [device(f"0000:{n:02x}:00.0") for n in range(1, 221)]
    with pytest.raises(PlanError, match="^guest: bus 0 has no room .* or pin to lower buses$"):
        plan([*devices, device("0000:ff:00.0", "top")], slots={"top": "0000:f4:00.0"})


def test_two_devices_may_be_pinned_into_one_slot() -> None:
    planned = plan(
        [device("0000:86:00.0", "a"), device("0000:af:00.0", "b")],
        slots={"a": "0000:00:08.0", "b": "0000:00:08.1"},
    )
    assert guest(planned) == {"0000:86:00.0": "0000:00:08.0+", "0000:af:00.0": "0000:00:08.1"}


@pytest.mark.parametrize(
    ("bdf", "message"),
    [
        (
            "0000:00:00.0",
            "slot 0x00 is reserved for the host bridge; pin to 0000:00:08.0, "
            "or to 0000:18:00.0 or a higher bus$",
        ),
        ("0000:00:01.0", "slot 0x01 is reserved for the primary video"),
        ("0000:00:1b.0", "slot 0x1b is reserved for the ICH9 sound"),
        ("0000:00:1f.0", "slot 0x1f is reserved for the ICH9 LPC"),
        (
            "0000:00:02.0",
            "libvirt will need slot 0x02 for other devices, which would move; pin to 0000:00:08.0, "
            "or to 0000:18:00.0",
        ),
        ("0000:08:00.0", "libvirt will need bus 0x08 for other devices, which would move; pin"),
        ("0000:09:01.0", "bus 0x09 has slot 0 only"),
        ("0001:00:08.0", "a guest has PCI domain 0 only; pin to 0000:18:00.0"),
        (
            "0000:09:00.1",
            "its slot has no function 0, and a guest finds other functions "
            "through it; pin to function 0 of a free slot, or pin another device to 0000:09:00.0",
        ),
    ],
)
def test_a_pin_that_cannot_be_kept_is_refused_with_one_that_can(bdf: str, message: str) -> None:
    with pytest.raises(PlanError, match=f"slots.gpu0: '{bdf}': {message}"):
        plan([device("0000:86:00.0", "gpu0")], slots={"gpu0": bdf})


@pytest.mark.parametrize("slot", [0x00, 0x01, 0x02])
def test_i440fx_reserves_other_slots(slot: int) -> None:
    with pytest.raises(PlanError, match="is reserved for the .*; pin to 0000:00:0c.0"):
        plan([device("0000:86:00.0", "gpu0")], I440FX, slots={"gpu0": f"0000:00:{slot:02x}.0"})


def test_an_arm_guest_needs_slot_1_for_its_ports() -> None:
    with pytest.raises(PlanError, match="libvirt will need slot 0x01 for other devices"):
        plan([device("0000:86:00.0", "gpu0")], VIRT, slots={"gpu0": "0000:00:01.0"})


def test_i440fx_has_no_buses_to_pin_to() -> None:
    with pytest.raises(
        PlanError,
        match="^slots.gpu0: '0000:09:00.0': there is no controller with index 9, and machine 'pc' "
        "has no PCIe ports to add; pin to 0000:00:0c.0$",
    ):
        plan([device("0000:86:00.0", "gpu0")], I440FX, slots={"gpu0": "0000:09:00.0"})
    full = replace(I440FX, waiting=40)
    with pytest.raises(PlanError, match="; this guest has no free slot$"):
        plan([device("0000:86:00.0", "gpu0")], full, slots={"gpu0": "0000:09:00.0"})


def test_a_pin_on_another_device_names_it() -> None:
    topology = replace(Q35, taken={address("0000:00:08.0"): "controller pci"})
    with pytest.raises(
        PlanError,
        match="^slots.gpu0: '0000:00:08.0' is that of controller pci; pin to 0000:00:09.0, or to",
    ):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:00:08.0"})
    with pytest.raises(PlanError, match="function 0 of its slot is controller pci"):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:00:08.1"})


def test_a_pin_on_a_kept_device_is_refused() -> None:
    devices = [device("0000:86:00.0", "gpu0"), device("0000:af:00.0", at="0000:18:00.0")]
    with pytest.raises(
        PlanError,
        match="^slots.gpu0: '0000:18:00.0' is that of another passed-through device; "
        "pin to 0000:21:00.0 or a higher bus$",
    ):
        plan(devices, slots={"gpu0": "0000:18:00.0"})


@pytest.mark.parametrize(
    "model", ["pcie-expander-bus", "pcie-switch-upstream-port", "pcie-root", ""]
)
def test_a_pin_on_a_bus_for_ports_only_is_refused(model: str) -> None:
    topology = replace(Q35, controllers={40: GuestController(40, model, None)})
    with pytest.raises(
        PlanError,
        match=f"^slots.gpu0: '0000:28:00.0': bus 0x28 is a {model or 'controller'}, which takes no "
        "devices; pin to 0000:18:00.0 or a higher bus",
    ):
        plan([device("0000:86:00.0", "gpu0")], topology, slots={"gpu0": "0000:28:00.0"})


def test_a_pin_on_a_machine_without_slots_is_refused() -> None:
    with pytest.raises(
        PlanError, match="^slots.gpu0: .*'s390-ccw-virtio' has no PCI slots .*; take the pin out"
    ):
        plan([device("0000:86:00.0", "gpu0")], S390X, slots={"gpu0": "0000:00:08.0"})


def test_a_pin_must_name_one_device() -> None:
    devices = [device("0000:86:00.0", "gpu0")]
    with pytest.raises(
        InputError,
        match="^slots.gpu7: 'gpu7' names no device of this VM; write gpu0 or ua-pci-0000-af-00-0, "
        "or an alias or a host address$",
    ):
        plan([*devices, device("0000:af:00.0")], slots={"gpu7": "0000:00:08.0"})
    with pytest.raises(InputError, match="take it out: this VM has no passed-through device$"):
        plan([], slots={"gpu7": "0000:00:08.0"})
    with pytest.raises(
        InputError, match="^slots.gpu0: '0000:86:00.0' is the same device; keep one of the two$"
    ):
        plan(devices, slots={"gpu0": "0000:00:09.0", "0000:86:00.0": "0000:00:08.0"})
    twice = [*devices, replace(device("0000:af:00.0", "gpu0"), alias="ua-hostdevice-gpu0")]
    with pytest.raises(
        InputError, match="'gpu0' names more than one device; write ua-gpu-gpu0 or ua-hostd"
    ):
        plan(twice, slots={"gpu0": "0000:00:08.0"})


def test_two_pins_on_one_address_are_refused() -> None:
    with pytest.raises(
        PlanError, match="^slots.b: '0000:00:08.0' is pinned by slots.a too; give each"
    ):
        plan(
            [device("0000:86:00.0", "a"), device("0000:af:00.0", "b")],
            slots={"a": "0000:00:08.0", "b": "0000:00:08.0"},
        )


def test_a_slot_that_is_full_is_refused() -> None:
    # A ninth device cannot come from one host slot; it can through a pin of another host slot.
    devices = [device(f"0000:86:00.{n}", f"a{n}") for n in range(8)]
    other = device("0000:af:00.0", "b")
    with pytest.raises(
        PlanError,
        match=r"^0000:86:00.7 \(ua-gpu-a7\): guest slot 0000:00:08.0 has no function left for it; "
        "pin the other devices",
    ):
        plan([*devices, other], slots={"a0": "0000:00:08.0", "b": "0000:00:08.7"})


def test_names_that_differ_in_case_only_are_different_devices() -> None:
    devices = [device("0000:86:00.0", "gpu0"), device("0000:af:00.0", "GPU0")]
    planned = plan(devices, slots={"GPU0": "0000:40:00.0", "gpu0": "0000:41:00.0"})
    assert guest(planned) == {"0000:86:00.0": "0000:41:00.0", "0000:af:00.0": "0000:40:00.0"}
    with pytest.raises(InputError, match="'Gpu0' names more than one device; write ua-gpu-gpu0 or"):
        plan(devices, slots={"Gpu0": "0000:40:00.0"})


def test_a_name_in_another_case_is_that_of_the_one_device_that_has_it() -> None:
    devices = [device("0000:86:00.0", "gpu0"), device("0000:3b:00.0", "nic")]
    for name in ("GPU0", "UA-GPU-GPU0", "gpu0"):
        planned = plan(devices, slots={name: "0000:40:00.0"})
        assert guest(planned)["0000:86:00.0"] == "0000:40:00.0"
    upper = plan(devices, slots={"0000:3B:00.0": "0000:40:00.0"})
    assert guest(upper)["0000:3b:00.0"] == "0000:40:00.0"
