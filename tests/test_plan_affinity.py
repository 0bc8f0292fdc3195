"""The layout numa and devices whose place is not its to say: an address that they have, a pin."""

import re
from dataclasses import replace

import pytest
from nodeplans import PORT, Q35, address, device, function, places, plan

from launcher_hook.errors import PlanError
from launcher_hook.model import GuestController


@pytest.mark.parametrize("pinned", [False, True])
def test_a_device_whose_address_is_not_on_its_cell_is_named(pinned: bool) -> None:
    functions = [function("0000:17:00.0", PORT, numa=1), function("0000:98:00.0", "0000:97:01.0")]
    at = "0000:00:14.0"
    devices = [device("0000:17:00.0", None if pinned else at), device("0000:98:00.0")]
    slots = {"0000:17:00.0": address(at)} if pinned else {}
    planned = plan(functions, "numa", Q35, devices, slots=slots)
    assert places(planned)["0000:17:00.0"] == at
    what = (
        "0000:17:00.0 (ua-0000-17-00-0): its guest address is on no NUMA cell, and its host NUMA "
        "node 1 is cell 1"
    )
    assert planned.warnings == (what,)
    with pytest.raises(PlanError, match=f"^strict: {re.escape(what)}; take out its pin, or plan"):
        plan(functions, "numa", Q35, devices, slots=slots, strict=True)


def test_a_device_that_has_its_address_on_its_cell_is_as_it_should_be() -> None:
    expander = GuestController(5, "pcie-expander-bus", address("0000:00:03.0"), bus_nr=200, node=0)
    port = GuestController(6, "pcie-root-port", address("0000:05:00.0"))
    topology = replace(Q35, controllers={5: expander, 6: port})
    devices = [device("0000:17:00.0", "0000:06:00.0")]
    function_of_it = [function("0000:17:00.0", PORT)]
    assert plan(function_of_it, "numa", topology, devices, strict=True).warnings == ()
    other_node = [function("0000:17:00.0", PORT, numa=1)]
    (warning,) = plan(other_node, "numa", topology, devices).warnings
    assert "its guest address is on NUMA cell 0, and its host NUMA node 1 is cell 1" in warning


def test_of_a_device_that_has_an_address_the_node_is_asked_all_the_same() -> None:
    devices = [device("0000:17:00.0", "0000:00:08.0")]
    with pytest.raises(PlanError, match="where it is on the node is not known; take out its pin"):
        plan([], "numa", Q35, devices, strict=True)
    (warning,) = plan([function("0000:17:00.0", PORT, numa=2)], "numa", Q35, devices).warnings
    assert warning.endswith("host NUMA node 2 is no guest NUMA cell")


def test_all_that_are_misplaced_are_named_at_once() -> None:
    addresses = {"0000:17:00.0": "08", "0000:18:00.0": "09", "0000:19:00.0": "0a"}
    devices = [device(bdf, f"0000:00:{slot}.0") for bdf, slot in addresses.items()]
    functions = [function("0000:18:00.0", PORT, numa=2), function("0000:19:00.0", PORT, numa=1)]
    with pytest.raises(
        PlanError,
        match=r"^strict: 0000:17:00.0 \(\S+\): where it is on the node is not known; 0000:18:00.0 "
        r"\(\S+\): host NUMA node 2 is no guest NUMA cell; 0000:19:00.0 \(\S+\): its guest address",
    ):
        plan(functions, "numa", Q35, devices, strict=True)


def test_a_misplaced_device_of_no_node_says_so() -> None:
    devices = [device("0000:17:00.0", "0000:00:08.0")]
    (warning,) = plan([function("0000:17:00.0", PORT, numa=None)], "numa", Q35, devices).warnings
    assert warning.endswith("its NUMA node is not known")
