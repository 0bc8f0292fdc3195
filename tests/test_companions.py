"""Which functions come along, and which groups cannot work."""

from dataclasses import replace

import pytest

from launcher_hook.assign import AliasBook
from launcher_hook.companions import add_companions, check_host
from launcher_hook.errors import HostError
from launcher_hook.model import Assignment, HostFacts, HostFunction, PresentHostdev
from launcher_hook.pci import PciAddress
from launcher_hook.settings import Settings

GPU = PciAddress.parse("0000:86:00.0")
AUDIO = GPU.with_function(1)
USB = GPU.with_function(2)
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def function(address: PciAddress, **others: object) -> HostFunction:
    known = HostFunction(address, class_code=0x030000, iommu_group=42, driver="vfio-pci")
    return replace(known, **others)  # type: ignore[arg-type]


def facts(*functions: HostFunction) -> HostFacts:
    return HostFacts(known=True, functions={f.address: f for f in functions})


def assigned(source: PciAddress | str = GPU, managed: str | None = None) -> Assignment:
    present = None if managed is None else PresentHostdev(source, "ua-x", None, managed)
    return Assignment(source, "ua-gpu-gpu0", "test", present=present)


def check(
    assignments: list[Assignment], known: HostFacts, settings: Settings | None = None
) -> None:
    """Decide and check, as a render does; companions are left aside."""
    settings = replace(settings or Settings(), companions="ignore")
    check_host(add_companions(assignments, known, settings, AliasBook([])), known)


def companions(known: HostFacts, settings: Settings | None = None) -> list[tuple[str, str]]:
    book = AliasBook(["ua-gpu-gpu0"])
    result = add_companions([assigned()], known, settings or Settings(), book)
    return [(str(a.source), a.alias) for a in result[1:]]


def test_vfio_bound_functions_of_slot_and_group_come_along() -> None:
    known = facts(function(GPU), function(AUDIO), function(USB, driver="mlx5_vfio_pci"))
    assert companions(known) == [
        ("0000:86:00.1", "ua-pci-0000-86-00-1"),
        ("0000:86:00.2", "ua-pci-0000-86-00-2"),
    ]


def test_each_group_of_a_slot_has_its_own_and_a_vf_takes_none_from_its_neighbours() -> None:
    ucsi, vf = GPU.with_function(3), GPU.with_function(4)
    known = facts(
        function(GPU),
        function(AUDIO),
        function(USB, iommu_group=43),
        function(ucsi, iommu_group=43),
        function(vf, physical_function=GPU),
    )
    given = [assigned(GPU), assigned(USB), assigned(vf)]
    result = add_companions(given, known, Settings(), AliasBook([]))
    assert [str(a.source) for a in result] == [
        "0000:86:00.0", "0000:86:00.1", "0000:86:00.2", "0000:86:00.3", "0000:86:00.4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        function(AUDIO, iommu_group=43),
        function(AUDIO, iommu_group=None),
        function(AUDIO, driver="snd_hda_intel"),
        function(AUDIO, driver=""),
        function(AUDIO, driver=None),
        function(AUDIO, physical_function=GPU),
        function(AUDIO, class_code=0x060400),
        function(PciAddress.parse("0000:86:01.0")),
    ],
    ids=["group", "no-group", "native", "no-driver", "unknown-driver", "vf", "bridge", "slot"],
)
def test_any_other_function_stays_behind(other: HostFunction) -> None:
    assert companions(facts(function(GPU), other)) == []


def test_nothing_is_added_where_nothing_is_known() -> None:
    assert companions(HostFacts()) == []
    assert companions(facts(function(GPU, iommu_group=None), function(AUDIO))) == []


def test_companions_can_be_ignored() -> None:
    settings = Settings(companions="ignore")
    assert companions(facts(function(GPU), function(AUDIO)), settings) == []


def test_a_companion_that_is_assigned_itself_is_not_doubled() -> None:
    both = [assigned(), replace(assigned(AUDIO), alias="ua-gpu-audio")]
    result = add_companions(both, facts(function(GPU), function(AUDIO)), Settings(), AliasBook([]))
    assert [a.source for a in result] == [GPU, AUDIO]


def test_a_companion_whose_own_driver_provides_vfio_keeps_it_too() -> None:
    known = facts(function(GPU), function(AUDIO, driver="nvidia", vfio_device="vfio3"))
    _, companion = add_companions([assigned()], known, Settings(), AliasBook([]))
    assert (companion.keep_driver, companion.managed) == (True, "no")


def test_a_companion_of_two_assigned_functions_comes_once() -> None:
    both = [assigned(), replace(assigned(AUDIO), alias="ua-gpu-audio")]
    known = facts(function(GPU), function(AUDIO), function(USB))
    result = add_companions(both, known, Settings(), AliasBook([]))
    assert [a.source for a in result] == [GPU, AUDIO, USB]


def test_a_virtual_function_brings_nobody() -> None:
    known = facts(function(GPU, physical_function=USB), function(AUDIO))
    assert companions(known) == []


def test_a_virtual_function_gets_a_guest_slot_of_its_own() -> None:
    known = facts(function(GPU, physical_function=AUDIO))
    (result,) = add_companions([assigned()], known, Settings(), AliasBook([]))
    assert result.own_slot


def test_a_function_whose_own_driver_provides_vfio_keeps_it_and_may_be_unmanaged() -> None:
    known = facts(function(GPU, driver="nvidia", vfio_device="vfio3"))
    (result,) = add_companions([assigned()], known, Settings(), AliasBook([]))
    assert result.keep_driver
    check([result], known, Settings(managed="yes"))


def test_a_member_on_another_driver_is_refused_by_function_driver_and_group() -> None:
    known = facts(function(GPU), function(AUDIO, driver="snd_hda_intel"))
    with pytest.raises(
        HostError,
        match=r"0000:86:00.0: IOMMU group 42: its function 0000:86:00.1 is bound to "
        r"'snd_hda_intel', so the group cannot be given to a VM; bind 0000:86:00.1 to vfio-pci",
    ):
        check([assigned()], known, Settings())


@pytest.mark.parametrize(
    "member",
    [
        function(AUDIO),
        function(AUDIO, driver=""),
        function(AUDIO, driver="pci-stub"),
        function(AUDIO, driver=None),
        function(AUDIO, driver="nvidia", vfio_device="vfio7"),
        function(PciAddress.parse("0000:80:01.0"), driver="pcieport", class_code=0x060400),
        function(AUDIO, driver="snd_hda_intel", iommu_group=43),
    ],
    ids=["vfio", "none", "stub", "unknown", "vfio-device", "bridge", "another-group"],
)
def test_a_member_that_leaves_the_group_viable_is_fine(member: HostFunction) -> None:
    check([assigned()], facts(function(GPU), member), Settings())


def test_a_function_on_its_native_driver_is_fine_if_libvirt_manages_it() -> None:
    known = facts(function(GPU, driver="nouveau"))
    check([assigned()], known, Settings(managed="yes"))
    check([assigned(managed="yes")], known, Settings(managed="keep"))
    check([assigned()], known, Settings(managed="keep"))


@pytest.mark.parametrize("driver", ["nouveau", ""])
@pytest.mark.parametrize(
    ("assignment", "settings"),
    [
        (assigned(), Settings(managed="no")),
        (assigned(managed="no"), Settings(managed="keep")),
    ],
)
def test_an_unmanaged_function_must_be_bound_to_vfio(
    assignment: Assignment, settings: Settings, driver: str
) -> None:
    with pytest.raises(HostError, match="bind 0000:86:00.0 to vfio-pci on the node"):
        check([assignment], facts(function(GPU, driver=driver)), settings)


def test_a_function_that_is_gone_is_refused() -> None:
    with pytest.raises(HostError, match=r"0000:86:00.0 .*: the node has no such function; see"):
        check([assigned()], facts(), Settings())


def test_a_mediated_device_that_is_gone_is_refused() -> None:
    known = HostFacts(known=True, mediated_devices={UUID: False})
    with pytest.raises(HostError, match=r"the node has no such mediated device; create it"):
        check([assigned(UUID)], known, Settings())
    check([assigned(UUID)], HostFacts(known=True, mediated_devices={UUID: True}), Settings())
    check([assigned(UUID)], HostFacts(known=True), Settings())


def test_an_unknown_node_refuses_nothing() -> None:
    check([assigned()], HostFacts(), Settings(managed="no"))
