"""How many places libvirt will need for devices that have no PCI address yet. Pure reading of XML.

Which device connects how: libvirt 9.0 and 11.3, src/qemu/qemu_domain_address.c
(qemuDomainDeviceCalculatePCIConnectFlags, qemuDomainValidateDevicePCISlots*). What libvirt adds by
itself: qemuDomainDefAddDefaultDevices, virDomainDefAddImplicitDevices. An unknown model counts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter

from lxml import etree
from lxml.builder import E

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.document import first_child
from launcher_hook.model import Machine


class _Place(Enum):
    NOWHERE = "no PCI device, or at home in a slot that nobody else gets"
    PORT = "a root port of its own"
    BRIDGE = "conventional PCI: a slot behind a pcie-to-pci-bridge"
    EITHER = "one of the two, by what this QEMU has"
    ROOT = "a slot of the root bus"


_NOWHERE, _PORT, _BRIDGE, _EITHER, _ROOT = _Place

_VIRTIO = {"virtio-transitional": _BRIDGE}
# conf/domain_conf.c, virDomainNetModel, in lower case; not those that are PCIe or no PCI device.
_CONVENTIONAL_NICS = (
    "virtio-transitional", "rtl8139", "e1000", "netfront", "spapr-vlan", "lan9118", "scm91c111",
    "vlance", "vmxnet", "vmxnet2", "vmxnet3", "am79c970a", "am79c973", "82540em", "82545em",
    "82543gc",
)  # fmt: skip
_VIRTIO_NICS = ("vdpa", "vhostuser")  # virtio if no model is given
# Element -> where its model stands, where which model goes ("" is no model), where others go.
_PLACES: dict[str, tuple[str, dict[str, _Place], _Place]] = {
    "controller ide": ("@model", {}, _BRIDGE),
    "controller nvme": ("@model", {}, _PORT),  # libvirt 12
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
    "interface": ("model/@type", {  # a model that libvirt does not know gets a port
        **dict.fromkeys(_CONVENTIONAL_NICS, _BRIDGE), "usb-net": _NOWHERE, "": _EITHER}, _PORT),
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

# Without a model these are virtio and qemu-xhci on arm64; SCSI may be lsilogic there too.
_PCIE_ON_VIRT = ("interface", "video", "controller usb")

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
_MOST_DISKS = 18_278  # sdzzz
_MOST_CONTROLLERS = 256  # of a kind that we count; libvirt would refuse so many
_LAST_INDEX = 1 << 32  # of a controller without one: behind the others of its type
_CONVENTIONAL_BUSES = ("pci-bridge", "pcie-to-pci-bridge", "dmi-to-pci-bridge")
_TURNS = {tag: turn for turn, tag in enumerate((
    "filesystem", "interface", "sound", "controller", "disk", "hostdev", "memballoon", "rng",
    "watchdog", "video", "shmem", "input", "serial", "iommu", "vsock", "memory",
))}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Demand:
    """Places that libvirt will take for devices without a PCI address; upper bounds.

    Attributes:
        indexes: Controller indexes above every one that the XML has or refers to. On I440FX: slots
            of bus 0, without the one that libvirt keeps for a bridge.
        root_slots: Slots of pcie.0 besides those of root ports and those that have their use
            (ICH9, primary video).
        ports_before_bridge: How many devices get a root port before libvirt meets the first that
            needs conventional PCI, for which it then adds a port and a pcie-to-pci-bridge; None
            where it adds none.
    """

    indexes: int
    root_slots: int
    ports_before_bridge: int | None


def read_demand(devices: etree._Element, machine: Machine) -> Demand:
    """Count what libvirt will need.

    PCI and mediated hostdevs are ours and do not count. What libvirt adds by itself counts: USB,
    SCSI, SATA and virtio-serial controllers, balloon, video, a pcie-to-pci-bridge with its port,
    and the empty root port that a guest gets beside others if its XML has no PCI controllers.

    Args:
        devices: The ``<devices>`` element.
        machine: Q35, VIRT or I440FX.
    """
    homes = _free_homes(devices, machine)
    needy = _in_turn(_needy(devices, machine, homes))
    in_turn = [_place(device, machine, homes) for device in needy]
    places = Counter(in_turn)
    controllers = [c for c in devices.iterfind("controller") if c.get("type") == "pci"]
    if machine is Machine.I440FX:
        slots = places.total() - places[_NOWHERE] + _missing_bridges(devices, controllers)
        return Demand(slots + slots // _SLOTS_A_BRIDGE, 0, None)  # where bus 0 overflows
    conventional = places[_BRIDGE] + places[_EITHER]
    bridges = -(-conventional // _SLOTS_A_BRIDGE)
    indexes = places[_PORT] + places[_EITHER] + bridges + (1 if bridges else 0)  # and its port
    # An empty one for hotplug, where there were none and libvirt adds some.
    if indexes and all(controller.get("index") in ("0", None) for controller in controllers):
        indexes += 1
    before = None
    if conventional and not any(c.get("model") in _CONVENTIONAL_BUSES for c in controllers):
        first = next(n for n, place in enumerate(in_turn) if place in (_BRIDGE, _EITHER))
        before = in_turn[:first].count(_PORT)
    return Demand(indexes, places[_ROOT], before)


def _in_turn(devices: Iterable[etree._Element]) -> list[etree._Element]:
    """The order in which libvirt looks at devices (qemuDomainAssignDevicePCISlots).

    Controllers of one type are together, by index (virDomainControllerInsertPreAlloced); libvirt
    9.0 puts those that it adds by itself behind all others.
    """
    types: dict[str, int] = {}
    turns, ordered = [], []
    for device in devices:
        kind = device.get("type", "")
        if device.tag != "controller":
            turns.append((_TURNS.get(str(device.tag), len(_TURNS)), 0, 0))
        elif kind == "pci":
            turns.append((-1, 0, 0))
        else:
            index = _number(device.get("index", "")) if device.get("index") else _LAST_INDEX
            turns.append((_TURNS["controller"], types.setdefault(kind, len(types)), index))
        ordered.append(device)
    return [device for _, device in sorted(zip(turns, ordered, strict=True), key=itemgetter(0))]


def _missing_bridges(devices: etree._Element, controllers: list[etree._Element]) -> int:
    """How many indexes and buses libvirt fills, below those that the XML names, with bridges."""
    present = {_number(controller.get("index", "0")) for controller in controllers}
    buses = (
        _number(address.get("bus", "0"))
        for address in devices.iterfind("*/address")
        if address.get("type") == "pci"
    )
    return max((0, *present, *buses)) - len(present - {0})


def _place(device: etree._Element, machine: Machine, homes: dict[str, list[int]]) -> _Place:
    """Where one device goes; a home that it finds free is taken out of `homes`."""
    kind, model = str(device.tag), device.get("model", "")
    if kind == "controller":
        kind = f"controller {device.get('type')}"
        built_in = device.get("type") in _BUILT_IN.get(machine, ())
        # libvirt numbers a controller without index, and the first of its kind gets 0.
        if built_in and device.get("index", "0") == "0" and model in ("", "piix3-uhci"):
            return _NOWHERE
    if kind not in _PLACES or _address(device) or _ONLY.get(kind) not in (None, _bus(device)):
        return _NOWHERE
    if kind == "interface" and device.get("type") == "hostdev":
        return _PORT
    where, by_model, otherwise = _PLACES[kind]
    model_there = _text(device, where)
    if kind == "interface":
        virtio = not model_there and device.get("type") in _VIRTIO_NICS
        model_there = "virtio" if virtio else model_there.lower()  # libvirt's strcasecmp
    place = by_model.get(model_there, otherwise)
    if place is _EITHER and machine is Machine.VIRT and kind in _PCIE_ON_VIRT:
        place = _PORT
    for home in (kind, model):
        if place is not _NOWHERE and homes.get(home):
            homes[home].pop(0)
            return _NOWHERE
    return place


def _free_homes(devices: etree._Element, machine: Machine) -> dict[str, list[int]]:
    taken = {
        _number(address.get("slot", "0"))
        for address in devices.iterfind("*/address")
        if address.get("type") == "pci" and _number(address.get("bus", "0")) == 0
    }
    homes = _HOMES.get(machine, {}).items()
    free = {name: [slot for slot in slots if slot not in taken] for name, slots in homes}
    for video in _videos(devices)[:1]:
        if _address(video) or _text(video, "model/@type") in ("none", "ramfb"):
            free["video"] = []
    return free


def _videos(devices: etree._Element) -> list[etree._Element]:
    """The video devices, the primary one first; the one that libvirt adds where there is none."""
    videos = devices.findall("video")
    if not videos and devices.find("graphics") is not None:
        return [E.video()]
    return sorted(videos, key=lambda video: _text(video, "model/@primary") != "yes")


def _needy(
    devices: etree._Element, machine: Machine, homes: dict[str, list[int]]
) -> Iterator[etree._Element]:
    """Every device, as often as libvirt makes room for it when it counts the buses it needs.

    That count (the first of two passes) forgets what it has given out: a primary video whose slot
    is taken gets room twice, and the functions of one ICH9 USB controller a slot each, unless one
    of them has an address (or gets slot 0x1d or 0x1a, on q35).
    """
    videos = _videos(devices)
    if homes.get("video") == []:
        yield from videos[:1]
    yield from videos
    ich9: dict[str, list[etree._Element]] = {}
    seen: Counter[str] = Counter()
    for device in devices.iterchildren("*"):
        model = device.get("model", "")
        if device.tag == "controller" and model.startswith("ich9-"):
            seen[model] += 1
            ich9.setdefault(device.get("index", f"none {seen[model]}"), []).append(device)
        elif device.tag != "video":
            yield device
    for functions in ich9.values():
        first = [function for function in functions if function.get("model") == "ich9-uhci1"]
        if not any(_address(function) for function in functions):
            yield from first[:1] if first and homes.get("ich9-uhci1") else functions
    yield from _implied(devices, machine)


def _implied(devices: etree._Element, machine: Machine) -> Iterator[etree._Element]:
    """What libvirt adds by itself; for video see `_videos`."""
    if devices.find("memballoon") is None and machine is not Machine.VIRT:
        yield E.memballoon(model="virtio")
    # While it reads the hostdevs, before it adds USB (virDomainDefMaybeAddHostdevSCSIcontroller).
    by_hostdevs = _drives([], _scsi_hostdevs(devices), "scsi")
    yield from _missing_controllers(devices, "scsi", 0, by_hostdevs)
    if machine is Machine.Q35 and not any(map(_is_main_usb, devices.iterfind("controller"))):
        yield E.controller(type="usb", index="0", model="qemu-xhci")
    disks = devices.findall("disk")
    by_all = _drives(disks, _scsi_hostdevs(devices), "scsi")
    yield from _missing_controllers(devices, "scsi", by_hostdevs, by_all)
    yield from _missing_controllers(devices, "sata", 0, _drives(disks, [], "sata"))
    yield from _missing_controllers(devices, "virtio-serial", 0, _serial_controllers(devices))


def _missing_controllers(
    devices: etree._Element, kind: str, first: int, count: int
) -> Iterator[etree._Element]:
    present = {c.get("index") for c in devices.iterfind("controller") if c.get("type") == kind}
    for index in range(first, min(count, _MOST_CONTROLLERS)):
        if str(index) not in present:
            yield E.controller(type=kind, index=str(index))


def _is_main_usb(controller: etree._Element) -> bool:
    if controller.get("type") != "usb":
        return False
    index = controller.get("index")
    return index == "0" or (index is None and not controller.get("model", "").startswith("ich9-"))


def _scsi_hostdevs(devices: etree._Element) -> list[etree._Element]:
    return [hostdev for hostdev in devices.iterfind("hostdev") if hostdev.get("type") == "scsi"]


def _drives(every: Sequence[etree._Element], hostdevs: Sequence[etree._Element], bus: str) -> int:
    """How many controllers the disks of a bus, and SCSI hostdevs, need."""
    disks = [disk for disk in every if _bus(disk) == bus]
    numbers = [_disk_number(_text(disk, "target/@dev")) for disk in disks]
    numbers += range(len(hostdevs))
    disks += hostdevs
    by_number = (number // _UNITS[bus] + 1 for number in numbers)
    return max((0, *by_number, *_controllers(disks)))


def _serial_controllers(devices: etree._Element) -> int:
    """How many controllers virtio channels and consoles need."""
    ports = [
        port
        for tag in ("channel", "console")
        for port in devices.iterfind(tag)
        if _text(port, "target/@type") == "virtio"
    ]
    sizes = (
        _number(controller.get("ports", str(_PORTS_A_CONTROLLER)))
        for controller in devices.iterfind("controller")
        if controller.get("type") == "virtio-serial"
    )
    smallest = min((_PORTS_A_CONTROLLER, *sizes))
    by_size = -(-len(ports) // max(smallest - 1, 1))  # port 0 is for a console
    return max((by_size, *_controllers(ports)))


def _controllers(devices: list[etree._Element]) -> Iterator[int]:
    for device in devices:
        for address in device.iterchildren("address"):
            if address.get("controller") is not None:
                yield _number(address.get("controller", "")) + 1


def _disk_number(name: str) -> int:
    """sda is 0, sdz 25, sdaa 26."""
    number = 0
    for letter in re.sub("[^a-z]", "", name)[2:]:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1 if 0 < number <= _MOST_DISKS else 0  # libvirt knows no such name


def _address(device: etree._Element) -> str:
    """The type of its address; "" where it has none, or the zeros that libvirt takes for none."""
    for address in device.iterchildren("address"):
        kind = address.get("type", "pci")
        parts = (address.get(part, "0") for part in ("domain", "bus", "slot", "function"))
        if kind != "pci" or any(map(_number, parts)):
            return kind
    return ""


def _bus(device: etree._Element) -> str:
    """The bus of a disk or an input device, the type of a hostdev."""
    if device.tag == "input":
        return device.get("bus", "")
    if device.tag == "hostdev":
        return device.get("type", "")
    by_name = {"v": "virtio", "s": "scsi"}.get(_text(device, "target/@dev")[:1], "")
    return _text(device, "target/@bus") or by_name


def _number(text: str) -> int:
    """A number; 0 for what is none: libvirt will refuse the domain, and we need not."""
    try:
        return parse_number(text)
    except ValueError:
        return 0


def _text(device: etree._Element, path: str) -> str:
    """The attribute at ``@name`` or ``child/@name``; "" where there is none."""
    child, _, name = path.rpartition("@")
    element = first_child(device, child[:-1]) if child else device
    return "" if element is None else element.get(name, "")
