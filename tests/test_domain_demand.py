"""How many places libvirt will need for devices that have none; real libvirts confirm it."""

import pytest
from lxml import etree

from launcher_hook.domain.demand import read_demand
from launcher_hook.model import Machine

NVME = "<controller type='nvme' index='{}'><serial>s</serial></controller>"
QUIET = "<memballoon model='none'/><controller type='usb' index='0' model='none'/>"
SCSI = "<hostdev mode='subsystem' type='scsi'/>"


def nic(kind: str, model: str = "") -> str:
    inner = f"<model type='{model}'/>" if model else ""
    return f"<interface type='{kind}'>{inner}</interface>"


@pytest.mark.parametrize(
    ("devices", "indexes", "before_bridge"),
    [
        ("", 0, None),
        (NVME.format(0), 2, None),  # and the empty port that a guest gets beside others
        (NVME.format(0) + NVME.format(1), 3, None),
        (nic("user", "virtio"), 2, None),
        (nic("user", "e1000"), 3, 0),
        (nic("user", "E1000"), 3, 0),
        (nic("user", "82545em"), 3, 0),
        (nic("user", "tulip"), 2, None),
        (nic("user", "pcnet"), 2, None),
        (nic("vdpa"), 2, None),
        (nic("vhostuser"), 2, None),
        (NVME.format(0) + nic("user", "rtl8139"), 4, 0),  # interfaces first
        (NVME.format(0) + "<sound model='ich6'/>", 4, 0),
        (NVME.format(0) + "<watchdog model='i6300esb'/>", 4, 1),
    ],
)
def test_places_of_a_pcie_machine(devices: str, indexes: int, before_bridge: int | None) -> None:
    root = etree.fromstring(f"<devices>{QUIET}{devices}</devices>")
    demand = read_demand(root, Machine.Q35)
    assert (demand.indexes, demand.ports_before_bridge) == (indexes, before_bridge)


def test_an_nvme_controller_takes_a_slot_of_i440fx() -> None:
    devices = f"<devices>{QUIET}{NVME.format(0)}{NVME.format(1)}</devices>"
    assert read_demand(etree.fromstring(devices), Machine.I440FX).indexes == 2


@pytest.mark.parametrize(
    ("devices", "before_bridge"),
    [
        (SCSI, 0),  # its controller comes before the USB one that libvirt adds too
        ("<disk><target dev='sda' bus='scsi'/></disk>", 1),
        (NVME.format(0) + SCSI, 1),
        ("<controller type='scsi' index='0'/>" + NVME.format(0), 0),
        (NVME.format(0) + "<controller type='scsi' index='0'/>", 1),
    ],
    ids=["hostdev", "disk", "hostdev-behind", "first", "second"],
)
def test_controllers_get_their_places_in_libvirts_order(
    devices: str, before_bridge: int | None
) -> None:
    root = etree.fromstring(f"<devices><memballoon model='none'/>{devices}</devices>")
    assert read_demand(root, Machine.Q35).ports_before_bridge == before_bridge


def test_controllers_of_one_type_are_looked_at_by_index() -> None:
    late, early = "<controller type='scsi' index='3' model='lsilogic'/>", NVME.format(0)
    first = "<controller type='scsi' index='1' model='virtio-scsi'/>"
    root = etree.fromstring(f"<devices>{QUIET}{late}{early}{first}</devices>")
    assert read_demand(root, Machine.Q35).ports_before_bridge == 1
