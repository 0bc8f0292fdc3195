"""Which host device backs which request."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.assign import AliasBook, assign_devices
from launcher_hook.entries import name_contradictions
from launcher_hook.env import parse_allocations
from launcher_hook.errors import InputError
from launcher_hook.model import (
    Assignment,
    ClaimRequest,
    DeviceRequest,
    EntryDevice,
    HostSource,
    PresentHostdev,
)
from launcher_hook.pci import PciAddress

A, B, C = (PciAddress.parse(f"0000:{bus}:00.0") for bus in ("3b", "86", "af"))
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
OTHER_UUID = "4b20d080-1b54-4048-85b3-a6a62d165c02"


def gpu(name: str, resource: str | None = "x/A", index: int = 0) -> DeviceRequest:
    return DeviceRequest("gpu", name, resource, f"gpus[{index}] {name}")


def of_claim(
    name: str, kind: Literal["gpu", "hostdevice"] = "gpu", index: int = 0
) -> DeviceRequest:
    path = f"{kind}s[{index}] {name}, claim"
    return DeviceRequest(kind, name, None, path, claim=ClaimRequest("c", f"r{index}"))


def hostdev(source: HostSource, alias: str | None = None) -> PresentHostdev:
    return PresentHostdev(source, alias, None)


def assign(
    requests: Sequence[DeviceRequest] = (),
    environ: Mapping[str, str] | None = None,
    present: Sequence[PresentHostdev] = (),
    other_aliases: Sequence[str] = (),
    usb: Sequence[str | None] = (),
    attached: Sequence[HostSource] = (),
    devices: Mapping[str, EntryDevice] | None = None,
) -> tuple[Assignment, ...]:
    aliases = AliasBook([*other_aliases, *(hostdev.alias for hostdev in present if hostdev.alias)])
    allocations = parse_allocations(environ or {})
    return assign_devices(requests, allocations, present, aliases, usb, attached, devices=devices)


def pairs(assignments: Sequence[Assignment]) -> list[tuple[str | None, HostSource, str]]:
    return [(a.name, a.source, a.alias) for a in assignments]


def test_each_request_takes_the_next_address_of_its_variable() -> None:
    assigned = assign([gpu("g0"), gpu("g1")], {"PCI_RESOURCE_X_A": f"{C},{A}"})
    assert pairs(assigned) == [("g0", C, "ua-gpu-g0"), ("g1", A, "ua-gpu-g1")]


def test_an_address_taken_is_gone_from_every_other_variable() -> None:
    assigned = assign(
        [gpu("g0", "x/A"), gpu("g1", "x/B")],
        {"PCI_RESOURCE_X_A": str(A), "PCI_RESOURCE_X_B": f"{A},{B}"},
    )
    assert [a.source for a in assigned] == [A, B]


def test_a_hostdev_with_that_source_is_adopted_and_keeps_its_alias() -> None:
    present = hostdev(A, "ua-mine")
    (assigned,) = assign([gpu("g0")], {"PCI_RESOURCE_X_A": str(A)}, [present])
    assert assigned.present is present
    assert assigned.alias == "ua-mine"


def test_what_the_launcher_has_decided_stands() -> None:
    # The variable's order says A for g0; the launcher gave it B.
    assigned = assign(
        [gpu("g0"), gpu("g1")],
        {"PCI_RESOURCE_X_A": f"{A},{B}"},
        [hostdev(B, "ua-gpu-g0"), hostdev(A, "ua-gpu-g1")],
    )
    assert pairs(assigned) == [("g0", B, "ua-gpu-g0"), ("g1", A, "ua-gpu-g1")]


def test_without_variables_the_hostdevs_are_the_assignment() -> None:
    assigned = assign([gpu("g0")], {}, [hostdev(A, "ua-gpu-g0"), hostdev(B, "ua-sriov-net1")])
    assert pairs(assigned) == [("g0", A, "ua-gpu-g0"), (None, B, "ua-sriov-net1")]


def test_an_assignment_says_what_it_goes_by() -> None:
    environ = {"PCI_RESOURCE_X_A": f"{A},{B}"}
    assigned = assign([gpu("g0"), gpu("g1", index=1)], environ, [hostdev(B, "ua-gpu-g0")])
    assert [a.why for a in assigned] == [
        "gpus[0] g0, by the launcher",
        "gpus[1] g1, PCI_RESOURCE_X_A",
    ]


def test_a_hostdev_that_no_request_names_is_not_attached_twice() -> None:
    assigned = assign(environ={"PCI_RESOURCE_X_A": f"{A},{B}"}, present=[hostdev(A, "ua-mine")])
    assert [a.source for a in assigned] == [A, B]


def test_a_hostdev_without_alias_is_none_of_a_request_whose_alias_libvirt_keeps() -> None:
    assigned = assign([gpu("g0")], {"PCI_RESOURCE_X_A": str(A)}, [hostdev(B)])
    assert pairs(assigned) == [("g0", A, "ua-gpu-g0"), (None, B, "ua-pci-0000-86-00-0")]


def test_an_sriov_interface_has_a_guest_slot_of_its_own() -> None:
    (assigned,) = assign(present=[hostdev(A, "ua-sriov-net1")])
    assert assigned.own_slot
    assert assigned.why == "SR-IOV interface, by the launcher"


def test_an_alias_that_libvirt_drops_is_replaced_by_one_that_it_keeps() -> None:
    (assigned,) = assign([gpu("g-1.x")], {}, [hostdev(A, "ua-gpu-g-1.x")])
    assert assigned.alias == "ua-gpu-g-1-x"


def test_hostdevs_whose_alias_was_dropped_are_found_by_their_order() -> None:
    assigned = assign(
        [gpu("a.1", index=0), gpu("b", index=1), gpu("c.2", index=2)],
        {},
        [hostdev(C), hostdev(B, "ua-gpu-b"), hostdev(A)],
    )
    assert pairs(assigned) == [
        ("a.1", C, "ua-gpu-a-1"),
        ("b", B, "ua-gpu-b"),
        ("c.2", A, "ua-gpu-c-2"),
    ]


def test_a_claims_hostdev_is_found_by_the_alias_that_the_launcher_gives_it() -> None:
    assigned = assign(
        [of_claim("a"), of_claim("b", index=1), of_claim("a", "hostdevice")],
        {},
        [
            hostdev(A, "ua-dra-hostdevice-a"),
            hostdev(B, "ua-dra-gpu-a"),
            hostdev(UUID, "ua-dra-gpu-b"),
            hostdev(C, "ua-sriov-a"),
        ],
    )
    assert pairs(assigned) == [
        ("a", B, "ua-dra-gpu-a"),
        ("b", UUID, "ua-dra-gpu-b"),
        ("a", A, "ua-dra-hostdevice-a"),
        (None, C, "ua-sriov-a"),
    ]


def test_an_entry_of_a_resource_and_a_claims_of_one_name_have_each_their_own_hostdev() -> None:
    assigned = assign(
        [gpu("a"), of_claim("a")], {}, [hostdev(A, "ua-dra-gpu-a"), hostdev(B, "ua-gpu-a")]
    )
    assert pairs(assigned) == [("a", B, "ua-gpu-a"), ("a", A, "ua-dra-gpu-a")]


def test_a_claims_alias_with_a_dot_is_replaced_and_found_again() -> None:
    (first,) = assign([of_claim("g-1.x")], {}, [hostdev(A, "ua-dra-gpu-g-1.x")])
    assert first.alias == "ua-dra-gpu-g-1-x"
    assert pairs(assign([of_claim("g-1.x")], {}, [hostdev(A, first.alias)])) == [
        ("g-1.x", A, "ua-dra-gpu-g-1-x")
    ]


def test_no_alias_is_given_that_another_entry_has_by_its_name() -> None:
    """In the next pass ``ua-gpu-b-1`` is that of the entry ``b-1``."""
    requests = [gpu("b.1"), gpu("b-1", "x/B", index=1), gpu("b-1-2", "x/C", index=2)]
    environ = {"PCI_RESOURCE_X_B": str(B), "PCI_RESOURCE_X_C": str(C)}
    assigned = assign(requests, environ, [hostdev(A, "ua-gpu-b.1")])
    assert [a.alias for a in assigned] == ["ua-gpu-b-1-3", "ua-gpu-b-1", "ua-gpu-b-1-2"]
    again = [hostdev(a.source, a.alias) for a in assigned]
    assert pairs(assign(requests, environ, again)) == pairs(assigned)


def test_dropped_aliases_are_found_in_the_order_in_which_the_launcher_writes_its_hostdevs() -> None:
    """Host devices before GPUs, and of either those of claims last."""
    requests = [
        of_claim("g.1"),
        gpu("g.2", index=1),
        of_claim("h.1", "hostdevice"),
        DeviceRequest("hostdevice", "h.2", "x/A", "hostDevices[1] h.2"),
    ]
    d = PciAddress.parse("0000:d8:00.0")
    present = [hostdev(source) for source in (A, B, C, d)]
    assert [(a.name, a.source) for a in assign(requests, {}, present)] == [
        ("g.1", d),
        ("g.2", C),
        ("h.1", B),
        ("h.2", A),
    ]


def told(request: DeviceRequest, source: HostSource | None) -> dict[str, EntryDevice]:
    """As metadata tells it."""
    return {request.path: EntryDevice(source, "file")}


def named(request: DeviceRequest, source: HostSource) -> dict[str, EntryDevice]:
    """As the user does."""
    return {request.path: EntryDevice(source, "--device x", is_demand=True)}


@pytest.mark.parametrize("source", [A, UUID], ids=["function", "mediated device"])
def test_a_claims_device_that_is_not_in_the_domain_is_what_somebody_tells(
    source: HostSource,
) -> None:
    (assigned,) = assign([of_claim("g")], devices=told(of_claim("g"), source))
    assert (assigned.source, assigned.alias, assigned.present) == (source, "ua-dra-gpu-g", None)
    assert assigned.why == "gpus[0] g, claim, file"
    assert assigned.display == ("on" if source == UUID else None)


def test_what_the_launcher_wrote_goes_before_what_others_tell() -> None:
    present = [hostdev(A, "ua-dra-gpu-g")]
    devices = told(of_claim("g"), B)
    (assigned,) = assign([of_claim("g")], present=present, devices=devices)
    assert assigned.source == A
    assert list(name_contradictions([of_claim("g")], present, devices)) == [
        "gpus[0] g, claim has 0000:3b:00.0, as the launcher wrote it, and 0000:86:00.0 by file"
    ]
    agreed = told(of_claim("g"), A)
    assert list(name_contradictions([of_claim("g")], present, agreed)) == []


def test_a_hostdev_of_that_source_is_adopted() -> None:
    present = hostdev(A, "ua-mine")
    (assigned,) = assign([of_claim("g")], present=[present], devices=told(of_claim("g"), A))
    assert (assigned.present, assigned.alias) == (present, "ua-mine")


def test_a_hostdev_whose_alias_was_dropped_is_found_by_its_source_first() -> None:
    requests = [of_claim("a.1"), of_claim("b.2", index=1)]
    devices = told(requests[0], B)
    assigned = assign(requests, present=[hostdev(A), hostdev(B)], devices=devices)
    assert pairs(assigned) == [("a.1", B, "ua-dra-gpu-a-1"), ("b.2", A, "ua-dra-gpu-b-2")]


def test_a_fault_counts_only_where_the_device_is_needed() -> None:
    fault = InputError("gpus[0]", "there is no file", "give one")
    devices = {of_claim("g").path: EntryDevice(None, "dir", fault=fault)}
    (assigned,) = assign([of_claim("g")], present=[hostdev(A, "ua-dra-gpu-g")], devices=devices)
    assert assigned.source == A
    with pytest.raises(InputError, match="there is no file; give one"):
        assign([of_claim("g")], devices=devices)


def test_a_user_names_which_of_a_variables_devices_an_entry_has_and_others_have_the_rest() -> None:
    requests = [gpu("g0"), gpu("g1", index=1)]
    assigned = assign(requests, {"PCI_RESOURCE_X_A": f"{A},{B}"}, devices=named(requests[1], A))
    assert pairs(assigned) == [("g0", B, "ua-gpu-g0"), ("g1", A, "ua-gpu-g1")]


def test_a_user_names_the_device_of_a_resource_without_its_variable() -> None:
    (assigned,) = assign([gpu("g")], devices=named(gpu("g"), A))
    assert pairs([assigned]) == [("g", A, "ua-gpu-g")]


@pytest.mark.parametrize(
    ("requests", "environ", "present", "devices", "message"),
    [
        ([of_claim("g")], {}, [hostdev(A, "ua-dra-gpu-g")], named(of_claim("g"), B),
         r"--device x: the domain has 0000:3b:00.0 for gpus\[0\] g, claim \('g'\), as the launcher "
         "wrote it; leave the option out, or the hostdev"),
        ([gpu("g")], {"PCI_RESOURCE_X_A": str(A)}, [], named(gpu("g"), B),
         r"--device x: PCI_RESOURCE_X_A, which gpus\[0\] g \('g'\) is to have a device of, has no "
         "0000:86:00.0; name one that it has"),
        ([of_claim("g"), of_claim("h", index=1)], {}, [],
         {**told(of_claim("g"), A), **told(of_claim("h", index=1), A)},
         r"file: 0000:3b:00.0 is the device of gpus\[0\] g, claim too, and would be that of "
         r"gpus\[1\] h, claim \('h'\); name each device once"),
        ([gpu("g"), of_claim("h", index=1)], {}, [hostdev(A, "ua-gpu-g")],
         told(of_claim("h", index=1), A), "is the device of another part of the domain too"),
    ],
    ids=["launcher", "variable", "twice", "another's"],
)  # fmt: skip
def test_a_device_that_contradicts_is_refused(
    requests: list[DeviceRequest],
    environ: dict[str, str],
    present: list[PresentHostdev],
    devices: dict[str, EntryDevice],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        assign(requests, environ, present, devices=devices)


def test_a_device_that_a_user_names_for_a_usb_device_is_refused() -> None:
    request = DeviceRequest("hostdevice", "u", "x/U", "hostDevices[0]")
    with pytest.raises(InputError, match="the domain has a USB device for hostDevices.0. .'u'.;"):
        assign([request], usb=["ua-usb-host-u"], devices=named(request, A))


_ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["gpu", "hostdevice"]),
        st.booleans(),  # of a claim
        st.sampled_from(["a", "b.1", "b-1", "c.2.x"]),
        st.sampled_from(["written", "dropped", "told"]),
        st.booleans(),  # mediated
    ),
    max_size=8,
    unique_by=lambda entry: entry[:3],
)


@given(_ENTRIES, st.integers(0, 3))
def test_every_entry_of_any_mix_has_its_device(
    entries: list[tuple[Literal["gpu", "hostdevice"], bool, str, str, bool]], interfaces: int
) -> None:
    """Of claims and of resources, written by the launcher or told, also where libvirt has dropped
    the aliases that it does not keep."""
    requests, present, devices, environ, expected = [], [], {}, {}, {}
    order = {"hostdevice": 0, "gpu": 1}
    for index, (kind, of_a_claim, name, how, mediated) in enumerate(
        sorted(entries, key=lambda entry: (order[entry[0]], entry[1]))
    ):
        resource = None if of_a_claim else f"x/{index}"
        claim = ClaimRequest("c", f"r{index}") if of_a_claim else None
        request = DeviceRequest(kind, name, resource, f"{kind}[{index}]", claim=claim)
        source: HostSource = PciAddress(0, index, 0, 0)
        if mediated:
            source = f"4b20d080-1b54-4048-85b3-{index:012x}"
        expected[request.path] = source
        requests.append(request)
        alias = f"ua-{request.launcher_alias}"
        if how == "told" and of_a_claim:
            devices[request.path] = EntryDevice(source, "file")
        elif how == "told":
            prefix = "MDEV_PCI_RESOURCE_X_" if mediated else "PCI_RESOURCE_X_"
            environ[f"{prefix}{index}"] = str(source)
        else:
            is_kept = how == "written" or "." not in name
            present.append(hostdev(source, alias if is_kept else None))
    # Those whose hostdev is not there yet cannot be told from those whose alias was dropped.
    if any(hostdev.alias is None for hostdev in present):
        devices = {path: EntryDevice(source, "file") for path, source in expected.items()}
        environ = {}
    present += [
        hostdev(PciAddress(0, 0xFF, slot, 0), f"ua-sriov-n{slot}") for slot in range(interfaces)
    ]
    requests.sort(key=lambda request: -order[request.kind])  # as the VMI goes: GPUs first
    assigned = assign(requests, environ, present, devices=devices)
    assert [(a.name, a.source) for a in assigned[: len(requests)]] == [
        (request.name, expected[request.path]) for request in requests
    ]
    assert [a.alias for a in assigned[len(requests) :]] == [
        f"ua-sriov-n{slot}" for slot in range(interfaces)
    ]
    assert len({a.alias for a in assigned}) == len(assigned)
    # The next pass has the aliases that were given, and no more.
    again = [hostdev(a.source, a.alias) for a in assigned]
    assert pairs(assign(requests, present=again)) == pairs(assigned)


def test_what_no_request_claims_is_attached_too_in_host_address_order() -> None:
    assigned = assign(environ={"PCI_RESOURCE_B": f"{C},{A}", "PCI_RESOURCE_A": str(B)})
    assert pairs(assigned) == [
        (None, A, "ua-pci-0000-3b-00-0"),
        (None, B, "ua-pci-0000-86-00-0"),
        (None, C, "ua-pci-0000-af-00-0"),
    ]
    assert assigned[0].why == "PCI_RESOURCE_B, claimed by no entry of the VMI"


def test_unclaimed_mediated_devices_come_last_each_in_a_slot_of_its_own() -> None:
    assigned = assign(environ={"MDEV_PCI_RESOURCE_A": UUID, "PCI_RESOURCE_B": f"{B},{A}"})
    assert [(a.source, a.own_slot) for a in assigned] == [(A, False), (B, False), (UUID, True)]


def test_a_resource_of_both_kinds_is_refused_where_both_have_devices() -> None:
    """KubeVirt makes a hostdev of each kind for the entry, and then counts one too many."""
    both = {"MDEV_PCI_RESOURCE_X_A": UUID, "PCI_RESOURCE_X_A": str(A)}
    with pytest.raises(
        InputError,
        match="PCI_RESOURCE_X_A and MDEV_PCI_RESOURCE_X_A both have devices, .* one of each; give "
        "functions and mediated devices resources of their own, not 'x/A'",
    ):
        assign([gpu("g0"), gpu("g1")], both)
    (mediated,) = assign([gpu("g0")], {**both, "PCI_RESOURCE_X_A": ""})
    assert mediated.source == UUID
    assert mediated.own_slot


def test_without_a_vmi_the_launchers_devices_are_in_the_order_of_its_lists() -> None:
    """virt-launcher writes hostDevices first; the entries of gpus have the first guest slots."""
    aliases = ["ua-hostdevice-n0", "ua-sriov-net", "ua-gpu-g0", "ua-dra-hostdevice-n1"]
    sources = [PciAddress.parse(f"0000:{bus}:00.0") for bus in ("01", "02", "03", "04")]
    assigned = assign(present=[hostdev(s, a) for s, a in zip(sources, aliases, strict=True)])
    assert [a.alias for a in assigned] == [aliases[n] for n in (2, 0, 3, 1)]


def nic(name: str, resource: str) -> DeviceRequest:
    return DeviceRequest("hostdevice", name, resource, f"hostDevices[0] {name}")


@pytest.mark.parametrize(
    "environ",
    [
        {"PCI_RESOURCE_X_A": f"{A},{B}", "PCI_RESOURCE_X_B": f"{A},{B}"},
        {"PCI_RESOURCE_X_A": str(A), "PCI_RESOURCE_X_B": str(A).upper()},
        {"MDEV_PCI_RESOURCE_X_A": UUID, "MDEV_PCI_RESOURCE_X_B": f"{UUID},{OTHER_UUID}"},
    ],
    ids=["functions", "in-upper-case", "mediated-devices"],
)
@pytest.mark.parametrize("resource", ["x/A", "x/B"], ids=["one-resource", "two-resources"])
def test_gpus_and_host_devices_are_dealt_out_of_two_pools(
    environ: Mapping[str, str], resource: str
) -> None:
    """Each list takes the first address of its variable, and libvirt refuses one device twice."""
    with pytest.raises(
        InputError,
        match=r"^hostDevices\[0\] n0 \('n0'\): its device would be .*, the next of .*, and that is "
        r"the device of gpus\[0\] g0 \('g0'\): .*; ask for both devices in one of the lists",
    ):
        assign([gpu("g0"), nic("n0", resource)], environ)


def test_the_launchers_device_for_both_lists_is_refused_with_the_reason() -> None:
    present = [hostdev(A, "ua-hostdevice-n0"), hostdev(A, "ua-gpu-g0")]
    with pytest.raises(
        InputError, match=r"in one of the lists gpus and hostDevices, or .* \(KubeVirt deals each"
    ):
        assign([gpu("g0"), nic("n0", "x/A")], present=present)


def test_two_lists_with_devices_of_their_own_do_not_mind_each_other() -> None:
    environ = {"PCI_RESOURCE_X_A": f"{A},{B}", "PCI_RESOURCE_X_B": str(C)}
    assigned = assign([gpu("g0"), gpu("g1", index=1), nic("n0", "x/B")], environ)
    assert [a.source for a in assigned] == [A, B, C]


@pytest.mark.parametrize(
    ("display", "ramfb", "written"),
    [
        (None, None, ("on", "on")),
        (True, None, ("on", "on")),
        (True, True, ("on", "on")),
        (True, False, ("on", "off")),
        (False, True, ("off", None)),
    ],
)
def test_a_vgpus_display_is_what_the_launcher_would_write(
    display: bool | None, ramfb: bool | None, written: tuple[str | None, str | None]
) -> None:
    request = DeviceRequest("gpu", "v", "x/A", "gpus[0]", display, ramfb)
    (assigned,) = assign([request], {"MDEV_PCI_RESOURCE_X_A": UUID})
    assert (assigned.display, assigned.ramfb) == written


def test_only_the_first_vgpu_has_a_display_that_nobody_asked_for() -> None:
    """QEMU has one boot framebuffer."""
    variable = {"MDEV_PCI_RESOURCE_X_A": f"{UUID},{OTHER_UUID}", "PCI_RESOURCE_X_B": str(A)}
    requests = [gpu("pci", "x/B"), gpu("v0", index=1), gpu("v1", index=2)]
    displays = [(a.display, a.ramfb) for a in assign(requests, variable)]
    assert displays == [(None, None), ("on", "on"), (None, None)]
    said = [replace(requests[1], display=False), requests[2]]
    assert [a.display for a in assign(said, variable, attached=[A])][:2] == ["off", None]
    launchers = assign(requests[1:], variable, [hostdev(UUID, "ua-gpu-v0")], attached=[A])
    assert [a.display for a in launchers] == [None, None]


def test_a_vgpus_display_stays_as_the_launcher_wrote_it() -> None:
    (assigned,) = assign([gpu("v")], {}, [hostdev(UUID, "ua-gpu-v")])
    assert (assigned.display, assigned.ramfb) == (None, None)


def test_a_host_device_has_no_display() -> None:
    request = DeviceRequest("hostdevice", "v", "x/A", "hostDevices[0]")
    (assigned,) = assign([request], {"MDEV_PCI_RESOURCE_X_A": UUID})
    assert (assigned.display, assigned.ramfb) == (None, None)


def test_aliases_are_unique_among_all_devices() -> None:
    assigned = assign(
        environ={"PCI_RESOURCE_A": str(A)}, other_aliases=["ua-pci-0000-3b-00-0", "ua-disk"]
    )
    assert assigned[0].alias == "ua-pci-0000-3b-00-0-2"


def test_the_number_behind_an_alias_is_the_first_that_nobody_has() -> None:
    taken = [f"ua-gpu-g0{number}" for number in ("", "-2", "-5")]
    (assigned,) = assign([gpu("g0")], {"PCI_RESOURCE_X_A": str(A)}, other_aliases=taken)
    assert assigned.alias == "ua-gpu-g0-3"


def test_an_alias_that_was_given_is_taken() -> None:
    assigned = assign([gpu("a.b"), gpu("a-b")], {"PCI_RESOURCE_X_A": f"{A},{B}"})
    assert [a.alias for a in assigned] == ["ua-gpu-a-b-2", "ua-gpu-a-b"]


def test_a_device_that_no_request_names_has_an_alias_of_its_source() -> None:
    assigned = assign(environ={"MDEV_PCI_RESOURCE_A": UUID}, present=[hostdev(A)])
    assert [a.alias for a in assigned] == ["ua-pci-0000-3b-00-0", f"ua-mdev-{UUID}"]


@pytest.mark.parametrize(
    ("requests", "environ", "message"),
    [
        ([gpu("g0")], {}, r"'g0'\): PCI_RESOURCE_X_A is not set, and the domain has no hostdev "
         r"'ua-gpu-g0'; have 'x/A' allocated to the pod, or give --env PCI_RESOURCE_X_A="),
        ([gpu("g0")], {"PCI_RESOURCE_X_A": ""}, "has 0 device.s., and none is left for it; have "
         "the pod allocated one 'x/A' more, or drop the entry"),
        ([gpu("g0"), gpu("g1")], {"PCI_RESOURCE_X_A": str(A)}, "'g1'.: PCI_RESOURCE_X_A has 1 "
         "device.s., and none is left"),
        ([of_claim("g0")], {"PCI_RESOURCE_X_A": str(A)}, r"gpus\[0\] g0, claim \('g0'\): its "
         "device is that of a resource claim, and the domain has no hostdev 'ua-dra-gpu-g0'; give "
         "the domain that the launcher wrote for this VMI, or the device: --device "
         "g0=0000:3b:00.0, or the pod's metadata files by --dra-metadata$"),
    ],
)  # fmt: skip
def test_a_request_that_nothing_backs_is_refused(
    requests: list[DeviceRequest], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        assign(requests, environ)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE": str(A)},
            "REV__A is not set .PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE is, and no entry uses it., "
            "and the domain has no hostdev 'ua-gpu-g0'; give PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE"
            "_RTX_2060_REV__A instead of PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE, or write the "
            "deviceName that PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE is of$",
        ),
        (
            {"MDEV_PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX": UUID, "PCI_RESOURCE_B": str(A)},
            "instead of MDEV_PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX, or",
        ),
        (
            {"PCI_RESOURCE_INTEL_COM_QAT": str(A)},
            "PCI_RESOURCE_INTEL_COM_QAT is, and no entry uses it.*; have 'nvidia.com/.*' allocated",
        ),
        ({"PCI_RESOURCE_X_A": str(A)}, "REV__A is not set, and the domain has no hostdev"),
        (
            {f"PCI_RESOURCE_{name}": str(A) for name in "SPQR"},
            r"\(PCI_RESOURCE_P, PCI_RESOURCE_Q, PCI_RESOURCE_R is, and no entry uses it\)",
        ),
    ],
    ids=[
        "one that is like it",
        "one of another kind",
        "one of something else",
        "only used ones",
        "several",
    ],
)
def test_a_variable_of_no_entry_is_named_where_one_is_missing(
    environ: dict[str, str], message: str
) -> None:
    requests = [gpu("x", "x/A"), gpu("g0", "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A")]
    with pytest.raises(InputError, match=message):
        assign(requests, environ, [hostdev(B, "ua-gpu-x")])


def test_two_hostdevs_with_one_source_are_refused() -> None:
    with pytest.raises(
        InputError,
        match="^hostdev on line None: '0000:3b:00.0' is the source of the hostdev on line None "
        "already; take one of the two out: libvirt gives a device to a guest once$",
    ):
        assign(present=[hostdev(A, "ua-a"), hostdev(A, "ua-b")])


def test_a_gpu_of_the_name_of_a_usb_device_is_still_ours() -> None:
    (assigned,) = assign([gpu("a", "x/A")], {"PCI_RESOURCE_X_A": str(A)}, usb=["ua-usb-host-a"])
    assert (assigned.name, assigned.alias) == ("a", "ua-gpu-a")


def test_a_request_that_a_usb_hostdev_backs_is_none_of_ours() -> None:
    request = DeviceRequest("hostdevice", "stick", "kubevirt.io/storage", "hostDevices[0]")
    assert assign([request], usb=["ua-usb-host-stick"]) == ()
    dotted = replace(request, name="stick.1")  # libvirt has dropped this alias
    assert assign([dotted], usb=[None]) == ()
    with pytest.raises(InputError, match="PCI_RESOURCE_KUBEVIRT_IO_STORAGE is not set"):
        assign([dotted], usb=["ua-usb-host-other"])


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(DeviceRequest("gpu", "g.1", "x/A", "gpus[0]"), id="a GPU"),
        pytest.param(
            DeviceRequest("hostdevice", "nic", "x/A", "hostDevices[0]"),
            id="a name that libvirt keeps",
        ),
    ],
)
def test_a_usb_hostdev_without_alias_is_not_taken_for(request_: DeviceRequest) -> None:
    with pytest.raises(InputError, match="PCI_RESOURCE_X_A is not set"):
        assign([request_], usb=[None])


def test_as_many_requests_are_for_usb_as_there_are_usb_hostdevs_without_alias() -> None:
    first, second = (
        DeviceRequest("hostdevice", f"stick.{n}", "x/A", f"hostDevices[{n}]") for n in (0, 1)
    )
    assert assign([first, second], usb=[None, None]) == ()
    with pytest.raises(InputError, match="'stick.1'.: PCI_RESOURCE_X_A is not set"):
        assign([first, second], usb=[None])
    (assigned,) = assign([first, gpu("g0", "x/B")], {"PCI_RESOURCE_X_B": str(A)}, usb=[None])
    assert assigned.name == "g0"


def test_a_request_with_a_variable_of_its_own_is_not_taken_for_a_usb_one() -> None:
    request = DeviceRequest("hostdevice", "nic.1", "x/A", "hostDevices[0]")
    (assigned,) = assign([request], {"PCI_RESOURCE_X_A": str(A)}, usb=[None])
    assert assigned.source == A


def test_names_that_clean_to_one_alias_get_two_and_are_found_again() -> None:
    requests = [gpu("a.b", index=0), gpu("a-b", index=1)]
    first = assign(requests, {}, [hostdev(A, "ua-gpu-a.b"), hostdev(B, "ua-gpu-a-b")])
    assert pairs(first) == [("a.b", A, "ua-gpu-a-b-2"), ("a-b", B, "ua-gpu-a-b")]
    again = assign(requests, {}, [hostdev(a.source, a.alias) for a in first])
    assert pairs(again) == pairs(first)


def test_a_function_that_an_interface_has_is_not_attached_twice() -> None:
    assigned = assign([gpu("g0")], {"PCI_RESOURCE_X_A": f"{A},{B},{C}"}, attached=[A, C])
    assert [a.source for a in assigned] == [B]


def test_two_hostdevs_with_one_alias_are_refused() -> None:
    with pytest.raises(
        InputError,
        match="^hostdev on line None: 'ua-a' is the alias of the hostdev .*; give each its",
    ):
        assign(present=[hostdev(C), hostdev(A, "ua-a"), hostdev(B, "ua-a")])


def test_a_vgpus_function_keeps_its_driver() -> None:
    present = PresentHostdev(A, "ua-gpu-g0", None, managed="no", display="on")
    (assigned,) = assign([gpu("g0")], {}, [present])
    assert assigned.keep_driver
    (adopted,) = assign(present=[present])
    assert adopted.keep_driver
    assert adopted.present is present
    assert adopted.why == "in the domain already"


@given(st.permutations(["PCI_RESOURCE_X_A", "PCI_RESOURCE_X_B", "PCI_RESOURCE_X_C"]), st.data())
def test_the_order_of_the_variables_does_not_matter(order: list[str], data: st.DataObject) -> None:
    environ = {
        name: ",".join(map(str, data.draw(st.lists(st.sampled_from([A, B, C]), unique=True))))
        for name in sorted(order)
    }
    assert assign(environ={name: environ[name] for name in order}) == assign(environ=environ)
