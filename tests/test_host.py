"""What is put together of a node's functions: groups, the facts of a decision, mediated devices."""

import shutil
from pathlib import Path

import pytest
from fileaudit import watched
from hosttree import (
    HostDevice,
    add_mdev,
    add_node_cpus,
    build_host_tree,
    device_directory,
    gpu_behind_port,
    many_devices,
    quick_directory,
    remove_mdev,
)

from launcher_hook.model import HostFacts, HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.sysfs import HostTree

GPU = PciAddress.parse("0000:81:00.0")
AUDIO = GPU.with_function(1)
PORT = PciAddress.parse("0000:80:01.0")
UUID = "c0b26072-dd1b-4340-84fe-bf338c510818"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return gpu_behind_port(tmp_path / "sys")


# Groups


def test_a_group_has_all_its_functions_in_order(root: Path) -> None:
    build_host_tree(root, [HostDevice("0000:03:00.0", group=42)])
    members = HostTree(root).group_members(42)
    assert [str(member.address) for member in members] == [
        "0000:03:00.0",
        "0000:81:00.0",
        "0000:81:00.1",
        "0000:81:00.2",
        "0000:81:00.3",
    ]


def test_a_group_that_is_not_there_is_empty(root: Path) -> None:
    assert HostTree(root).group_members(4711) == ()


def test_without_lists_of_groups_the_functions_say_which_group_they_are_in(root: Path) -> None:
    listed = HostTree(root).group_members(42)
    shutil.rmtree(root / "kernel")
    assert HostTree(root).group_members(42) == listed


def test_group_members_that_are_no_pci_functions_are_left_out(root: Path) -> None:
    add_mdev(root, UUID, "0000:81:00.0", group=42)
    assert {m.address.slot_key for m in HostTree(root).group_members(42)} == {GPU.slot_key}


def test_a_member_that_only_its_group_knows_is_not_dropped(root: Path) -> None:
    """A copy with the groups and not every function: "all members are bound to vfio" is not so."""
    (root / "bus/pci/devices/0000:81:00.1").unlink()
    assert HostFunction(AUDIO, iommu_group=42) in HostTree(root).group_members(42)


def test_a_member_that_does_not_know_its_group_is_told(root: Path) -> None:
    (device_directory(root, "0000:81:00.1") / "iommu_group").unlink()
    assert {m.iommu_group for m in HostTree(root).group_members(42)} == {42}


# What a decision needs


def test_facts_have_the_assigned_functions_their_slots_and_their_groups(root: Path) -> None:
    build_host_tree(
        root,
        [
            HostDevice("0000:81:00.7", group=43),
            HostDevice("0000:03:00.0", group=42),
            HostDevice("0000:04:00.0", group=43),
        ],
    )
    facts = HostTree(root).facts([AUDIO, PciAddress.parse("0000:99:00.0")])
    assert facts.known
    assert [str(address) for address in facts.functions] == [
        "0000:03:00.0",
        "0000:81:00.0",
        "0000:81:00.1",
        "0000:81:00.2",
        "0000:81:00.3",
        "0000:81:00.7",
    ]
    assert facts.functions[GPU] == HostTree(root).function(GPU)


def test_facts_say_of_each_mediated_device_whether_it_exists(root: Path) -> None:
    other = "11111111-1111-1111-1111-111111111111"
    assert HostTree(root).facts([UUID]).mediated_devices == {}
    add_mdev(root, UUID, "0000:81:00.0")
    assert HostTree(root).facts([UUID, other]).mediated_devices == {UUID: True, other: False}


def test_facts_say_where_devices_are_when_it_is_asked(root: Path) -> None:
    add_mdev(root, UUID, "0000:81:00.0")
    add_node_cpus(root, 1, "8-11")
    tree = HostTree(root)
    facts = tree.facts([UUID], placing=True)
    assert facts.mediated_parents == {UUID: GPU}
    assert facts.functions[GPU].bridges == (PORT,)
    assert facts.node_cpus == {1: frozenset(range(8, 12))}
    assert tree.facts([UUID]) == HostFacts(known=True, mediated_devices={UUID: True})


@pytest.mark.parametrize("content", ["", "8-\n", "x\n", "11-8\n", "0-99999\n"])
def test_a_list_of_cpus_that_linux_would_not_write_is_not_known(content: str, root: Path) -> None:
    add_node_cpus(root, 1, "0")
    (root / "devices/system/node/node1/cpulist").write_text(content)
    assert HostTree(root).node_cpus(1) is None
    assert HostTree(root).node_cpus(0) is None


# Mediated devices


def test_a_mediated_device_exists_or_not_or_nothing_is_known_of_any(root: Path) -> None:
    tree = HostTree(root)
    assert tree.mdev_exists(UUID) is None
    add_mdev(root, UUID, "0000:81:00.0")
    assert tree.mdev_exists(UUID) is True
    assert tree.mdev_exists(UUID.upper()) is True
    remove_mdev(root, UUID)
    assert tree.mdev_exists(UUID) is False


@pytest.mark.parametrize("uuid", ["", ".", "..", "../../pci", "a\0b", "0000:81:00.0"])
def test_what_is_no_uuid_is_no_mediated_device(uuid: str, root: Path) -> None:
    add_mdev(root, UUID, "0000:81:00.0")
    assert HostTree(root).mdev_exists(uuid) is False


def test_a_mediated_device_is_a_part_of_its_parent_function(root: Path) -> None:
    add_mdev(root, UUID, "0000:81:00.0")
    assert HostTree(root).mdev_parent(UUID) == HostTree(root).function(GPU)
    remove_mdev(root, UUID)
    assert HostTree(root).mdev_parent(UUID) is None


# Cost


def test_a_large_node_is_read_function_by_function() -> None:
    """With 4,096 functions, what 16 of them need takes no longer than on a small node."""
    with quick_directory() as directory:
        small = HostTree(build_host_tree(directory / "small", many_devices(16)))
        large = HostTree(build_host_tree(directory / "large", many_devices(4096)))
        assigned = [PciAddress(0, 0, slot, 0) for slot in range(16)]
        assert len(large.addresses()) == 4096
        assert len(large.facts(assigned).functions) == 16
        assert opened_by(large, assigned) == opened_by(small, assigned)


def opened_by(tree: HostTree, addresses: list[PciAddress]) -> int:
    """How many files and directories facts() opens or lists."""
    events = []
    with watched(lambda event, _: events.append(event)):
        tree.facts(addresses)
    return len(events)
