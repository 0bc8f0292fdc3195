"""Whether the node has its IOMMU on and vfio at hand; for which word or setting it waits. Pure."""

from collections.abc import Iterator

from launcher_hook.doctor.finding import Finding, counted, fail, fine, unseen, warn
from launcher_hook.doctor.nodefacts import Kernel, NodeFacts
from launcher_hook.vfio import is_vfio_driver

_GRUB = (
    "to the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub or "
    "grub2-mkconfig) and reboot"
)

# Linux Documentation/admin-guide/kernel-parameters.txt: each of them may be "off".
_WORDS = ("intel_iommu", "amd_iommu", "iommu")

# ACPI tables by which the firmware tells of an IOMMU: VT-d (DMAR), AMD-Vi (IVRS).
_INTEL, _INTEL_TABLE = "GenuineIntel", "DMAR"
_AMD, _AMD_TABLE = ("AuthenticAMD", "HygonGenuine"), "IVRS"

_NO_IOMMU = "vfio/noiommu-"  # Linux drivers/vfio/group.c: groups without an IOMMU below them


def check_iommu(facts: NodeFacts) -> Iterator[Finding]:
    """Groups count for more than words: with them the IOMMU is on, whatever made it so."""
    groups = {f.iommu_group for f in facts.functions if f.iommu_group is not None}
    where = facts.kernel.place("kernel/iommu_groups", "IOMMU groups")
    if groups:
        said = [w for w in facts.kernel.words or () if w.partition("=")[0] in _WORDS]
        words = f"; the command line has {' '.join(said)}" if said else ""
        yield fine("IOMMU", where, f"{counted(len(groups), 'group')} with PCI functions{words}")
    else:
        what, fix = _why_off(facts.kernel)
        yield fail("IOMMU", where, f"no PCI function is in an IOMMU group{what}", fix)
    fakes = sorted(n for n in facts.nodes or () if n.startswith(_NO_IOMMU))
    if fakes:
        yield fail(
            "IOMMU",
            f"/dev/{fakes[0]}",
            "vfio's no-IOMMU mode is on, which libvirt does not use",
            "turn the IOMMU on, and enable_unsafe_noiommu_mode of the vfio module off",
        )


def _why_off(kernel: Kernel) -> tuple[str, str]:
    words = {}
    for word in kernel.words or ():
        name, _, value = word.partition("=")
        if name in _WORDS:
            words[word] = (name, value.split(","))
    off = [word for word, (_, values) in words.items() if "off" in values]
    if off:
        return f": the command line has {off[0]!r}", "take that word out of it and reboot"
    if kernel.is_guest:
        return (
            ", and this node is a virtual machine",
            "give that virtual machine an IOMMU (libvirt: <iommu model='intel'/> and "
            f"<ioapic driver='qemu'/>); with Intel's model add intel_iommu=on {_GRUB}",
        )
    is_told = any(name == "intel_iommu" and "on" in values for name, values in words.values())
    if kernel.cpu_vendor == _INTEL:
        return _why_off_on_intel(kernel, is_told)
    if kernel.cpu_vendor in _AMD:
        if kernel.tables is not None and _AMD_TABLE not in kernel.tables:
            return (
                f": the firmware tells of none (no ACPI table {_AMD_TABLE})",
                "turn IOMMU (AMD-Vi) on in the firmware's setup; Linux then uses it unasked",
            )
        return "", "turn IOMMU (AMD-Vi) on in the firmware's setup; see dmesg | grep AMD-Vi"
    if kernel.cpu_vendor == "":
        return "", "turn the SMMU on in the firmware's setup; see dmesg | grep -i smmu"
    return (
        "",
        f"turn VT-d or AMD-Vi on in the firmware's setup; on Intel also add intel_iommu=on {_GRUB}",
    )


def _why_off_on_intel(kernel: Kernel, is_told: bool) -> tuple[str, str]:
    has_table = None if kernel.tables is None else _INTEL_TABLE in kernel.tables
    word = f"add intel_iommu=on {_GRUB}"
    if has_table is False:
        what = f": the firmware tells of none (no ACPI table {_INTEL_TABLE})"
        fix = "turn VT-d on in the firmware's setup"
        return what, fix if is_told else f"{fix}, and {word}"
    if is_told:
        return (
            ", although the command line has intel_iommu=on",
            "turn VT-d on in the firmware's setup; see dmesg | grep DMAR",
        )
    if kernel.words is None:
        return "", f"turn VT-d on in the firmware's setup, and {word}"
    what = ": the command line has no 'intel_iommu=on'"
    return what, word if has_table else f"{word}; turn VT-d on in the firmware's setup"


def check_vfio(facts: NodeFacts, wanted: bool) -> Iterator[Finding]:
    """The driver, and the node that QEMU opens first.

    Args:
        facts: The node.
        wanted: Whether the node has functions for VMs at all; without them it is no error.
    """
    complain = fail if wanted else warn
    where = facts.kernel.place("bus/pci/drivers/vfio-pci", "drivers")
    bound = {f.driver for f in facts.functions if f.driver and is_vfio_driver(f.driver)}
    if bound:
        yield fine("vfio-pci", where, f"functions are bound to {', '.join(sorted(bound))}")
    elif facts.kernel.has_vfio_pci:
        yield fine("vfio-pci", where, "the driver is there")
    elif facts.kernel.has_vfio_pci is None:
        yield unseen("vfio-pci", "whether the driver is there", "run it on the node, or give /sys")
    else:
        yield complain(
            "vfio-pci",
            where,
            "the kernel has no such driver now",
            "modprobe vfio-pci; for every boot: echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
        )
    if facts.nodes is None:
        yield unseen("/dev/vfio", "the device nodes", "give the node's /dev by --dev")
    elif "vfio/vfio" in facts.nodes:
        also = "; /dev/iommu is there too" if "iommu" in facts.nodes else ""
        yield fine("/dev/vfio", "/dev/vfio/vfio", f"it is there{also}")
    else:
        yield complain(
            "/dev/vfio", "/dev/vfio/vfio", "it is not there", "modprobe vfio-pci; it comes with it"
        )


def check_locked_memory(kernel: Kernel) -> Finding:
    """What a container may lock; KubeVirt raises it for a VM that asks for devices."""
    locked = kernel.locked
    if locked is None:
        return unseen("memlock", "what a container may lock", "give the node's /proc by --proc")
    if locked.most_bytes is None:
        return fine("memlock", locked.whose, "it may lock as much memory as it likes")
    return fine(
        "memlock",
        locked.whose,
        f"it may lock {locked.most_bytes} bytes; KubeVirt lifts that for VMs with gpus, "
        "hostDevices or SR-IOV interfaces",
    )
