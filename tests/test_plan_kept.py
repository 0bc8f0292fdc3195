"""Addresses that devices and ports have already: they stay, or it is said why they cannot."""

from dataclasses import replace

import pytest
from slotplans import Q35, address, device, guest, plan

from launcher_hook.errors import InputError, PlanError
from launcher_hook.model import GuestController


def test_an_address_that_is_there_stays() -> None:
    planned = plan([device("0000:86:00.0", at="0000:09:00.0"), device("0000:af:00.0")])
    assert guest(planned) == {"0000:86:00.0": "0000:09:00.0", "0000:af:00.0": "0000:18:00.0"}


def test_a_pin_does_not_take_function_0_from_those_that_stay() -> None:
    there = [device("0000:86:00.0", at="0000:18:00.0"), device("0000:86:00.1", at="0000:18:00.1")]
    message = r"^slots\.0000:86:00\.0: .* stays, at '0000:18:00.1', and a guest finds.*; pin ua-"
    with pytest.raises(PlanError, match=message):
        plan(there, slots={"0000:86:00.0": "0000:30:00.0"})


def test_a_function_joins_the_slot_that_its_sibling_has() -> None:
    planned = plan([device("0000:86:00.0", at="0000:09:00.0"), device("0000:86:00.1")])
    assert guest(planned) == {"0000:86:00.0": "0000:09:00.0+", "0000:86:00.1": "0000:09:00.1"}


def test_a_port_of_an_earlier_pass_is_written_again() -> None:
    port = GuestController(24, "pcie-root-port", address("0000:00:10.0"))
    topology = replace(Q35, controllers={24: port}, taken={address("0000:00:10.0"): "controller"})
    planned = plan([device("0000:86:00.0", at="0000:18:00.0")], topology)
    assert [(p.index, str(p.address)) for p in planned.controllers] == [(24, "0000:00:10.0")]


def test_ports_of_an_earlier_pass_that_sit_on_each_other_are_written_once() -> None:
    circle = {
        24: GuestController(24, "pcie-root-port", address("0000:19:00.0")),
        25: GuestController(25, "pcie-root-port", address("0000:18:00.0")),
    }
    planned = plan(
        [device("0000:86:00.0", at="0000:18:00.0")], replace(Q35, controllers=circle, taken={})
    )
    assert [c.index for c in planned.controllers] == [24, 25]


def test_a_port_of_libvirts_own_is_not_rewritten() -> None:
    port = GuestController(9, "pcie-root-port", address("0000:00:03.0"))
    topology = replace(Q35, controllers={9: port}, taken={address("0000:00:03.0"): "controller"})
    assert plan([device("0000:86:00.0", at="0000:09:00.0")], topology).controllers == ()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (["0000:09:00.0", "0000:09:00.0"], "0000:09:00.0 is that of ua-pci-0000-86-00-0 too"),
        (["0000:00:05.0"], "0000:00:05.0 is that of disk vda too; take the address out"),
        (["0001:09:00.0"], "0001:09:00.0 is in a PCI domain that no guest has; take the address"),
    ],
)
def test_an_address_that_cannot_stay_is_refused(kept: list[str], message: str) -> None:
    topology = replace(Q35, taken={address("0000:00:05.0"): "disk vda"})
    devices = [device(f"0000:{0x86 + n:02x}:00.0", at=at) for n, at in enumerate(kept)]
    with pytest.raises(
        InputError, match=rf"^0000:8.:00.0 \(ua-pci-0000-8.-00-0\): its guest address {message}"
    ):
        plan(devices, topology)
