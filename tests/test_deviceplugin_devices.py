"""What is offered of a node, and a reason for all that is not: a pure function."""

from dataclasses import replace

import pytest

from launcher_hook.deviceplugin.devices import Inventory, select_devices
from launcher_hook.deviceplugin.selection import (
    MdevSelector,
    PciSelector,
    Selection,
    select_by_vendor,
)
from launcher_hook.model import HostFunction, MediatedDevice
from launcher_hook.pci import PciAddress

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
NVIDIA = select_by_vendor({0x10DE: "nvidia.com"}, ("03",))
NAMES = {(0x10DE, 0x1F08): "TU106 [GeForce RTX 2060 Rev. A]", (0x10DE, 0x1F09): "A" * 70}
RESOURCE = "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"


def function(bdf: str, group: int | None = 4, **facts: object) -> HostFunction:
    known = HostFunction(
        PciAddress.parse(bdf), vendor_id=0x10DE, device_id=0x1F08, class_code=0x030000,
        iommu_group=group, driver="vfio-pci",
    )  # fmt: skip
    return replace(known, **facts)  # type: ignore[arg-type]


GPU = function("0000:04:00.0")
AUDIO = function("0000:04:00.1", device_id=0x10F9, class_code=0x040300)


def select(
    *functions: HostFunction,
    selection: Selection = NVIDIA,
    previous: Inventory | None = None,
    mediated: tuple[tuple[MediatedDevice, HostFunction | None], ...] = (),
) -> Inventory:
    return select_devices(functions, mediated, selection, lambda v, d: NAMES.get((v, d)), previous)


def offered(inventory: Inventory) -> dict[str, list[str]]:
    return {name: [d.id for d in devices] for name, devices in inventory.resources.items()}


def why(inventory: Inventory, source: str) -> str:
    return next(u.why for u in inventory.unoffered if str(u.source) == source)


def test_without_a_config_nvidias_display_functions_have_nvidias_names() -> None:
    inventory = select(GPU, AUDIO, function("0000:86:00.0", 5, vendor_id=0x1002))
    assert offered(inventory) == {RESOURCE: ["0000:04:00.0"]}
    assert why(inventory, "0000:86:00.0") == "no selector matches it"
    assert why(inventory, "0000:04:00.1").endswith(
        "it goes with 0000:04:00.0, in whose IOMMU group it is"
    )


def test_a_device_that_pci_ids_does_not_name_is_offered_by_number_as_nvidias_plugin_does() -> None:
    inventory = select(replace(GPU, device_id=0x2FFF))
    assert offered(inventory) == {"nvidia.com/2fff": ["0000:04:00.0"]}
    assert inventory.warnings[0].startswith("pci.ids has no name for 10de:2fff")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"driver": "nvidia"}, "bound to 'nvidia'; bind it to vfio-pci"),
        ({"driver": ""}, "bound to no driver; bind it to vfio-pci"),
        ({"driver": None}, "its driver cannot be read"),
        ({"iommu_group": None}, "in no IOMMU group; turn the IOMMU on"),
        ({"vendor_id": None}, "its vendor cannot be read"),
        ({"device_id": None}, "its vendor or device id cannot be read"),
        ({"class_code": None}, "no selector matches it, and its class cannot be read"),
        ({"device_id": 0x1F09}, "63 are allowed; write e.g. nvidia.com/AAA"),
        ({"driver": "nvidia", "vfio_device": "vfio3"}, "select it with 'driver: nvidia'"),
    ],
)
def test_a_function_that_is_not_offered_has_its_reason_and_hides_no_other(
    facts: dict[str, object], reason: str
) -> None:
    inventory = select(replace(GPU, **facts), function("0000:86:00.0", 5))  # type: ignore[arg-type]
    assert reason in why(inventory, "0000:04:00.0")
    assert offered(inventory) == {RESOURCE: ["0000:86:00.0"]}


def test_a_bridge_is_never_offered() -> None:
    selection = Selection((PciSelector("here", "a.com/x", vendor_id=0x10DE),))
    inventory = select(replace(GPU, class_code=0x060400), selection=selection)
    assert "a bridge" in why(inventory, "0000:04:00.0")


def test_a_vgpus_function_on_its_own_driver_is_offered_to_who_names_the_driver() -> None:
    vgpu = replace(GPU, driver="nvidia", vfio_device="vfio3")
    selection = Selection((PciSelector("here", "nvidia.com/vgpu", driver="nvidia"),))
    assert offered(select(vgpu, selection=selection)) == {"nvidia.com/vgpu": ["0000:04:00.0"]}


def test_one_id_of_a_group_is_offered_unless_all_are_asked_for() -> None:
    selection = Selection(
        (
            PciSelector("gpu", "a.com/gpu", device_id=0x1F08),
            PciSelector("audio", "a.com/audio", device_id=0x10F9),
        )
    )
    inventory = select(GPU, AUDIO, selection=selection)
    assert offered(inventory) == {"a.com/gpu": ["0000:04:00.0"]}
    assert why(inventory, "0000:04:00.1") == (
        "IOMMU group 4 is offered as 0000:04:00.0 (a.com/gpu), and this function comes along with "
        "it"
    )
    every = replace(selection, ids_per_group="all")
    assert offered(select(GPU, AUDIO, selection=every)) == {
        "a.com/audio": ["0000:04:00.1"],
        "a.com/gpu": ["0000:04:00.0"],
    }


def test_the_first_of_two_selectors_that_match_counts_and_the_other_is_named() -> None:
    selection = Selection(
        (
            PciSelector("one", "a.com/x", vendor_id=0x10DE),
            PciSelector("two", "a.com/y", numa_node=0),
        )
    )
    inventory = select(replace(GPU, numa_node=0), selection=selection)
    assert offered(inventory) == {"a.com/x": ["0000:04:00.0"]}
    assert inventory.warnings == (
        "0000:04:00.0 is matched by one and by two; the first one counts",
    )


def test_what_is_virt_handlers_is_left_alone() -> None:
    selection = Selection((PciSelector("theirs", "a.com/x", vendor_id=0x10DE, external=False),))
    inventory = select(GPU, selection=selection)
    assert not inventory.resources
    assert "virt-handler offers it" in why(inventory, "0000:04:00.0")
    assert not inventory.unoffered[0].selected


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({"vendor_id": 0x10DE, "device_id": 0x1F08}, True),
        ({"vendor_id": 0x10DE, "device_id": 0x1F09}, False),
        ({"address": PciAddress.parse("0000:04:00.0")}, True),
        ({"address": PciAddress.parse("0000:04:00.1")}, False),
        ({"class_digits": "03"}, True),
        ({"class_digits": "0300"}, True),
        ({"class_digits": "0302"}, False),
        ({"driver": "vfio-pci"}, True),
        ({"driver": "mlx5_vfio_pci"}, False),
        ({"numa_node": 1}, True),
        ({"numa_node": 0}, False),
        ({"numa_node": 1, "driver": "x"}, False),
    ],
)
def test_all_that_a_selector_says_must_be_so(selector: dict[str, object], matches: bool) -> None:
    wanted = PciSelector("here", "a.com/x", **selector)  # type: ignore[arg-type]
    assert wanted.matches(replace(GPU, numa_node=1)) is matches


def test_a_function_that_lost_its_driver_stays_until_it_gets_another() -> None:
    before = select(GPU)
    unbound = replace(GPU, driver="")
    still = select(unbound, previous=before)
    assert offered(still) == {RESOURCE: ["0000:04:00.0"]}
    assert offered(select(unbound, previous=still)) == {RESOURCE: ["0000:04:00.0"]}
    assert offered(select(replace(GPU, driver="nvidia"), previous=still)) == {}


def test_the_function_that_stands_for_a_group_is_no_other_one_while_a_vm_may_have_it() -> None:
    other = function("0000:05:00.0")  # of the same group
    before = select(replace(GPU, driver=""), other)
    assert offered(before) == {RESOURCE: ["0000:05:00.0"]}
    after = select(GPU, other, function("0000:03:00.0", 3), previous=before)
    assert offered(after) == {RESOURCE: ["0000:03:00.0", "0000:05:00.0"]}
    assert "IOMMU group 4 is offered as 0000:05:00.0" in why(after, "0000:04:00.0")
    gone = select(GPU, replace(other, driver="nvidia"), previous=after)
    assert offered(gone) == {RESOURCE: ["0000:04:00.0"]}


def test_mediated_devices_are_offered_by_their_types_name() -> None:
    mdev = MediatedDevice(UUID, "GRID T4-1Q", 70, GPU.address)
    assert offered(select(mediated=((mdev, GPU),))) == {"nvidia.com/GRID_T4-1Q": [UUID]}
    selection = Selection(mdev=(MdevSelector("here", "a.com/vgpu", "GRID_T4-1Q"),))
    assert offered(select(mediated=((mdev, None),), selection=selection)) == {"a.com/vgpu": [UUID]}
    other = replace(mdev, type_name="GRID T4-2Q")
    assert why(select(mediated=((other, None),), selection=selection), UUID) == (
        "no selector matches it"
    )
    assert "has not registered it" in why(
        select(mediated=((replace(mdev, iommu_group=None), GPU),)), UUID
    )
    assert "its type has no name" in why(
        select(mediated=((replace(mdev, type_name=None), GPU),)), UUID
    )


def test_the_order_is_that_of_the_addresses_whatever_the_order_of_the_resources() -> None:
    functions = [function(f"0000:{bus:02x}:00.0", bus) for bus in (1, 2, 3)]
    inventory = select(*functions)
    assert offered(inventory)[RESOURCE] == [str(f.address) for f in functions]
