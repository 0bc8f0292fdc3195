"""Facts about host functions: what a tree says, what it leaves open, and how cheaply it is read."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fileaudit import watched
from hosttree import (
    HostDevice,
    bridge,
    build_host_tree,
    device_directory,
    gpu,
    gpu_behind_port,
    rebind,
    remove,
    vfio_device,
    write_attribute,
)
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.errors import HostError, UnreadableError
from launcher_hook.model import HostFacts, HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.sysfs import HostTree

GPU = PciAddress.parse("0000:81:00.0")
AUDIO = GPU.with_function(1)
PORT = PciAddress.parse("0000:80:01.0")
UUID = "c0b26072-dd1b-4340-84fe-bf338c510818"

FACTS = ("vendor_id", "device_id", "class_code", "iommu_group", "numa_node", "driver")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return gpu_behind_port(tmp_path / "sys")


@pytest.fixture
def gpu_directory(root: Path) -> Path:
    return device_directory(root, "0000:81:00.0")


def read(root: Path, address: PciAddress = GPU) -> HostFunction:
    function = HostTree(root).function(address)
    assert function is not None
    return function


# One function


def test_a_function_is_read_with_all_its_facts(root: Path) -> None:
    assert HostTree(root).function(GPU) == HostFunction(
        GPU,
        vendor_id=0x10DE,
        device_id=0x1F08,
        class_code=0x030000,
        iommu_group=42,
        numa_node=1,
        driver="vfio-pci",
        vfio_device=vfio_device("0000:81:00.0"),
        bridges=(PORT,),
    )


def test_a_function_that_is_not_there_is_none(root: Path) -> None:
    assert HostTree(root).function(PciAddress.parse("0000:99:00.0")) is None


def test_a_function_on_a_root_bus_has_no_parent(root: Path) -> None:
    assert read(root, PORT).parent is None


def test_a_function_behind_vmd_has_its_bridge_as_parent(tmp_path: Path) -> None:
    root = build_host_tree(
        tmp_path, [bridge("10000:00:02.0"), HostDevice("10000:01:00.0", parent="10000:00:02.0")]
    )
    assert read(root, PciAddress.parse("10000:01:00.0")).parent == PciAddress.parse("10000:00:02.0")


def test_a_virtual_function_names_its_physical_one(tmp_path: Path) -> None:
    root = build_host_tree(
        tmp_path, [HostDevice("0000:3b:02.0", physfn="0000:3b:00.0"), HostDevice("0000:3b:00.0")]
    )
    pf, vf = PciAddress.parse("0000:3b:00.0"), PciAddress.parse("0000:3b:02.0")
    assert read(root, vf).physical_function == pf
    assert read(root, pf).physical_function is None


def test_numa_node_minus_one_is_none(tmp_path: Path) -> None:
    assert read(build_host_tree(tmp_path, gpu("0000:81:00.0", numa=-1))).numa_node is None


def test_no_driver_is_an_empty_name(root: Path) -> None:
    rebind(root, "0000:81:00.0", "")
    assert read(root).driver == ""


def test_another_driver_is_seen_by_the_next_read(root: Path) -> None:
    tree = HostTree(root)
    assert tree.function(GPU) == read(root)
    rebind(root, "0000:81:00.0", "nouveau")
    assert tree.function(GPU) == replace(read(root), driver="nouveau")


def test_a_vfio_device_is_named(tmp_path: Path) -> None:
    root = build_host_tree(tmp_path, gpu("0000:81:00.0", vfio_dev="vfio12"))
    assert read(root).vfio_device == "vfio12"


def test_a_copy_of_one_directory_is_read_as_well(root: Path, tmp_path: Path) -> None:
    """The links lead out of the copy: their targets' names are enough."""
    copy = tmp_path / "copy/bus/pci/devices/0000:81:00.0"
    shutil.copytree(device_directory(root, "0000:81:00.0"), copy, symlinks=True)
    assert HostTree(tmp_path / "copy").function(GPU) == replace(read(root), bridges=())


# A tree about which nothing is known


@pytest.mark.parametrize(
    "make",
    [
        lambda _: None,
        lambda path: path / "nowhere",
        lambda path: path,
        lambda path: path / "\0",
    ],
    ids=["no root", "root is not there", "root without bus/pci/devices", "root is no path"],
)
def test_nothing_is_concluded_from_a_tree_that_is_not_there(
    make: Callable[[Path], Path | None], tmp_path: Path
) -> None:
    tree = HostTree(make(tmp_path))
    assert not tree.known
    assert tree.function(GPU) == HostFunction(GPU)
    assert tree.addresses() == ()
    assert tree.group_members(42) == ()
    assert tree.mdev_exists(UUID) is None
    assert tree.mdev_parent(UUID) is None
    assert tree.facts([GPU, UUID]) == HostFacts(known=False)


def test_a_tree_without_functions_is_known(tmp_path: Path) -> None:
    tree = HostTree(build_host_tree(tmp_path))
    assert tree.known
    assert tree.function(GPU) is None


# Broken facts


@pytest.mark.parametrize(
    ("attribute", "fact", "content"),
    [
        pytest.param(attribute, fact, content, id=f"{attribute} {name}")
        for attribute, fact in (
            ("vendor", "vendor_id"),
            ("device", "device_id"),
            ("class", "class_code"),
            ("numa_node", "numa_node"),
        )
        for name, content in (
            ("empty", b""),
            ("blank", b" \n"),
            ("word", b"none\n"),
            ("half a number", b"0x10"),
            ("negative", b"-7\n"),
            ("two numbers", b"0x10de 0x10de\n"),
            ("without end", b"0" * 10_000),
            ("not ASCII", "٣\n".encode()),
            ("binary", b"\xff\x00\xfe"),
        )
    ],
)
def test_a_garbage_attribute_is_not_known_and_spoils_no_other(
    attribute: str, fact: str, content: bytes, root: Path
) -> None:
    sound = read(root)
    write_attribute(root, "0000:81:00.0", attribute, content)
    assert read(root) == replace(sound, **{fact: None})  # type: ignore[arg-type]


def test_an_attribute_that_is_no_file_is_not_known(root: Path, gpu_directory: Path) -> None:
    for attribute in ("vendor", "device", "class", "numa_node"):
        (gpu_directory / attribute).unlink()
    (gpu_directory / "vendor").mkdir()
    os.mkfifo(gpu_directory / "device")
    (gpu_directory / "class").symlink_to("class")
    (gpu_directory / "numa_node").symlink_to("/nowhere/at/all")
    function = read(root)
    assert [getattr(function, fact) for fact in FACTS] == [None, None, None, 42, None, "vfio-pci"]


@pytest.mark.parametrize("target", ["../kernel/iommu_groups/none", "-1", "٣", "4" * 20])
def test_a_group_that_is_no_number_is_not_known(
    target: str, root: Path, gpu_directory: Path
) -> None:
    (gpu_directory / "iommu_group").unlink()
    (gpu_directory / "iommu_group").symlink_to(target)
    assert read(root).iommu_group is None


def test_a_link_with_a_missing_target_still_names_it(root: Path) -> None:
    shutil.rmtree(root / "bus/pci/drivers")
    shutil.rmtree(root / "kernel")
    assert (read(root).driver, read(root).iommu_group) == ("vfio-pci", 42)


@pytest.mark.parametrize("kind", ["file", "directory", "odd name"])
def test_a_driver_that_is_no_link_to_a_name_is_not_known(
    kind: str, root: Path, gpu_directory: Path
) -> None:
    link = gpu_directory / "driver"
    link.unlink()
    match kind:
        case "file":
            link.write_text("vfio-pci")
        case "directory":
            link.mkdir()
        case _:
            os.symlink(b"drivers/\xff\n", link)  # noqa: PTH211 (a name that is no text)
    assert read(root).driver is None


def test_names_that_are_no_addresses_are_left_out(root: Path) -> None:
    for name in ("README", "0000:81:00", "0000:81:20.0", "zz", ".hidden"):
        (root / "bus/pci/devices" / name).mkdir()
    tree = HostTree(root)
    assert tree.addresses() == (PORT, *(GPU.with_function(n) for n in range(4)))


def test_a_function_is_there_once_by_the_name_that_the_kernel_gives_it(root: Path) -> None:
    for name in (f"0000{GPU}", "10000:81:00.0", "0000:8A:00.0"):
        (root / "bus/pci/devices" / name).mkdir()
    vmd = PciAddress.parse("10000:81:00.0")
    tree = HostTree(root)
    assert tree.addresses() == (PORT, *(GPU.with_function(n) for n in range(4)), vmd)
    assert tuple(function.address for function in tree.functions()) == tree.addresses()


def test_a_function_whose_directory_is_missing_is_there_but_nothing_more_is_known(
    root: Path, gpu_directory: Path
) -> None:
    shutil.rmtree(gpu_directory)
    assert HostTree(root).function(GPU) == HostFunction(GPU, bridges=(PORT,))


def test_a_function_without_attributes_is_there_and_unbound(
    root: Path, gpu_directory: Path
) -> None:
    shutil.rmtree(gpu_directory)
    gpu_directory.mkdir()
    assert HostTree(root).function(GPU) == HostFunction(GPU, driver="", bridges=(PORT,))


def test_a_function_that_was_unplugged_is_gone_everywhere(root: Path) -> None:
    tree = HostTree(root)
    remove(root, "0000:81:00.1")
    assert tree.function(AUDIO) is None
    assert AUDIO not in tree.addresses()
    assert AUDIO not in {function.address for function in tree.group_members(42)}
    assert AUDIO not in tree.facts([GPU]).functions


@pytest.mark.parametrize("last", ["vendor", "class", "numa_node"])
@pytest.mark.parametrize("driver", ["vfio-pci", ""])
def test_a_function_that_goes_while_it_is_read_is_gone(
    driver: str, last: str, tmp_path: Path
) -> None:
    root = build_host_tree(tmp_path, gpu("0000:81:00.0", driver=driver))
    opened: list[str] = []

    def unplug(event: str, name: str) -> None:
        if event == "open" and name == last and name not in opened:
            opened.append(name)
            remove(root, "0000:81:00.0")

    with watched(unplug):
        assert HostTree(root).function(GPU) is None
    assert opened == [last]


def test_no_read_fails_while_functions_come_and_go(tmp_path: Path) -> None:
    """Another process unplugs and plugs a function; what is read is right or not known."""
    root = build_host_tree(tmp_path, [HostDevice("0000:81:00.0", group=42, driver="vfio-pci")])
    whole = read(root)
    churn = (
        "import sys; from pathlib import Path; from hosttree import *\n"
        "root = Path(sys.argv[1])\n"
        "while True:\n"
        "    remove(root, '0000:81:00.0')\n"
        "    build_host_tree(root, [HostDevice('0000:81:00.0', group=42, driver='vfio-pci')])\n"
    )
    tree = HostTree(root)
    seen: set[HostFunction | None] = set()
    rounds = 0
    with subprocess.Popen(
        [sys.executable, "-c", churn, str(tmp_path)], cwd=Path(__file__).parent
    ) as process:
        end = time.monotonic() + 30
        while time.monotonic() < end and (rounds < 2000 or not {None, whole} <= seen):
            rounds += 1
            seen.add(tree.function(GPU))
            tree.group_members(42)
            tree.facts([GPU])
        process.kill()
    assert {None, whole} <= seen
    for function in seen - {None, whole}:
        assert function is not None
        for fact in FACTS:
            # The driver is unbound first and bound last, here and in the kernel.
            allowed = (None, "", whole.driver) if fact == "driver" else (None, getattr(whole, fact))
            assert getattr(function, fact) in allowed


@pytest.fixture
def unprivileged_root() -> Iterator[Path]:
    """A tree that an ordinary user can reach; the test runs as one, also where root runs it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        root = build_host_tree(Path(directory) / "sys", gpu("0000:81:00.0", group=42))
        mighty = os.geteuid() == 0
        if mighty:
            os.seteuid(65534)
        try:
            yield root
        finally:
            if mighty:
                os.seteuid(0)
            (root / "bus/pci/devices").chmod(0o755)
            device_directory(root, "0000:81:00.0").chmod(0o755)


def forbid(path: Path, mode: int = 0) -> None:
    """Change a mode as the owner, who is root where root runs the tests."""
    user = os.geteuid()
    if os.getuid() == 0:
        os.seteuid(0)
    path.chmod(mode)
    os.seteuid(user)


def test_what_may_not_be_read_is_not_known(unprivileged_root: Path) -> None:
    directory = device_directory(unprivileged_root, "0000:81:00.0")
    forbid(directory / "vendor")
    assert read(unprivileged_root) == HostFunction(
        GPU,
        device_id=0x1F08,
        class_code=0x030000,
        iommu_group=42,
        driver="vfio-pci",
        vfio_device=vfio_device("0000:81:00.0"),
    )
    forbid(directory)
    assert HostTree(unprivileged_root).function(GPU) == HostFunction(GPU)


def test_a_function_that_cannot_be_looked_for_is_not_said_to_be_missing(
    unprivileged_root: Path,
) -> None:
    forbid(unprivileged_root / "bus/pci/devices", 0o600)
    assert HostTree(unprivileged_root).function(GPU) == HostFunction(GPU)


def test_a_list_of_functions_that_may_not_be_read_is_refused(unprivileged_root: Path) -> None:
    forbid(unprivileged_root / "bus/pci/devices", 0o311)
    tree = HostTree(unprivileged_root)
    with pytest.raises(HostError, match="let this user read the node's /sys"):
        tree.addresses()
    assert len(tree.group_members(42)) == 4, "the group has its own list"


@given(content=st.binary(max_size=80), attribute=st.sampled_from(["vendor", "class", "numa_node"]))
def test_whatever_an_attribute_holds_is_a_value_in_range_or_not_known(
    content: bytes, attribute: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "any-attribute"
    if not root.exists():
        build_host_tree(root, gpu("0000:81:00.0"))
    write_attribute(root, "0000:81:00.0", attribute, content)
    function = read(root)
    for value, highest in (
        (function.vendor_id, 0xFFFF),
        (function.class_code, 0xFFFFFF),
        (function.numa_node, 99_999),
    ):
        assert value is None or 0 <= value <= highest


@pytest.mark.parametrize("attribute", ["vendor", "device", "class", "numa_node"])
def test_a_function_that_fails_to_answer_is_an_error_and_no_fact(
    root: Path, gpu_directory: Path, attribute: str
) -> None:
    """Not known would let a hook go on where "bound to nvidia" refuses."""
    (gpu_directory / attribute).unlink()
    (gpu_directory / attribute).symlink_to("/proc/self/mem")  # EIO at offset 0
    with pytest.raises(UnreadableError, match=rf"81:00.0: {attribute}: cannot be read: Input/out"):
        HostTree(root).function(GPU)
