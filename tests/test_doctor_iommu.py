"""Whether the IOMMU is on, vfio at hand, and what a container may lock: found, fine, not known."""

from dataclasses import replace
from pathlib import Path

import pytest
from hosttree import build_host_tree, gpu

from launcher_hook.deviceplugin.devices import Inventory
from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.iommu import check_iommu, check_locked_memory, check_vfio
from launcher_hook.doctor.nodefacts import (
    Kernel,
    LockedMemory,
    NodeFacts,
    parse_cpuinfo,
    parse_locked,
    read_kernel,
)
from launcher_hook.model import HostFunction
from launcher_hook.pci import PciAddress
from launcher_hook.sysfs import HostTree

GPU = HostFunction(PciAddress.parse("0000:86:00.0"), 0x10DE, 0x1F08, 0x030000, driver="vfio-pci")
INTEL = Kernel(cpu_vendor="GenuineIntel", is_guest=False, words=("quiet",), has_vfio_pci=True)
AMD = replace(INTEL, cpu_vendor="AuthenticAMD")


def node(kernel: Kernel, *functions: HostFunction, nodes: set[str] | None = None) -> NodeFacts:
    return NodeFacts(
        kernel, functions, Inventory(), nodes=None if nodes is None else frozenset(nodes)
    )


def only(findings: object) -> Finding:
    (finding,) = findings  # type: ignore[misc]
    assert isinstance(finding, Finding)
    return finding


def test_groups_count_more_than_words() -> None:
    grouped = replace(GPU, iommu_group=42)
    finding = only(check_iommu(node(INTEL, grouped)))
    assert (finding.severity, finding.where) == ("ok", "/sys/kernel/iommu_groups")
    told = replace(INTEL, words=("quiet", "intel_iommu=on", "iommu=pt"))
    finding = only(check_iommu(node(told, grouped)))
    assert finding.what == (
        "1 group with PCI functions; the command line has intel_iommu=on iommu=pt"
    )


@pytest.mark.parametrize(
    ("kernel", "what", "fix"),
    [
        (INTEL, "the command line has no 'intel_iommu=on'", "add intel_iommu=on to the kernel"),
        (
            replace(INTEL, tables=frozenset({"DMAR"})),
            "the command line has no 'intel_iommu=on'",
            "update-grub or grub2-mkconfig) and reboot",
        ),
        (
            replace(INTEL, tables=frozenset({"APIC"})),
            "the firmware tells of none (no ACPI table DMAR)",
            "turn VT-d on in the firmware's setup, and add intel_iommu=on",
        ),
        (
            replace(INTEL, words=("intel_iommu=sm_on,on",)),
            "although the command line has intel_iommu=on",
            "turn VT-d on in the firmware's setup; see dmesg | grep DMAR",
        ),
        (
            replace(INTEL, words=("intel_iommu=on", "intel_iommu=off")),
            "the command line has 'intel_iommu=off'",
            "take that word out",
        ),
        (replace(AMD, words=("amd_iommu=off",)), "has 'amd_iommu=off'", "take that word out"),
        (replace(AMD, words=("iommu=off",)), "has 'iommu=off'", "take that word out"),
        (AMD, "no PCI function is in an IOMMU group", "turn IOMMU (AMD-Vi) on in the firmware's"),
        (
            replace(AMD, tables=frozenset({"APIC"})),
            "no ACPI table IVRS",
            "Linux then uses it unasked",
        ),
        (replace(INTEL, is_guest=True), "this node is a virtual machine", "<iommu model='intel'/>"),
        (replace(INTEL, cpu_vendor=""), "no PCI function", "turn the SMMU on"),
        (Kernel(), "no PCI function", "VT-d or AMD-Vi on in the firmware's setup; on Intel also"),
        (
            replace(INTEL, words=None),
            "no PCI function",
            "turn VT-d on in the firmware's setup, and",
        ),
    ],
)
def test_without_groups_the_missing_word_or_setting_is_named(
    kernel: Kernel, what: str, fix: str
) -> None:
    finding = only(check_iommu(node(kernel, GPU)))
    assert finding.severity == "error"
    assert what in finding.what
    assert fix in finding.fix


def test_groups_without_an_iommu_below_them_are_none() -> None:
    grouped = replace(GPU, iommu_group=0)
    _, finding = check_iommu(node(INTEL, grouped, nodes={"vfio/vfio", "vfio/noiommu-0"}))
    assert (finding.severity, finding.where) == ("error", "/dev/vfio/noiommu-0")
    assert "enable_unsafe_noiommu_mode" in finding.fix


def test_the_driver_is_seen_by_itself_or_by_who_is_bound_to_it() -> None:
    unbound = replace(GPU, driver="nvidia")
    finding, _ = check_vfio(node(replace(INTEL, has_vfio_pci=None), GPU), wanted=True)
    assert (finding.severity, finding.what) == ("ok", "functions are bound to vfio-pci")
    finding, _ = check_vfio(node(INTEL, unbound), wanted=True)
    assert finding.severity == "ok"
    finding, _ = check_vfio(node(replace(INTEL, has_vfio_pci=None), unbound), wanted=True)
    assert finding.severity == "not checked"


@pytest.mark.parametrize(("wanted", "severity"), [(True, "error"), (False, "warning")])
def test_a_missing_driver_or_node_is_an_error_only_where_something_is_for_vms(
    wanted: bool, severity: str
) -> None:
    kernel = replace(INTEL, has_vfio_pci=False)
    driver, container = check_vfio(node(kernel, nodes=set()), wanted=wanted)
    assert (driver.severity, container.severity) == (severity, severity)
    assert driver.fix.startswith("modprobe vfio-pci; for every boot: ")
    assert container.where == "/dev/vfio/vfio"


def test_the_container_node_is_there_or_not_known() -> None:
    _, finding = check_vfio(node(INTEL, nodes={"vfio/vfio", "iommu"}), wanted=True)
    assert (finding.severity, finding.what) == ("ok", "it is there; /dev/iommu is there too")
    _, finding = check_vfio(node(INTEL), wanted=True)
    assert (finding.severity, finding.fix) == ("not checked", "give the node's /dev by --dev")


def test_locked_memory_is_told_and_kubevirts_part_in_it() -> None:
    limited = check_locked_memory(replace(INTEL, locked=LockedMemory("containerd", 65536)))
    assert (limited.severity, limited.where) == ("ok", "containerd")
    assert "65536 bytes; KubeVirt lifts that for VMs with gpus" in limited.what
    free = check_locked_memory(replace(INTEL, locked=LockedMemory("containerd", None)))
    assert "as much memory as it likes" in free.what
    assert check_locked_memory(INTEL).severity == "not checked"


def test_a_limits_file_is_read_as_the_kernel_writes_it() -> None:
    head = "Limit                     Soft Limit           Hard Limit           Units     \n"
    line = "Max locked memory         {0}              unlimited              bytes     \n"
    assert parse_locked(head + line.format("8388608")) == 8388608
    assert parse_locked(head + line.format("unlimited")) is None
    with pytest.raises(ValueError, match="no locked memory"):
        parse_locked("Max open files 1 1 files\n")


def test_the_processor_says_its_vendor_and_whether_it_is_a_guests() -> None:
    text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n\nvendor_id: x\n"
    assert parse_cpuinfo(text) == ("AuthenticAMD", True)
    assert parse_cpuinfo(text.replace(" hypervisor", "")) == ("AuthenticAMD", False)
    assert parse_cpuinfo("processor : 0\nCPU implementer : 0x41\n") == ("", None)


def test_kernel_firmware_and_runtime_are_read_below_the_given_roots(tmp_path: Path) -> None:
    sysfs = build_host_tree(tmp_path / "sys", gpu("0000:86:00.0", group=42))
    (sysfs / "firmware/acpi/tables/DMAR").mkdir(parents=True)
    proc = tmp_path / "proc"
    for process, command in (("7", "containerd"), ("8", "bash"), ("self", "doctor")):
        (proc / process).mkdir(parents=True)
        (proc / process / "comm").write_text(f"{command}\n")
        (proc / process / "limits").write_text("Max locked memory 65536 65536 bytes\n")
    (proc / "cmdline").write_text("root=/dev/sda intel_iommu=on\n")
    (proc / "cpuinfo").write_text("vendor_id : GenuineIntel\nflags : fpu\n")
    kernel = read_kernel(sysfs, proc, HostTree(sysfs))
    assert kernel == Kernel(
        str(sysfs), ("root=/dev/sda", "intel_iommu=on"), "GenuineIntel", False,
        frozenset({"DMAR"}), True, LockedMemory("containerd (process 7)", 65536),
    )  # fmt: skip
    (proc / "7/limits").unlink()
    assert read_kernel(sysfs, proc, HostTree(sysfs)).locked == LockedMemory(f"{proc}/self", 65536)
    assert read_kernel(sysfs, None, HostTree(sysfs)).words is None
    assert read_kernel(sysfs, tmp_path, HostTree(sysfs)).locked is None
