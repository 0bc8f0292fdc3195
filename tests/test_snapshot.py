"""A snapshot answers as the node did; a damaged one says where."""

import json
from pathlib import Path

import pytest
from hosttree import (
    add_mdev,
    add_node_cpus,
    bridge,
    build_host_tree,
    gpu,
    many_devices,
    rebind,
    write_attribute,
)
from kubelet import make_nodes

from launcher_hook.devnodes import NodeTree
from launcher_hook.errors import InputError
from launcher_hook.pci import PciAddress
from launcher_hook.snapshot import (
    HostSnapshot,
    open_host,
    open_nodes,
    parse_snapshot,
    print_snapshot,
)
from launcher_hook.sysfs import HostTree

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
GPU = PciAddress.parse("0000:81:00.0")
BARS = (1 << 24, 0, 1 << 35, 0, 1 << 25)


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    root = build_host_tree(
        tmp_path / "sys",
        [
            bridge("0000:80:01.0", group=40),
            *gpu("0000:81:00.0", group=42, numa=1, parent="0000:80:01.0", bars=BARS),
            *many_devices(3),
        ],
    )
    rebind(root, "0000:81:00.3", "")
    write_attribute(root, "0000:00:01.0", "vendor", "")
    write_attribute(root, "0000:81:00.0", "config", b"\xff" * 64)
    write_attribute(root, "0000:81:00.1", "config", b"\x00" * 64)
    add_mdev(root, UUID, "0000:81:00.0", group=70, type_name="GRID T4-1Q")
    add_node_cpus(root, 1, "16-31,48")
    return HostTree(root)


@pytest.fixture
def snapshot(tree: HostTree, tmp_path: Path) -> HostSnapshot:
    nodes = NodeTree(make_nodes(tmp_path / "dev", [42], ["vfio0"]))
    return parse_snapshot(print_snapshot(tree, nodes), "s")


def test_it_answers_as_the_node_did(tree: HostTree, snapshot: HostSnapshot) -> None:
    assert snapshot.known
    assert snapshot.addresses() == tree.addresses()
    for address in (*tree.addresses(), PciAddress.parse("0000:ff:00.0")):
        assert snapshot.function(address) == tree.function(address)
        assert snapshot.answers(address) == tree.answers(address)
        assert snapshot.bars64(address) == tree.bars64(address)
    for group in (40, 42, 0, 99):
        assert snapshot.group_members(group) == tree.group_members(group)
    for vendors in (None, {0x10DE}, {0x8086}, {0x1234}):
        assert snapshot.functions(vendors) == tree.functions(vendors)
    assert snapshot.facts([GPU, UUID]) == tree.facts([GPU, UUID])


def test_it_has_the_bars_of_every_function_that_shows_them(snapshot: HostSnapshot) -> None:
    assert snapshot.bars64(GPU) == (1 << 24, 1 << 35, 1 << 25)
    assert snapshot.bars64(PciAddress.parse("0000:80:01.0")) == ()


def test_bars_that_no_function_can_have_are_left_out(tree: HostTree) -> None:
    assert tree.root is not None
    write_attribute(tree.root, "0000:81:00.0", "resource", "0x0 0x0\n")
    again = parse_snapshot(print_snapshot(tree, NodeTree(Path("/nonexistent"))), "s")
    assert again.bars64(GPU) is None
    assert again.bars64(GPU.with_function(1)) is not None


def test_a_snapshot_of_an_earlier_version_knows_no_bars(tree: HostTree) -> None:
    document = json.loads(print_snapshot(tree, NodeTree(Path("/nonexistent"))))
    for function in document["functions"]:
        del function["bars64"]
    assert parse_snapshot(json.dumps(document).encode(), "s").bars64(GPU) is None


def test_it_has_the_mediated_devices(tree: HostTree, snapshot: HostSnapshot) -> None:
    assert snapshot.mdev_uuids() == tree.mdev_uuids() == (UUID,)
    assert snapshot.mediated_device(UUID) == tree.mediated_device(UUID)
    assert snapshot.mediated_device(UUID.upper()) == tree.mediated_device(UUID)
    assert snapshot.mdev_parent(UUID) == tree.mdev_parent(UUID) == tree.function(GPU)
    assert (snapshot.mdev_exists(UUID), snapshot.mdev_exists("x")) == (True, False)


def test_it_has_the_cpus_of_the_numa_nodes(tree: HostTree, snapshot: HostSnapshot) -> None:
    assert snapshot.node_cpus(1) == tree.node_cpus(1) == {*range(16, 32), 48}
    assert snapshot.node_cpus(0) is None
    sources = (GPU, UUID)
    assert snapshot.facts(sources, placing=True) == tree.facts(sources, placing=True)


def test_a_snapshot_of_an_earlier_version_knows_no_cpus(tree: HostTree) -> None:
    document = json.loads(print_snapshot(tree, NodeTree(Path("/none"))))
    del document["nodeCpus"]
    assert parse_snapshot(json.dumps(document).encode(), "s").node_cpus(1) is None


def test_a_node_without_mediated_devices_is_not_one_with_none(tmp_path: Path) -> None:
    bare = HostTree(build_host_tree(tmp_path / "sys", many_devices(1)))
    snapshot = parse_snapshot(print_snapshot(bare, NodeTree(tmp_path)), "s")
    assert bare.mdev_uuids() is None
    assert snapshot.mdev_uuids() is None
    assert snapshot.mdev_exists(UUID) is bare.mdev_exists(UUID) is None
    assert HostTree(None).mdev_uuids() is None


def test_its_device_nodes_stand_for_the_nodes_unless_others_are_given(
    snapshot: HostSnapshot, tmp_path: Path
) -> None:
    expected = {"iommu", "vfio", "vfio/vfio", "vfio/42", "vfio/devices", "vfio/devices/vfio0"}
    assert open_nodes(snapshot, None).all() == expected
    assert open_nodes(snapshot, None).exists("vfio/42")
    assert not open_nodes(snapshot, None).exists("vfio/43")
    assert open_nodes(snapshot, tmp_path / "none").all() == set()
    assert open_nodes(HostTree(None), tmp_path / "dev").all() == expected


def test_a_path_says_by_itself_what_it_is(tree: HostTree, tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    file.write_bytes(print_snapshot(tree, NodeTree(tmp_path)))
    assert open_host(file).addresses() == tree.addresses()
    assert open_host(tree.root) == tree
    assert open_host(None) == HostTree(None)
    assert not open_host(tmp_path / "nothing").known


def test_functions_that_share_a_group_with_a_vendors_come_along(tmp_path: Path) -> None:
    devices = list(many_devices(8))
    root = build_host_tree(tmp_path / "sys", [*devices, *gpu("0000:81:00.0", group=3)])
    write_attribute(root, devices[3].bdf, "vendor", "0x8086\n")
    for number in (0, 1, 2, 4, 5, 6, 7):
        write_attribute(root, devices[number].bdf, "vendor", "0x1234\n")
    found = [str(f.address) for f in HostTree(root).functions({0x10DE})]
    assert found == [devices[3].bdf, *(f"0000:81:00.{n}" for n in range(4))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"format": "other"}, "s: it is no snapshot of a node; give the root of"),
        (lambda d: d | {"functions": 5}, "s: functions: 5 is no list; take the snapshot again"),
        (lambda d: d | {"functions": [5]}, r"s: functions\[0\]: 5 is no object"),
        (lambda d: d | {"functions": [{}]}, r"functions\[0\]: address: there is none"),
        (lambda d: d | {"functions": [{"address": "x"}]}, "address: 'x' cannot be read"),
        (lambda d: d | {"functions": [{"address": "0000:01:00.0", "iommuGroup": True}]},
         "iommuGroup: True is not a number and not null"),
        (lambda d: d | {"functions": [{"address": "0000:01:00.0", "vendor": "0xzz"}]},
         "vendor: '0xzz' cannot be read"),
        (lambda d: d | {"functions": [{"address": "0000:01:00.0", "bridges": [1]}]},
         "bridges: 1 cannot be read"),
        (lambda d: d | {"mediatedDevices": [{"uuid": "X"}]}, "uuid: 'X' is no lower-case UUID"),
        (lambda d: d | {"deviceNodes": None}, "deviceNodes: None is no list"),
        (lambda d: d | {"nodeCpus": {"0": "3-1"}}, "nodeCpus: {'0': '3-1'} cannot be read"),
        (lambda d: d | {"nodeCpus": [1]}, r"nodeCpus: \[1\] cannot be read"),
    ],
)  # fmt: skip
def test_a_damaged_snapshot_is_refused_with_the_place(
    snapshot: HostSnapshot, tree: HostTree, tmp_path: Path, change: object, message: str
) -> None:
    document = json.loads(print_snapshot(tree, NodeTree(tmp_path)))
    with pytest.raises(InputError, match=message):
        parse_snapshot(json.dumps(change(document)).encode(), "s")  # type: ignore[operator]


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{", b"[" * 100_000, b"null"])
def test_what_is_no_snapshot_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="it is no snapshot of a node"):
        parse_snapshot(data, "s")
