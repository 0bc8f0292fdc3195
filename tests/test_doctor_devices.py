"""Whether functions can be given to VMs, and who is in the way: found, fine, not known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hosttree import (
    HostDevice,
    add_mdev,
    bridge,
    build_host_tree,
    gpu,
    rebind,
    remove,
    write_attribute,
)
from kubelet import make_nodes

from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import MdevSelector, PciSelector, Selection
from launcher_hook.devnodes import NodeList, NodeTree
from launcher_hook.doctor.devices import check_devices, has_selected
from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.nodefacts import Kernel, NodeFacts, read_node
from launcher_hook.pci import PciAddress
from launcher_hook.sysfs import HostTree

GPUS = PciSelector("here", "a.com/gpu", 0x10DE, 0x1F08)
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two cards, each in a group of its own, ready for VMs."""
    cards = [*gpu("0000:86:00.0", group=42), *gpu("0000:af:00.0", group=43)]
    return build_host_tree(tmp_path / "sys", [bridge("0000:00:02.0", group=1), *cards])


def read(sysfs: Path, groups: Sequence[int] = (42, 43), selection: Selection | None = None,
         nodes_known: bool = True) -> NodeFacts:  # fmt: skip
    dev = make_nodes(sysfs.parent / "dev", groups)
    nodes = NodeTree(dev) if nodes_known else NodeList()
    chosen = selection or Selection((GPUS,))
    node = Node(HostTree(sysfs), nodes, chosen, lambda *_: None)
    return read_node(node, Kernel())


def check(facts: NodeFacts, selection: Selection | None = None) -> list[Finding]:
    return list(check_devices(facts, selection or Selection((GPUS,)), "choose"))


def bad(facts: NodeFacts) -> list[Finding]:
    return [finding for finding in check(facts) if finding.severity != "ok"]


def test_cards_that_can_be_given_are_named_with_their_groups(sysfs: Path) -> None:
    devices, groups = check(read(sysfs))
    assert (devices.severity, groups.severity) == ("ok", "ok")
    assert (devices.where, devices.what) == (
        "a.com/gpu", "2 functions to give: 0000:86:00.0, 0000:af:00.0",
    )  # fmt: skip
    assert groups.where == "IOMMU 42, 43"


def test_a_card_on_another_driver_is_named_with_it_and_the_commands(sysfs: Path) -> None:
    rebind(sysfs, "0000:86:00.0", "nvidia")
    (finding,) = bad(read(sysfs))
    assert finding.where == "0000:86:00.0 (10de:1f08)"
    assert finding.what == "bound to 'nvidia'"
    assert finding.fix == (
        "bind to vfio-pci: for f in 0000:86:00.0; do "
        "echo vfio-pci > /sys/bus/pci/devices/$f/driver_override; "
        "echo $f > /sys/bus/pci/devices/$f/driver/unbind; echo $f > /sys/bus/pci/drivers_probe; "
        "done; for every boot add 10de:1f08 to vfio-pci.ids= on the kernel command line"
    )


def test_ids_that_functions_of_the_node_itself_have_are_not_given_to_vfio(tmp_path: Path) -> None:
    """The uplink of a node would be gone after the next boot."""
    ports = [
        HostDevice(bdf, 0x8086, 0x159B, 0x020000, group, driver="ice")
        for bdf, group in (("0000:3b:00.0", 50), ("0000:3b:00.1", 51))
    ]
    one = PciSelector("there", "a.com/nic", address=PciAddress.parse("0000:3b:00.0"))
    sysfs = build_host_tree(tmp_path / "sys", ports)
    (finding,) = bad(read(sysfs, selection=Selection((one,))))
    assert "vfio-pci.ids=" not in finding.fix
    assert finding.fix.endswith(
        "for f in 0000:3b:00.0; do driverctl set-override $f vfio-pci; done"
    )


def test_what_a_node_may_live_on_is_not_the_first_thing_to_be_taken(tmp_path: Path) -> None:
    disk = HostDevice("0000:02:00.0", 0x144D, 0xA80A, 0x010802, 42, driver="nvme")
    sysfs = build_host_tree(tmp_path / "sys", [*gpu("0000:86:00.0", group=42), disk])
    findings = [f for f in bad(read(sysfs)) if f.severity == "error"]
    assert [f.what for f in findings] == [
        "no VM can have it: 0000:02:00.0 (144d:a80a) is bound to 'nvme'"
    ]
    assert findings[0].fix.startswith(
        "the node may live on 0000:02:00.0 (144d:a80a): put the card into another slot"
    )


def test_cards_with_the_same_trouble_are_one_finding(sysfs: Path) -> None:
    for bdf in ("0000:86:00.0", "0000:af:00.0"):
        rebind(sysfs, bdf, "")
    (finding,) = bad(read(sysfs))
    assert finding.where == "0000:86:00.0 (10de:1f08), 0000:af:00.0 (10de:1f08)"
    assert finding.what == "bound to no driver"
    assert "unbind" not in finding.fix


def test_who_keeps_a_group_from_being_viable_is_named(sysfs: Path) -> None:
    rebind(sysfs, "0000:86:00.1", "snd_hda_intel")
    (finding,) = bad(read(sysfs))
    assert (finding.severity, finding.where) == ("error", "IOMMU group 42")
    assert finding.what == (
        "no VM can have it: 0000:86:00.1 (10de:10f9) is bound to 'snd_hda_intel'"
    )
    assert finding.fix.startswith("bind to vfio-pci, or to no driver: for f in 0000:86:00.1;")
    assert check(read(sysfs))[0].what == "1 function to give: 0000:af:00.0"


@pytest.mark.parametrize("driver", ["", "pci-stub", "vfio-pci"])
def test_a_member_that_does_no_dma_keeps_the_group_viable(sysfs: Path, driver: str) -> None:
    rebind(sysfs, "0000:86:00.1", driver)
    assert not bad(read(sysfs))


def test_a_group_of_two_slots_goes_to_one_vm(tmp_path: Path) -> None:
    cards = [*gpu("0000:86:00.0", group=42), *gpu("0000:87:00.0", group=42)]
    (finding,) = bad(read(build_host_tree(tmp_path / "sys", cards)))
    assert (finding.severity, finding.where) == ("warning", "IOMMU group 42")
    assert "it holds 2 slots (0000:86:00.0, " in finding.what


def test_a_card_outside_every_group_is_an_error(tmp_path: Path) -> None:
    (finding,) = bad(read(build_host_tree(tmp_path / "sys", gpu("0000:86:00.0"))))
    assert finding.what == "in no IOMMU group"
    assert "turn the IOMMU on" in finding.fix


def test_a_missing_group_node_is_an_error_where_the_nodes_are_known(sysfs: Path) -> None:
    (finding,) = bad(read(sysfs, groups=(42,)))
    assert (finding.where, finding.what) == (
        "0000:af:00.0 (a.com/gpu)", "there is no /dev/vfio/43",
    )  # fmt: skip
    assert not bad(read(sysfs, groups=(42,), nodes_known=False))


def test_a_card_that_does_not_answer_is_an_error(sysfs: Path) -> None:
    write_attribute(sysfs, "0000:86:00.0", "config", b"\xff" * 64)
    (finding,) = bad(read(sysfs))
    assert "its configuration space reads all ones" in finding.what
    assert finding.fix == "reset or replace it"


def test_a_function_that_comes_along_is_no_trouble(sysfs: Path) -> None:
    audio = PciSelector("there", "a.com/audio", 0x10DE, 0x10F9)
    assert not bad(read(sysfs, selection=Selection((GPUS, audio))))


def test_a_vgpus_function_must_be_selected_by_its_driver(tmp_path: Path) -> None:
    vgpu = HostDevice("0000:86:00.0", 0x10DE, 0x1F08, 0x030000, 42, driver="nvidia",
                      vfio_dev="vfio0")  # fmt: skip
    (finding,) = bad(read(build_host_tree(tmp_path / "sys", [vgpu])))
    assert "provides the vfio device itself" in finding.what
    assert finding.fix == "select it with 'driver: nvidia'"


def test_mediated_devices_are_looked_at_too(sysfs: Path) -> None:
    mdev = Selection(mdev=(MdevSelector("here", "a.com/vgpu", "GRID_T4-1Q"),))
    add_mdev(sysfs, UUID, "0000:86:00.0", group=70, type_name="GRID T4-1Q")
    (finding,) = check(read(sysfs, groups=(70,), selection=mdev))
    assert finding.what == f"1 mediated device to give: {UUID}"
    (sysfs.parent / "dev/vfio/70").unlink()
    (finding,) = check(read(sysfs, groups=(), selection=mdev))
    assert (finding.severity, finding.what) == ("error", "there is no /dev/vfio/70")


def test_where_nothing_is_for_vms_the_display_functions_are_named(sysfs: Path) -> None:
    facts = read(sysfs, selection=Selection((PciSelector("here", "a.com/x", 0x1002),)))
    assert not has_selected(facts)
    (finding,) = check(facts)
    assert (finding.severity, finding.fix) == ("warning", "choose")
    assert "0000:86:00.0 (10de:1f08), 0000:af:00.0 (10de:1f08)" in finding.what
    for bdf in ("0000:86:00.0", "0000:af:00.0"):
        remove(sysfs, bdf)
    (finding,) = check(read(sysfs))
    assert finding.what == "nothing on the node is selected for VMs"


def test_what_the_configuration_leaves_to_kubevirt_is_told_where_nothing_is_ours(
    sysfs: Path,
) -> None:
    left = Selection((replace(GPUS, external=False),))
    (finding,) = check(read(sysfs, selection=left), left)
    assert (finding.severity, finding.where) == ("warning", "here")
    assert finding.what == (
        "it has no 'externalResourceProvider: true', so KubeVirt's own virt-handler offers "
        "0000:86:00.0 (10de:1f08), 0000:af:00.0 (10de:1f08)"
    )


def test_two_selectors_of_one_function_are_told(sysfs: Path) -> None:
    both = Selection((GPUS, PciSelector("there", "a.com/other", 0x10DE, 0x1F08)))
    findings = bad(read(sysfs, selection=both))
    assert [finding.severity for finding in findings] == ["warning", "warning"]
    assert findings[0].fix == "the first one counts"
