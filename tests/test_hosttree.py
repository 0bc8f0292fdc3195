"""The trees that tests build have the kernel's layout, and change as the kernel changes its own."""

import os
import shutil
from pathlib import Path

import pytest
from hosttree import (
    HostDevice,
    add_mdev,
    bridge,
    build_host_tree,
    device_directory,
    gpu,
    many_devices,
    rebind,
    remove,
)

UUID = "c0b26072-dd1b-4340-84fe-bf338c510818"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_host_tree(
        tmp_path / "sys",
        [
            *gpu("0000:81:00.0", group=42, numa=1, parent="0000:80:01.0"),
            bridge("0000:80:01.0", group=40),
        ],
    )


def links(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink())
        for path in root.rglob("*")
        if path.is_symlink()
    }


def test_a_tree_has_the_kernels_layout(root: Path) -> None:
    below = root / "devices/pci0000:80/0000:80:01.0/0000:81:00.0"
    assert device_directory(root, "0000:81:00.0") == below
    assert {
        name: (below / name).read_text() for name in ("vendor", "device", "class", "numa_node")
    } == {"vendor": "0x10de\n", "device": "0x1f08\n", "class": "0x030000\n", "numa_node": "1\n"}
    port, function = "devices/pci0000:80/0000:80:01.0", "0000:81:00.0"
    assert links(root).items() >= {
        (f"bus/pci/devices/{function}", f"../../../{port}/{function}"),
        (f"bus/pci/drivers/vfio-pci/{function}", f"../../../../{port}/{function}"),
        (f"kernel/iommu_groups/42/devices/{function}", f"../../../../{port}/{function}"),
        (f"{port}/{function}/driver", "../../../../bus/pci/drivers/vfio-pci"),
        (f"{port}/{function}/iommu_group", "../../../../kernel/iommu_groups/42"),
        (f"{port}/driver", "../../../bus/pci/drivers/pcieport"),
    }


def test_no_link_dangles_wherever_the_tree_is_moved(root: Path, tmp_path: Path) -> None:
    shutil.move(root, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert links(moved)
    assert all((moved / link).exists() for link in links(moved))


def test_a_relative_root_gives_the_same_tree(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    again = build_host_tree(
        Path("../here/./sys"),
        [
            bridge("0000:80:01.0", group=40),
            *gpu("0000:81:00.0", group=42, numa=1, parent="0000:80:01.0"),
        ],
    )
    assert links(again) == links(root)


def test_a_virtual_function_and_its_physical_one_name_each_other(tmp_path: Path) -> None:
    root = build_host_tree(
        tmp_path,
        [HostDevice(f"0000:3b:00.{vf}", physfn="0000:3b:00.0") for vf in (4, 5)]
        + [HostDevice("0000:3b:00.0")],
    )
    pf = device_directory(root, "0000:3b:00.0")
    assert os.path.realpath(pf / "virtfn1") == str(device_directory(root, "0000:3b:00.5"))
    assert os.path.realpath(pf / "virtfn1/physfn") == str(pf)


def test_resource_has_a_line_for_each_bar_the_rom_and_the_windows(tmp_path: Path) -> None:
    root = build_host_tree(tmp_path, [HostDevice("0000:81:00.0", bars=(16 << 20, 0, 80 << 30))])
    lines = (device_directory(root, "0000:81:00.0") / "resource").read_text().splitlines()
    ranges = [[int(number, 16) for number in line.split()[:2]] for line in lines]
    assert len(ranges) == 13
    assert [end - start + 1 if end else 0 for start, end in ranges[:4]] == [
        16 << 20,
        0,
        80 << 30,
        0,
    ]


def test_rebinding_leaves_the_old_driver_and_joins_the_new_one(root: Path) -> None:
    rebind(root, "0000:81:00.0", "nouveau")
    assert (device_directory(root, "0000:81:00.0") / "driver").readlink().name == "nouveau"
    assert not (root / "bus/pci/drivers/vfio-pci/0000:81:00.0").is_symlink()
    assert (root / "bus/pci/drivers/nouveau/0000:81:00.0").exists()
    rebind(root, "0000:81:00.0", "")
    assert not (device_directory(root, "0000:81:00.0") / "driver").is_symlink()


def test_with_a_bridge_everything_below_it_goes_and_leaves_no_trace(root: Path) -> None:
    add_mdev(root, UUID, "0000:81:00.0", group=7)
    remove(root, "0000:80:01.0")
    # Its drivers stay, and they are linked with their modules.
    assert {link for link in links(root) if "0000:8" in link} == set()
    assert not any("0000:8" in target for target in links(root).values())
    assert list((root / "kernel/iommu_groups").iterdir()) == []
    assert list((root / "devices/pci0000:80").iterdir()) == []


def test_a_device_that_went_may_come_back(root: Path) -> None:
    before = links(root)
    remove(root, "0000:81:00.0")
    build_host_tree(root, gpu("0000:81:00.0", group=42, parent="0000:80:01.0")[:1])
    assert links(root) == before


def test_a_parent_that_nobody_declared_is_a_mistake_in_the_test(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0000:80:01\.0 is neither in the tree nor in the list"):
        build_host_tree(tmp_path, gpu("0000:81:00.0", parent="0000:80:01.0"))


def test_many_devices_have_an_address_and_a_group_each() -> None:
    devices = many_devices(16_384)
    assert devices[-1].bdf == "0001:ff:1f.0"
    assert len({device.bdf for device in devices}) == 16_384
    assert {device.numa for device in devices} == {0, 1}
