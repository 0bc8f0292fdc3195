"""GetPreferredAllocation: close to each other, whole slots, lowest addresses; always the same."""

import sys
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.deviceplugin.devices import Device
from launcher_hook.deviceplugin.preference import prefer
from launcher_hook.model import HostFunction
from launcher_hook.pci import PciAddress

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def device(bdf: str, numa: int | None = None, *bridges: str) -> Device:
    address = PciAddress.parse(f"0000:{bdf}")
    function = HostFunction(
        address,
        numa_node=numa,
        bridges=tuple(PciAddress.parse(f"0000:{bridge}") for bridge in bridges),
    )
    return Device(address, "a.com/x", address.bus, function)


# Two sockets. Node 0: a root port with one GPU, a switch with two; node 1: two root complexes, one
# with a switch of four, the other with two ports.
DEVICES = [
    device("01:00.0", 0, "00:01.0"),
    device("04:00.0", 0, "00:02.0", "02:00.0", "03:00.0"),
    device("05:00.0", 0, "00:02.0", "02:00.0", "03:01.0"),
    *(device(f"{84 + n}:00.0", 1, "80:01.0", "81:00.0", f"82:0{n}.0") for n in range(4)),
    device("c1:00.0", 1, "c0:01.0"),
    device("c2:00.0", 1, "c0:02.0"),
]
OFFERED = {d.id: d for d in DEVICES}


def short(ids: tuple[str, ...]) -> str:
    return " ".join(i.removeprefix("0000:").removesuffix(":00.0") for i in ids)


def choose(size: int, must: str = "", without: str = "") -> str:
    free = [i for i in OFFERED if short((i,)) not in without.split()]
    return short(prefer(free, [f"0000:{bus}:00.0" for bus in must.split()], size, OFFERED))


@pytest.mark.parametrize(
    ("size", "must", "without", "answer"),
    [
        (1, "", "", "01"),
        (2, "", "", "04 05"),  # one switch before the lowest address
        (3, "", "", "84 85 86"),  # node 0 has three, but no switch has
        (3, "", "84 85", "01 04 05"),  # one root complex
        (4, "", "", "84 85 86 87"),
        (4, "", "87", "84 85 86 c1"),  # no root complex has four: one node
        (5, "", "", "84 85 86 87 c1"),
        (9, "", "", "01 04 05 84 85 86 87 c1 c2"),
        (7, "", "", "01 84 85 86 87 c1 c2"),  # the greater part first, then the lowest of the rest
        (2, "05", "", "04 05"),
        (2, "01", "", "01 04"),
        (3, "c2", "", "84 c1 c2"),  # its own root complex first
        (2, "c2 04", "", "04 c2"),
        (3, "c2 04", "", "04 05 c2"),
        (0, "", "", ""),
        (1, "04 05", "", "04 05"),
    ],
)
def test_the_closest_are_chosen_with_what_must_be_in(
    size: int, must: str, without: str, answer: str
) -> None:
    assert choose(size, must, without) == answer


def test_where_too_few_are_free_all_are_given() -> None:
    assert prefer(list(OFFERED)[:2], [], 5, OFFERED) == tuple(OFFERED)[:2]


def test_whole_slots_are_taken_before_the_lowest_address() -> None:
    functions = ["01:00.0", "01:02.0", "01:02.1", "01:03.0", "01:03.1", "01:03.2"]
    offered = {d.id: d for d in (device(bdf, 0, "00:01.0") for bdf in functions)}

    def answer(size: int, *must: str) -> str:
        ids = prefer(offered, [f"0000:01:{bdf}" for bdf in must], size, offered)
        return " ".join(i.removeprefix("0000:01:") for i in ids)

    assert answer(1) == "00.0"
    assert answer(2) == "02.0 02.1"
    assert answer(3) == "00.0 02.0 02.1"
    assert answer(4) == "00.0 03.0 03.1 03.2"
    assert answer(3, "03.1") == "03.0 03.1 03.2"
    assert answer(2, "03.1") == "00.0 03.1"  # a slot that must be broken breaks no other


def test_a_port_with_room_for_all_is_closer_than_two_ports() -> None:
    functions = ["01:00.0", "02:00.0", "02:00.1", "03:00.0", "03:00.1", "03:00.2"]
    offered = {d.id: d for d in (device(bdf, 0, f"00:0{bdf[1]}.0") for bdf in functions)}
    assert prefer(offered, [], 3, offered) == tuple(offered)[3:]
    assert prefer(offered, [], 2, offered) == tuple(offered)[1:3]


def test_mediated_devices_are_as_close_as_their_parents() -> None:
    uuids = [f"{n}b20d080-1b54-4048-85b3-a6a62d165c01" for n in range(4)]
    parents = [DEVICES[3], DEVICES[0], DEVICES[3], DEVICES[0]]
    offered = {u: Device(u, "a.com/x", n, parents[n].function) for n, u in enumerate(uuids)}
    assert prefer(uuids, [uuids[2]], 2, offered) == (uuids[0], uuids[2])


def test_ids_of_which_nothing_is_known_come_last() -> None:
    offered = {**OFFERED, UUID: Device(UUID, "a.com/x", 9, None)}
    assert prefer(["zzz", UUID, "0000:01:00.0"], [], 2, offered) == ("0000:01:00.0", UUID)
    assert prefer(["zzz", UUID], [], 1, offered) == (UUID,)


@given(st.sets(st.sampled_from(sorted(OFFERED)), min_size=1), st.data())
def test_the_answer_holds_what_it_must_and_is_of_the_size_and_of_no_order(
    free: set[str], data: st.DataObject
) -> None:
    must = data.draw(st.sets(st.sampled_from(sorted(free))))
    size = data.draw(st.integers(len(must), len(free)))
    answer = prefer(sorted(free), sorted(must), size, OFFERED)
    assert len(answer) == size
    assert must <= set(answer) <= free
    assert answer == prefer(sorted(free, reverse=True), sorted(must, reverse=True), size, OFFERED)


def test_every_order_of_the_same_ids_gives_the_same_answer() -> None:
    ids = list(OFFERED)[1:6]
    assert len({prefer(order, [], 3, OFFERED) for order in permutations(ids)}) == 1


def test_a_function_on_a_root_bus_is_no_nearer_than_its_neighbours() -> None:
    """A slot is kept whole before a device is taken that has the root complex alone in common."""
    node = [device("01:00.0", 0, "00:01.0"), device("01:00.1", 0, "00:01.0"), device("00:03.0", 0)]
    offered = {d.id: d for d in node}
    assert short(prefer(offered, ["0000:01:00.1"], 2, offered)) == "01 01:00.1"


def made_for(count: int) -> int:
    """How many calls Python makes to choose half of so many devices, each behind its own port."""
    devices = [
        device(f"{1 + n // 32:02x}:{n % 32:02x}.0", n % 2, f"{n % 2 * 80:02}:{n % 32:02x}.0")
        for n in range(count)
    ]
    offered = {d.id: d for d in devices}
    calls = 0

    def count_call(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        chosen = prefer(offered, [], count // 2, offered)
    finally:
        sys.setprofile(None)
    assert len(chosen) == count // 2
    return calls


def test_the_work_grows_with_the_number_of_devices_and_not_with_its_square() -> None:
    assert made_for(4096) < 6 * made_for(1024)
