"""Allocate and health: pure functions of what was offered and what is so now."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from launcher_hook.deviceplugin.allocation import ContainerDevices, Present, allocate
from launcher_hook.deviceplugin.devices import Device
from launcher_hook.deviceplugin.health import find_trouble
from launcher_hook.errors import HookError
from launcher_hook.model import HostFunction
from launcher_hook.pci import PciAddress

RESOURCE = "nvidia.com/GH100"
UUIDS = ("4b20d080-1b54-4048-85b3-a6a62d165c01", "5b20d080-1b54-4048-85b3-a6a62d165c01")


def function(bdf: str, group: int, **facts: object) -> HostFunction:
    known = HostFunction(
        PciAddress.parse(bdf), vendor_id=0x10DE, device_id=0x2330, class_code=0x030200,
        iommu_group=group, driver="vfio-pci",
    )  # fmt: skip
    return replace(known, **facts)  # type: ignore[arg-type]


def device(of: HostFunction, **values: object) -> Device:
    offered = Device(of.address, RESOURCE, of.iommu_group or 0, of, (of.address,))
    return replace(offered, **values)  # type: ignore[arg-type]


GPUS = [function(f"0000:{bus:02x}:00.0", bus) for bus in (0x04, 0x86, 0xAF)]
AUDIO = function("0000:04:00.1", 4, class_code=0x040300)
OFFERED = {str(gpu.address): device(gpu) for gpu in GPUS}
NODES = {"vfio/vfio", "vfio/4", "vfio/134", "vfio/175"}


def as_offered(offered: Device) -> Present:
    assert offered.function is not None
    return Present(True, offered.iommu_group, offered.function, (offered.function,), None)


def give(
    *requests: list[str],
    present: Callable[[Device], Present] = as_offered,
    nodes: set[str] = NODES,
    offered: Mapping[str, Device] = OFFERED,
) -> tuple[ContainerDevices, ...]:
    return allocate(requests, RESOURCE, offered, present, nodes.__contains__)


def test_each_container_gets_only_what_it_asked_for_in_address_order() -> None:
    first, second = give(["0000:af:00.0", "0000:04:00.0"], ["0000:86:00.0"])
    assert first.variables == {"PCI_RESOURCE_NVIDIA_COM_GH100": "0000:04:00.0,0000:af:00.0"}
    assert first.nodes == ("vfio/vfio", "vfio/4", "vfio/175")
    assert second.variables == {"PCI_RESOURCE_NVIDIA_COM_GH100": "0000:86:00.0"}
    assert second.nodes == ("vfio/vfio", "vfio/134")


def test_addresses_are_sorted_as_numbers_and_not_as_text() -> None:
    bdfs = ["10000:01:00.0", "0000:ff:00.0", "0000:0a:00.0"]
    offered = {bdf: device(function(bdf, 4)) for bdf in bdfs}
    (container,) = give(bdfs, offered=offered)
    assert container.variables["PCI_RESOURCE_NVIDIA_COM_GH100"] == ",".join(reversed(bdfs))


def test_a_groups_node_comes_once_for_two_ids_of_it() -> None:
    offered = {str(f.address): device(f) for f in (GPUS[0], AUDIO)}
    (container,) = give(list(offered), offered=offered)
    assert container.nodes == ("vfio/vfio", "vfio/4")


def test_iommufd_comes_with_the_cdevs_that_are_there_of_the_whole_group() -> None:
    gpu, audio = replace(GPUS[0], vfio_device="vfio0"), replace(AUDIO, vfio_device="vfio1")
    now = Present(True, 4, gpu, (gpu, audio), None)
    nodes = NODES | {"iommu", "vfio/devices", "vfio/devices/vfio0", "vfio/devices/vfio1"}
    (container,) = give(["0000:04:00.0"], present=lambda _: now, nodes=nodes)
    assert container.nodes == (
        "vfio/vfio", "vfio/4", "iommu", "vfio/devices/vfio0", "vfio/devices/vfio1",
    )  # fmt: skip
    without = nodes - {"vfio/devices", "vfio/devices/vfio0", "vfio/devices/vfio1"}
    (container,) = give(["0000:04:00.0"], present=lambda _: now, nodes=without)
    assert container.nodes == ("vfio/vfio", "vfio/4")


def test_iommufd_comes_with_the_cdevs_of_every_device() -> None:
    gpus = {gpu.address: replace(gpu, vfio_device=f"vfio{n}") for n, gpu in enumerate(GPUS)}

    def present(offered: Device) -> Present:
        assert isinstance(offered.source, PciAddress)
        return Present(
            True, offered.iommu_group, gpus[offered.source], (gpus[offered.source],), None
        )

    cdevs = {f"vfio/devices/vfio{n}" for n in range(3)}
    nodes = NODES | {"iommu", "vfio/devices"} | cdevs
    (container,) = give(["0000:04:00.0", "0000:86:00.0"], present=present, nodes=nodes)
    assert container.nodes == (
        "vfio/vfio", "vfio/4", "vfio/134", "iommu", "vfio/devices/vfio0", "vfio/devices/vfio1",
    )  # fmt: skip


def test_mediated_devices_have_their_own_variable() -> None:
    offered = {u: Device(u, RESOURCE, 70 + i, None) for i, u in enumerate(UUIDS)}
    (container,) = give(
        list(reversed(UUIDS)),
        offered=offered,
        present=lambda d: Present(True, d.iommu_group, None, (), None),
        nodes={"vfio/vfio", "vfio/70", "vfio/71"},
    )
    assert container.variables == {"MDEV_PCI_RESOURCE_NVIDIA_COM_GH100": ",".join(UUIDS)}
    assert container.nodes == ("vfio/vfio", "vfio/70", "vfio/71")


def test_a_resource_of_both_kinds_fills_both_variables() -> None:
    offered = {**OFFERED, UUIDS[0]: Device(UUIDS[0], RESOURCE, 4, None)}
    (container,) = give(
        [UUIDS[0], "0000:04:00.0"],
        offered=offered,
        present=lambda d: as_offered(d) if d.function else Present(True, 4, None, (), None),
    )
    assert container.variables == {
        "PCI_RESOURCE_NVIDIA_COM_GH100": "0000:04:00.0",
        "MDEV_PCI_RESOURCE_NVIDIA_COM_GH100": UUIDS[0],
    }


def test_nothing_asked_for_is_nothing_given() -> None:
    assert give() == ()
    assert give([]) == (ContainerDevices({}, ()),)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["0000:04:00.0", "0000:99:00.0"], "'0000:99:00.0' is not offered; wait until kubelet"),
        (["0000:04:00.0", ""], "'' is not offered"),
        (["0000:04:00.0", "0000:04:00.0"], "'0000:04:00.0' is asked for twice; ask once$"),
    ],
)
def test_an_id_that_cannot_be_given_fails_the_whole_call(ids: list[str], message: str) -> None:
    message = f"^Allocate of nvidia.com/GH100: {message}"
    with pytest.raises(HookError, match=message):
        give(ids)
    with pytest.raises(HookError, match=message):
        give(*([device_id] for device_id in ids))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vendor_id": 0x8086}, "its vendor was 10de and is 8086 now"),
        ({"vendor_id": None}, "its vendor was 10de and is not readable now"),
        ({"device_id": 0x2331}, "its device id was 2330 and is 2331 now"),
        ({"driver": "nvidia"}, "its driver was 'vfio-pci' and is 'nvidia' now"),
        ({"driver": ""}, "its driver was 'vfio-pci' and is '' now"),
        ({"iommu_group": 9}, "it was in IOMMU group 4 and is in 9 now"),
        ({"iommu_group": None}, "it was in IOMMU group 4 and is in None now"),
    ],
)
def test_a_device_that_changed_since_it_was_offered_is_not_given(
    change: dict[str, object], message: str
) -> None:
    now = replace(GPUS[0], **change)  # type: ignore[arg-type]
    message = rf"0000:04:00.0 \(nvidia.com/GH100\): {message}; wait until kubelet has the new list"
    with pytest.raises(HookError, match=message):
        give(["0000:04:00.0"], present=lambda _: Present(True, now.iommu_group, now, (now,), None))


def test_a_device_that_has_gone_is_not_given() -> None:
    message = r"^0000:04:00.0 \(nvidia.com/GH100\): the node does not have it any more; wait until"
    with pytest.raises(HookError, match=message):
        give(["0000:04:00.0"], present=lambda _: Present(False, None, None, (), None))


@pytest.mark.parametrize(
    ("function_now", "members", "nodes", "answers", "trouble"),
    [
        ({}, [AUDIO], NODES, None, None),
        ({}, [AUDIO], NODES, True, None),
        ({}, [AUDIO], NODES, False, "it does not answer: its configuration space reads all ones"),
        ({"driver": "nvidia"}, [], NODES, None, "bound to 'nvidia' now; bind it to vfio-pci again"),
        ({"driver": ""}, [], NODES, None, "bound to no driver now"),
        ({}, [replace(AUDIO, driver="snd_hda_intel")], NODES, None,
         "IOMMU group 4 is not viable: 0000:04:00.1 is bound to 'snd_hda_intel'"),
        ({}, [replace(AUDIO, driver="")], NODES, None, None),
        ({}, [replace(AUDIO, driver=None)], NODES, None, None),
        ({}, [replace(AUDIO, driver="pcieport", class_code=0x060400)], NODES, None, None),
        ({}, [], {"vfio/vfio"}, None, "there is no /dev/vfio/4; load vfio-pci"),
        ({"vfio_device": "vfio0"}, [], NODES, None, None),
        ({"vfio_device": "vfio0"}, [], NODES | {"vfio/devices"}, None,
         "there is no /dev/vfio/devices/vfio0"),
        ({"vfio_device": "vfio0"}, [], NODES | {"vfio/devices", "vfio/devices/vfio0"}, None, None),
    ],
)  # fmt: skip
def test_health_is_what_matters_to_a_vm_that_opens_the_device(
    function_now: dict[str, object],
    members: list[HostFunction],
    nodes: set[str],
    answers: bool | None,
    trouble: str | None,
) -> None:
    now = replace(GPUS[0], **function_now)  # type: ignore[arg-type]
    found = find_trouble(device(GPUS[0]), now, [now, *members], nodes.__contains__, answers)
    assert found == trouble or (trouble is not None and str(found).startswith(trouble))


def test_an_unhealthy_device_is_not_given() -> None:
    with pytest.raises(HookError, match="0000:86:00.0 .*: there is no /dev/vfio/134; load"):
        give(["0000:04:00.0", "0000:86:00.0"], nodes={"vfio/vfio", "vfio/4"})
    silent = Present(True, 4, GPUS[0], (GPUS[0],), answers=False)
    with pytest.raises(HookError, match="it does not answer: .*; reset or replace it"):
        give(["0000:04:00.0"], present=lambda _: silent)
    gpu = replace(GPUS[0], vfio_device="vfio0")
    with pytest.raises(HookError, match="vfio/devices/vfio0; bind the function to vfio-pci again$"):
        give(
            ["0000:04:00.0"],
            present=lambda _: Present(True, 4, gpu, (gpu,), None),
            nodes=NODES | {"vfio/devices"},
        )
