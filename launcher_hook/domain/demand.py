"""How many places libvirt will need for devices that have no PCI address yet. Pure reading of XML.

Which device connects how: libvirt 9.0 and 11.3, src/qemu/qemu_domain_address.c
(qemuDomainDeviceCalculatePCIConnectFlags, qemuDomainValidateDevicePCISlots*). What libvirt adds by
itself: qemuDomainDefAddDefaultDevices, virDomainDefAddImplicitDevices. An unknown model counts.
"""

import re
from collections import Counter
from collections.abc import Iterator
from enum import Enum

from lxml import etree
from lxml.builder import E

from launcher_hook.model import Machine


class _Place(Enum):
    NOWHERE = "no PCI device, or at home in a slot that nobody else gets"
    PORT = "a root port of its own"
    BRIDGE = "conventional PCI: a slot behind a pcie-to-pci-bridge"
    EITHER = "one of the two, by what this QEMU has"
    ROOT = "a slot of the root bus"


_NOWHERE, _PORT, _BRIDGE, _EITHER, _ROOT = _Place

_VIRTIO = {"virtio-transitional": _BRIDGE}
# Element -> where its model stands, where which model goes ("" is no model), where others go.
_PLACES: dict[str, tuple[str, dict[str, _Place], _Place]] = {
    "controller ide": ("@model", {}, _BRIDGE),
    "controller pci": ("@model", {
        "pci-root": _NOWHERE, "pcie-root": _NOWHERE, "pcie-switch-downstream-port": _NOWHERE,
        "pcie-root-port": _NOWHERE,  # eight share a slot: counted by room.py
        "pcie-switch-upstream-port": _PORT, "pcie-to-pci-bridge": _PORT,
        "pcie-expander-bus": _ROOT, "dmi-to-pci-bridge": _ROOT}, _BRIDGE),
    "controller sata": ("@model", {}, _BRIDGE),
    "controller scsi": ("@model", {
        "virtio-scsi": _PORT, "virtio-non-transitional": _PORT, "ncr53c90": _NOWHERE,
        "": _EITHER, "auto": _EITHER}, _BRIDGE),
    "controller usb": ("@model", {
        "none": _NOWHERE, "qemu-xhci": _PORT, "nec-xhci": _PORT, "": _EITHER}, _BRIDGE),
    "controller virtio-serial": ("@model", _VIRTIO, _PORT),
    "crypto": ("@model", {}, _BRIDGE),
    "disk": ("@model", _VIRTIO, _PORT),
    "filesystem": ("@model", _VIRTIO, _PORT),
    "hostdev": ("@model", _VIRTIO, _PORT),
    "input": ("@model", _VIRTIO, _PORT),
    "interface": ("model/@type", {
        "virtio": _PORT, "virtio-non-transitional": _PORT, "e1000e": _PORT, "igb": _PORT,
        "usb-net": _NOWHERE, "": _EITHER}, _BRIDGE),
    "iommu": ("@model", {"virtio": _ROOT, "amd": _ROOT}, _NOWHERE),
    "memballoon": ("@model", {"none": _NOWHERE, **_VIRTIO}, _PORT),
    "memory": ("@model", {"virtio-mem": _PORT, "virtio-pmem": _PORT}, _NOWHERE),
    "panic": ("@model", {"pvpanic": _ROOT, "": _ROOT}, _NOWHERE),
    "pstore": ("@model", {}, _BRIDGE),
    "rng": ("@model", _VIRTIO, _PORT),
    "serial": ("target/@type", {"pci-serial": _BRIDGE}, _NOWHERE),
    "shmem": ("@model", {}, _BRIDGE),
    "sound": ("@model", {
        "virtio": _PORT, "sb16": _NOWHERE, "pcspk": _NOWHERE, "usb": _NOWHERE}, _BRIDGE),
    "video": ("model/@type", {
        "none": _NOWHERE, "ramfb": _NOWHERE, "virtio": _PORT, "bochs": _PORT, "": _EITHER},
        _BRIDGE),
    "vsock": ("@model", _VIRTIO, _PORT),
    "watchdog": ("@model", {"ib700": _NOWHERE, "itco": _NOWHERE}, _BRIDGE),
}  # fmt: skip
_ONLY = {"disk": "virtio", "input": "virtio", "hostdev": "scsi_host"}  # bus or type that is PCI

# Slots that libvirt gives to the first such device without address, and that we never take.
_HOMES: dict[Machine, dict[str, tuple[int, ...]]] = {
    Machine.Q35: {"video": (0x01,), "ich9": (0x1B,), "ich9-uhci1": (0x1D, 0x1A),
                  "dmi-to-pci-bridge": (0x1E,)},
    Machine.I440FX: {"video": (0x02,)},
}  # fmt: skip
_BUILT_IN = {Machine.Q35: ("sata",), Machine.I440FX: ("ide", "usb")}  # controllers, index 0
_UNITS = {"scsi": 7, "sata": 6}  # disks a controller; on a wide SCSI bus there are more
_PORTS_A_CONTROLLER = 31
_SLOTS_A_BRIDGE = 31


def waiting(devices: etree._Element, machine: Machine) -> tuple[int, int]:
    """Count the places that libvirt will take for devices without a PCI address: upper bounds.

    PCI and mediated hostdevs are ours and do not count. What libvirt adds by itself counts: USB,
    SCSI, SATA and virtio-serial controllers, balloon, video, a pcie-to-pci-bridge with its port,
    and the empty root port that a guest gets in whose XML there are no PCI controllers.

    Args:
        devices: The ``<devices>`` element.
        machine: Q35, VIRT or I440FX.

    Returns:
        How many controller indexes above every one that the XML has or refers to (I440FX: how many
        slots of bus 0, without the one that libvirt keeps for a bridge); and how many slots of
        pcie.0, besides those of root ports and those that have their use (ICH9, primary video).
    """
    homes = _free_homes(devices, machine)
    places = Counter(_place(device, machine, homes) for device in _singles(devices, machine))
    if machine is Machine.I440FX:
        slots = places.total() - places[_NOWHERE] + _missing_bridges(devices)
        return slots + slots // _SLOTS_A_BRIDGE, 0  # a bridge where bus 0 overflows
    conventional = places[_BRIDGE] + places[_EITHER]
    bridges = -(-conventional // _SLOTS_A_BRIDGE)
    indexes = places[_PORT] + places[_EITHER] + bridges + (1 if bridges else 0)  # and its port
    indexes += len(devices.xpath("controller[@type='pci'][not(@index)]"))
    if not devices.xpath("controller[@type='pci'][not(@index = 0)]"):
        indexes += 1
    return indexes, places[_ROOT]


def _missing_bridges(devices: etree._Element) -> int:
    """How many indexes and buses libvirt fills, below those that the XML names, with bridges."""
    present = {_number(index) for index in devices.xpath("controller[@type='pci']/@index")}
    buses = (_number(bus) for bus in devices.xpath("*/address[@type='pci']/@bus"))
    return max((0, *present, *buses)) - len(present - {0})


def _place(device: etree._Element, machine: Machine, homes: dict[str, list[int]]) -> _Place:
    """Where one device goes; a home that it finds free is taken out of `homes`."""
    kind, model = str(device.tag), device.get("model", "")
    if kind == "controller":
        kind = f"controller {device.get('type')}"
        built_in = device.get("type") in _BUILT_IN.get(machine, ())
        if built_in and device.get("index") == "0" and model in ("", "piix3-uhci"):
            return _NOWHERE
    if kind not in _PLACES or _address(device) or _ONLY.get(kind) not in (None, _bus(device)):
        return _NOWHERE
    if kind == "interface" and device.get("type") == "hostdev":
        return _PORT
    where, by_model, otherwise = _PLACES[kind]
    place = by_model.get(_text(device, where), otherwise)
    for home in (kind, model):
        if place is not _NOWHERE and homes.get(home):
            homes[home].pop(0)
            return _NOWHERE
    return place


def _free_homes(devices: etree._Element, machine: Machine) -> dict[str, list[int]]:
    taken = {
        _number(address.get("slot", "0"))
        for address in devices.iterfind("*/address[@type='pci']")
        if _number(address.get("bus", "0")) == 0
    }
    homes = _HOMES.get(machine, {}).items()
    free = {name: [slot for slot in slots if slot not in taken] for name, slots in homes}
    for video in devices.xpath("(video[model/@primary='yes'] | video[1])[1]"):
        if _address(video) or _text(video, "model/@type") in ("none", "ramfb"):
            free["video"] = []
    return free


def _singles(devices: etree._Element, machine: Machine) -> Iterator[etree._Element]:
    """Every device; of the controllers that share one slot as ICH9 USB at most one."""
    groups: dict[str, list[etree._Element]] = {}
    seen: Counter[str] = Counter()
    for device in devices.iterchildren("*"):
        model = device.get("model", "")
        if device.tag == "controller" and model.startswith("ich9-"):
            seen[model] += 1
            groups.setdefault(device.get("index", f"none {seen[model]}"), []).append(device)
        else:
            yield device
    for group in groups.values():
        if not any(_address(controller) for controller in group):
            yield next((c for c in group if c.get("model") == "ich9-uhci1"), group[0])
    yield from _implied(devices, machine)


def _implied(devices: etree._Element, machine: Machine) -> Iterator[etree._Element]:
    """What libvirt adds by itself."""
    if devices.find("memballoon") is None:
        yield E.memballoon(model="virtio")
    if devices.find("video") is None and devices.find("graphics") is not None:
        yield E.video()
    usb = "controller[@type='usb'][@index = 0 or not(@index or starts-with(@model, 'ich9-'))]"
    if machine is Machine.Q35 and not devices.xpath(usb):
        yield E.controller(type="usb", index="0", model="qemu-xhci")
    needed = {
        "scsi": _drives(devices, "scsi"),
        "sata": _drives(devices, "sata"),
        "virtio-serial": _serial_controllers(devices),
    }
    for kind, count in needed.items():
        present = devices.xpath(f"controller[@type='{kind}']/@index")
        for index in range(count):
            if str(index) not in present:
                yield E.controller(type=kind, index=str(index))


def _drives(devices: etree._Element, bus: str) -> int:
    """How many controllers the disks of a bus, and SCSI hostdevs, need."""
    disks = [disk for disk in devices.iterfind("disk") if _bus(disk) == bus]
    numbers = [_disk_number(_text(disk, "target/@dev")) for disk in disks]
    if bus == "scsi":
        hostdevs = devices.findall("hostdev[@type='scsi']")
        numbers += range(len(hostdevs))
        disks += hostdevs
    by_number = (number // _UNITS[bus] + 1 for number in numbers)
    return max((0, *by_number, *_controllers(disks)))


def _serial_controllers(devices: etree._Element) -> int:
    """How many controllers virtio channels and consoles need."""
    ports = devices.xpath("(channel | console)[target/@type='virtio']")
    sizes = devices.xpath("controller[@type='virtio-serial']/@ports")
    smallest = min((_PORTS_A_CONTROLLER, *map(_number, sizes)))
    by_size = -(-len(ports) // max(smallest - 1, 1))  # port 0 is for a console
    return max((by_size, *_controllers(ports)))


def _controllers(devices: list[etree._Element]) -> Iterator[int]:
    for device in devices:
        for controller in device.xpath("address/@controller"):
            yield _number(controller) + 1


def _disk_number(name: str) -> int:
    """sda is 0, sdz 25, sdaa 26."""
    number = 0
    for letter in re.sub("[^a-z]", "", name)[2:]:
        number = number * 26 + ord(letter) - ord("a") + 1
    return max(number - 1, 0)


def _address(device: etree._Element) -> str:
    """The type of its address; "" where it has none, or the zeros that libvirt takes for none."""
    for address in device.iterfind("address"):
        kind = address.get("type", "pci")
        parts = (address.get(part, "0") for part in ("domain", "bus", "slot", "function"))
        if kind != "pci" or any(map(_number, parts)):
            return kind
    return ""


def _bus(device: etree._Element) -> str:
    """The bus of a disk or an input device, the type of a hostdev."""
    by_name = {"v": "virtio", "s": "scsi"}.get(_text(device, "target/@dev")[:1], "")
    return _text(device, "target/@bus | self::input/@bus | self::hostdev/@type") or by_name


def _number(text: str) -> int:
    return int(text, 16 if text.lower().startswith("0x") else 10)


def _text(device: etree._Element, path: str) -> str:
    return str(device.xpath(f"string({path})"))
