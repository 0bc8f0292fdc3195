"""What is tried on level 1, and what it must show. Data, for the agent and for the judge.

A guest path is slot.function of each bridge above a function, then its own: all that a guest can
see of a topology (the bus numbers are its firmware's). Roles are those of ``topology``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from e2e.topology import IDS, NVME_TEXT, ONE_GROUP

SUITES = ("trixie", "bookworm")
"""Debian suites that level 1 can be made from; the first is the default."""

DOMAIN = "e2e.example"
KINDS = {"gpu": "1234:1111", "edu": "1234:11e8", "nvme": "1b36:0010", "nic": "8086:10d3"}

VFIO_AT_START = (
    "gpu-a", "gpu-a-audio", "gpu-b", "gpu-b-audio", "direct", *ONE_GROUP, "nvme", "vf-0",
)  # fmt: skip
"""What the node's administrator has bound to vfio-pci; all else keeps its native driver."""


_ENDS = ("", "-audio")


def resource_of(role: str) -> str:
    return next(f"{DOMAIN}/{k}" for k, ids in KINDS.items() if ids == IDS[role])


@dataclass(frozen=True)
class Case:
    """One row of the report.

    Attributes:
        expect: What must be observed, no more and no less; a value that begins with ``~`` is a
            regular expression that must be found.
        suites: Of level 1; what others have is too old for it, or differs.
        is_extra: Takes long and shows what others show too: left out of CI, and unless asked for.
    """

    name: str
    expect: Mapping[str, str]
    suites: tuple[str, ...] = field(default=SUITES, kw_only=True)
    is_extra: bool = field(default=False, kw_only=True)

    @property
    def touches(self) -> frozenset[str]:
        """Roles that no other case may have at the same time; a device's functions go together."""
        raise NotImplementedError


def _with_companions(roles: Iterable[str]) -> frozenset[str]:
    """And what is in their IOMMU groups."""
    named = {f"{role.removesuffix('-audio')}{end}" for role in roles for end in _ENDS} & {*IDS}
    return frozenset(named.union(ONE_GROUP) if named.intersection(ONE_GROUP) else named)


@dataclass(frozen=True)
class Boot(Case):
    """A VM, from kubelet's Allocate to what its guest enumerates, and its end.

    Attributes:
        devices: Role of the function that is allocated, by the VMI's entry.
        machine: The domain's: q35 or i440fx.
        config: Our annotation on the VMI.
        told: The sidecar has the variables and the domain no hostdevs; if not, it is a stock
            sidecar and virt-launcher has written the hostdevs.
        linux: Level 2 boots a Linux, which looks for itself and uses the devices.
        session: libvirt is that of uid 107, as in a virt-launcher pod, and not root's.
        by_hand: No device plugin: it would not offer a function on its native driver.
        cells: NUMA cells of the guest, on the nodes of level 1; 0 for none.
        claims: Role of the function that a resource claim has, by the VMI's entry; of them the
            pod has metadata files and no variable.
        uefi: Level 2's firmware is OVMF.
    """

    devices: Mapping[str, str]
    machine: str = "q35"
    config: str = ""
    told: bool = False
    linux: bool = False
    session: bool = False
    by_hand: bool = False
    cells: int = 0
    claims: Mapping[str, str] = field(default_factory=dict)
    uefi: bool = False

    @property
    def touches(self) -> frozenset[str]:
        """Its devices."""
        return _with_companions((*self.devices.values(), *self.claims.values()))


@dataclass(frozen=True)
class SideBySide(Case):
    """Two VMs from one resource at once; the first ends, and a third gets its function."""

    roles: tuple[str, str]

    @property
    def touches(self) -> frozenset[str]:
        """Both."""
        return _with_companions(self.roles)


@dataclass(frozen=True)
class Refused(Case):
    """The node or the VM is made wrong: what we say, and what libvirt says without us.

    Attributes:
        devices: As for a boot, with the variables by hand.
        drivers: Bound before ("" is none, "native" is its own), and put back afterwards.
        removed: Functions that are taken out of the node before, and come back.
        at_allocate: It is the device plugin that must refuse.
        libvirts_managed: What libvirt's own user writes as ``managed``.
        libvirts_model: And as the driver's model; "" for none.
        taken: The guest address of the VM's disk, which libvirt is asked for once more.
    """

    devices: Mapping[str, str]
    config: str = ""
    drivers: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    at_allocate: bool = False
    libvirts_managed: str = "yes"
    libvirts_model: str = "vfio-pci"
    taken: str = ""

    @property
    def touches(self) -> frozenset[str]:
        """Its devices, and what is made wrong."""
        return _with_companions((*self.devices.values(), *self.drivers, *self.removed))


@dataclass(frozen=True)
class Offers(Case):
    """What ``discover`` and the registered device plugin say of the node."""

    @property
    def touches(self) -> frozenset[str]:
        """All: nothing may change meanwhile."""
        return frozenset(IDS)


@dataclass(frozen=True)
class Health(Case):
    """A function changes while the device plugin runs."""

    role: str

    @property
    def touches(self) -> frozenset[str]:
        """The function that changes."""
        return _with_companions((self.role,))


def _boot(paths: Mapping[str, str], allocated: str, passes: int = 3, **more: str) -> dict[str, str]:
    """What every boot must show, besides the guest paths of its functions."""
    return {
        **{role: f"{path} {IDS[role]}" for role, path in paths.items()},
        "allocated": allocated,
        "passes": f"{passes}, same addresses",
        "drivers after": "as before",
        **more,
    }


_WRITTEN = "0xEDCBA987"
"""edu gives back the inverse of what is written, 0x12345678 (QEMU, docs/specs/edu)."""

_GPU = {"gpu0": "gpu-a"}
_TWO_GPUS = {"gpu0": "gpu-a", "gpu1": "gpu-b"}
_PAIR = {"gpu-a": "10.0/00.0", "gpu-a-audio": "10.0/00.1"}

CASES: tuple[Case, ...] = (
    Offers(
        "what the node offers",
        {
            "discover gpu": "gpu-a gpu-b",
            "discover edu": "beside cascaded direct switched",
            "discover nvme": "nvme vf-0",
            "not offered": "gpu-c nic nvme-sriov vf-1",
            "registered gpu": "gpu-a@0 gpu-b@0",
            "registered edu": "beside@0 cascaded@0 direct@0 switched@0",
            "registered nvme": "nvme@1 vf-0@1",
        },
    ),
    Boot(
        "two sockets, mirror: distances as on the node; used by Linux",
        _boot(
            {
                "direct": "f5:00.0/00.0",
                "gpu-b": "f7:00.0/00.0",
                "gpu-b-audio": "f7:00.0/00.1",
                "switched": "f7:01.0/00.0/00.0/00.0",
                "beside": "f7:01.0/00.0/01.0/00.0",
                "cascaded": "f7:01.0/00.0/02.0/00.0/00.0/00.0",
                "nvme": "f3:00.0/00.0",
            },
            "gpu-b; direct,switched,beside,cascaded; nvme",
            **{
                "Linux sees": "gpu-b direct switched beside cascaded nvme gpu-b-audio",
                "register written and read": _WRITTEN,
                "block read by DMA": NVME_TEXT,
                "its NUMA nodes": "0: gpu-b direct switched beside cascaded gpu-b-audio; 1: nvme",
                "pairs": "PIX 2, PXB 2, PHB 6, NODE 5, SYS 6",
                "pairs that are another distance apart on the node": "none",
            },
        ),
        {
            "gpu0": "gpu-b",
            "edu0": "direct",
            "edu1": "switched",
            "edu2": "beside",
            "edu3": "cascaded",
            "disk": "nvme",
        },
        config="{layout: mirror, strict: true}",
        linux=True,
        cells=2,
    ),
    Boot(
        "one GPU, root-port",
        _boot({"gpu-a": "10.0/00.0"}, "gpu-a"),
        _GPU,
        config="companions: ignore",
    ),
    Boot(
        "one GPU, root-bus",
        _boot({"gpu-a": "08.0"}, "gpu-a"),
        _GPU,
        config="{companions: ignore, layout: root-bus}",
        told=True,
    ),
    Boot("GPU and its audio, root-port", _boot(_PAIR, "gpu-a"), _GPU),
    Boot(
        "GPU and its audio, root-bus",
        _boot({"gpu-a": "08.0", "gpu-a-audio": "08.1"}, "gpu-a"),
        _GPU,
        config="layout: root-bus",
    ),
    Boot(
        "GPU and its audio, i440fx",
        _boot({"gpu-a": "0a.0", "gpu-a-audio": "0a.1"}, "gpu-a", passes=1),
        _GPU,
        machine="i440fx",
    ),
    Boot(
        "two GPUs of one resource",
        _boot({**_PAIR, "gpu-b": "10.1/00.0", "gpu-b-audio": "10.1/00.1"}, "gpu-a,gpu-b"),
        _TWO_GPUS,
        told=True,
    ),
    Boot(
        "two sockets, numa",
        _boot(
            {
                "gpu-a": "fc:00.0/00.0",
                "gpu-a-audio": "fc:00.0/00.1",
                "gpu-b": "fc:01.0/00.0",
                "gpu-b-audio": "fc:01.0/00.1",
                "switched": "fc:02.0/00.0",
                "vf-0": "f9:00.0/00.0",
                "nvme": "f9:01.0/00.0",
            },
            "gpu-a,gpu-b; switched; vf-0,nvme",
        ),
        {"gpu0": "gpu-a", "gpu1": "gpu-b", "edu": "switched", "disk": "nvme", "vf": "vf-0"},
        config="{layout: numa, strict: true}",
        cells=2,
    ),
    Boot(
        "behind a switch, and an NVMe, root-port; used by Linux",
        _boot(
            {"switched": "10.0/00.0", "nvme": "10.1/00.0"},
            "switched; nvme",
            **{
                "Linux sees": "switched nvme",
                "register written and read": _WRITTEN,
                "block read by DMA": NVME_TEXT,
            },
        ),
        {"edu": "switched", "disk": "nvme"},
        linux=True,
        is_extra=True,
    ),
    Boot(
        "resource claims (DRA): metadata files instead of variables",
        _boot(
            {**_PAIR, "nvme": "10.1/00.0"},
            "by claims",
            **{
                "aliases": "ua-dra-gpu-gpu0 ua-dra-hostdevice-disk",
                "planned by --dra-metadata": "the same addresses",
            },
        ),
        {},
        claims={"gpu0": "gpu-a", "disk": "nvme"},
    ),
    Boot(
        "UEFI, root-port",
        _boot(_PAIR, "gpu-a"),
        _GPU,
        uefi=True,
    ),
    Boot(
        "UEFI, two sockets, numa",
        _boot(
            {
                "gpu-b": "fe:00.0/00.0",
                "gpu-b-audio": "fe:00.0/00.1",
                "nvme": "fc:00.0/00.0",
            },
            "gpu-b; nvme",
        ),
        {"gpu0": "gpu-b", "disk": "nvme"},
        config="{layout: numa, strict: true}",
        cells=2,
        uefi=True,
        suites=("trixie",),
    ),
    Boot(
        "UEFI, two sockets, mirror",
        _boot(
            {
                "gpu-b": "fa:00.0/00.0",
                "gpu-b-audio": "fa:00.0/00.1",
                "switched": "fa:01.0/00.0/00.0/00.0",
                "beside": "fa:01.0/00.0/01.0/00.0",
                "nvme": "f8:00.0/00.0",
            },
            "gpu-b; switched,beside; nvme",
        ),
        {"gpu0": "gpu-b", "edu1": "switched", "edu2": "beside", "disk": "nvme"},
        config="{layout: mirror, strict: true}",
        cells=2,
        uefi=True,
        suites=("trixie",),
    ),
    Boot("a virtual function", _boot({"vf-0": "10.0/00.0"}, "vf-0"), {"vf": "vf-0"}),
    Boot(
        "managed=yes, from the native driver and back",
        _boot({"nic": "10.0/00.0"}, "by hand"),
        {"nic": "nic"},
        told=True,
        by_hand=True,
    ),
    Boot("managed=no, on vfio-pci", _boot(_PAIR, "gpu-a"), _GPU, config="managed: no"),
    Boot(
        "uid 107's own libvirt, managed=yes, on vfio-pci",
        _boot(_PAIR, "gpu-a"),
        _GPU,
        session=True,
    ),
    Boot(
        "uid 107's own libvirt, managed=yes, native driver",
        {
            "allocated": "by hand",
            "passes": "3, same addresses",
            "libvirt refuses": "~Permission denied",
            "drivers after": "as before",
        },
        {"nic": "nic"},
        told=True,
        by_hand=True,
        session=True,
    ),
    SideBySide(
        "two VMs side by side; a third gets what the first gave back",
        {
            "first": "gpu-a 10.0/00.0",
            "second": "gpu-b 10.0/00.0",
            "third, while the second runs": "gpu-a 10.0/00.0",
            "the first's function for a fourth": "~is in use by driver .*, domain default_third",
        },
        ("gpu-a", "gpu-b"),
    ),
    Refused(
        "refused without our driver: no modules.alias where libvirt looks",
        {"ours": "nothing", "libvirt's": "~Failed to open file '/lib/modules/.*/modules.alias'"},
        _GPU,
        libvirts_model="",
        suites=("trixie",),
    ),
    Refused(
        "refused: group not viable",
        {
            "ours": "~gpu-b: IOMMU group N: its function gpu-b-audio is bound to 'snd_hda_intel', "
            "so the group cannot be given to a VM; bind gpu-b-audio to vfio-pci on the node",
            "libvirt's": "~group N is not viable",
        },
        {"gpu0": "gpu-b"},
        drivers={"gpu-b-audio": "native"},
    ),
    Refused(
        "refused: function gone",
        {
            "ours": "~nic .*the node has no such function; see whether it was unplugged",
            "libvirt's": "~Device nic not found",
        },
        {"nic": "nic"},
        removed=("nic",),
    ),
    Refused(
        "refused: driver changed since discovery",
        {
            # Or, if the plugin has just seen it: what is wrong with it now.
            "ours": "~switched .*(its driver was 'vfio-pci' and is '' now|bound to no driver now)",
            "libvirt's": "~Unmanaged PCI device switched must be manually detached",
        },
        {"edu": "switched"},
        drivers={"switched": ""},
        at_allocate=True,
        libvirts_managed="no",
    ),
    Refused(
        "refused: native driver, managed=no",
        {
            "ours": "~nic: IOMMU group N: its function nic is bound to 'e1000e', so the group",
            "libvirt's": "~Unmanaged PCI device nic must be manually detached",
        },
        {"nic": "nic"},
        config="managed: no",
        libvirts_managed="no",
    ),
    Refused(
        "refused: guest slot taken",
        {
            "ours": "~slots.gpu0: '0000:00:09.0' is that of disk ua-rootdisk; pin to",
            "libvirt's": "~Attempted double use of PCI Address 0000:00:09.0",
        },
        _GPU,
        config="{layout: root-bus, slots: {gpu0: '0000:00:09.0'}}",
        taken="0000:00:09.0",
    ),
    Health(
        "health, while the plugin runs",
        {
            "before": "Healthy",
            "unbound from vfio-pci": "Unhealthy",
            "bound to it again": "Healthy",
            "removed from the node": "gone",
            "rescanned, bound again": "Healthy",
            "its allocation then": "switched",
        },
        "switched",
    ),
)


def choose_cases(suite: str, only: str = "", extra: bool = False) -> tuple[Case, ...]:
    """Choose what is run on a level 1 of this suite.

    Args:
        suite: Of level 1.
        only: Text in the name of a case; with one, extra cases count too.
        extra: Whether they count without one.
    """
    return tuple(
        case
        for case in CASES
        if suite in case.suites and only in case.name and (extra or only or not case.is_extra)
    )


def judge(expect: Mapping[str, str], observed: Mapping[str, str]) -> list[str]:
    """Say each difference between what was expected and what was observed."""
    faults = []
    for key in dict.fromkeys((*expect, *observed)):
        want, got = expect.get(key, "nothing"), observed.get(key, "nothing")
        if not _is_as_expected(want, got):
            faults.append(f"{key}: {got!r}, expected {want!r}")
    return faults


def _is_as_expected(want: str, got: str) -> bool:
    return re.search(want[1:], got) is not None if want.startswith("~") else want == got
