"""What vfio makes of a function: bound, a bridge, a member that leaves its group viable."""

from dataclasses import replace

import pytest

from launcher_hook.model import HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.vfio import (
    is_bound_to_vfio,
    is_bridge,
    is_vfio_driver,
    keeps_group_viable,
)

GPU = PciAddress.parse("0000:81:00.0")
PORT = PciAddress.parse("0000:80:01.0")


@pytest.mark.parametrize(
    ("name", "is_vfio"),
    [
        ("vfio-pci", True),
        ("mlx5_vfio_pci", True),
        ("hisi_acc_vfio_pci", True),
        ("nvgrace_gpu_vfio_pci", True),
        ("virtio_vfio_pci", True),
        ("pds_vfio_pci", True),
        ("qat_vfio_pci", True),
        ("ism_vfio_pci", True),
        ("xe-vfio-pci", True),
        ("nvidia", False),
        ("vfio", False),
        ("vfio-pci-core", False),
        ("novfio-pci", False),
        ("pci-stub", False),
        ("", False),
        (None, False),
    ],
)
def test_vfio_drivers_are_known_by_their_names(name: str | None, is_vfio: bool) -> None:
    assert is_vfio_driver(name) is is_vfio


def test_a_vgpu_function_that_stays_with_nvidia_is_bound_to_vfio() -> None:
    vf = HostFunction(GPU, driver="nvidia", vfio_device="vfio3")
    assert is_bound_to_vfio(vf)
    assert not is_bound_to_vfio(replace(vf, vfio_device=None))


@pytest.mark.parametrize(
    ("class_code", "bridge_of_pci"),
    [
        (0x060400, True),
        (0x060401, True),
        (0x060700, True),
        (0x060940, True),
        (0x060000, False),
        (0x060100, False),
        (0x030000, False),
        (0x000604, False),
        (None, False),
    ],
    ids=[
        "PCI bridge",
        "subtractive",
        "CardBus",
        "semi-transparent",
        "host",
        "ISA",
        "VGA",
        "old device",
        "not known",
    ],
)
def test_bridges_are_those_with_a_bridge_header(
    class_code: int | None, bridge_of_pci: bool
) -> None:
    assert is_bridge(HostFunction(GPU, class_code=class_code)) is bridge_of_pci


@pytest.mark.parametrize(
    ("function", "viable"),
    [
        (HostFunction(GPU, driver="vfio-pci"), True),
        (HostFunction(GPU, driver="nvidia", vfio_device="vfio3"), True),
        (HostFunction(GPU, driver=""), True),
        (HostFunction(GPU, driver="pci-stub"), True),
        (HostFunction(PORT, driver="pcieport"), True),
        (HostFunction(PORT, class_code=0x060400, driver="shpchp"), True),
        (HostFunction(GPU, driver="nvidia"), False),
        (HostFunction(PORT, class_code=0x060000, driver="k10temp"), False),
        (HostFunction(GPU), None),
    ],
    ids=[
        "vfio",
        "vfio by nvidia",
        "unbound",
        "pci-stub",
        "root port",
        "bridge",
        "nvidia",
        "host bridge with a driver",
        "not known",
    ],
)
def test_a_group_is_viable_with_members_that_leave_dma_to_the_guest(
    function: HostFunction, viable: bool | None
) -> None:
    assert keeps_group_viable(function) is viable
