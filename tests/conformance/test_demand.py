"""No device of any kind moves: what libvirt needs room for is counted, many of a kind together."""

from collections.abc import Sequence

import pytest
from libvirt_driver import LibvirtDriver, LibvirtRefusedError
from libvirt_trials import Trial, faults_of, trial

from launcher_hook.env import parse_allocations
from launcher_hook.render import Inputs

MANY = {"q35": 26, "pc": 8, "virt": 26}
"""Enough to reach our root ports on a PCIe machine, and our slots on i440fx."""

# A device of each kind that takes a PCI slot; {n} is a number of its own, {n:02x} the same.
KINDS = {
    "nvme": "<controller type='nvme' index='{n}'><serial>s{n}</serial></controller>",
    "sata": "<controller type='sata' index='{n}'/>",
    "usb": "<controller type='usb' index='{n}' model='nec-xhci'/>",
    "scsi": "<controller type='scsi' index='{n}' model='virtio-scsi'/>",
    "lsilogic": "<controller type='scsi' index='{n}' model='lsilogic'/>",
    "virtio-serial": "<controller type='virtio-serial' index='{n}'/>",
    "crypto": "<crypto model='virtio' type='qemu'><backend model='builtin'/></crypto>",
    "shmem": "<shmem name='s{n}'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
    "rng": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "virtiofs": "<filesystem><driver type='virtiofs'/><source dir='/x'/><target dir='t{n}'/>"
    "</filesystem>",
    "watchdog": "<watchdog model='i6300esb'/>",
    "sound-virtio": "<sound model='virtio'/>",
    "sound-ich9": "<sound model='ich9'/>",
    "input": "<input type='mouse' bus='virtio'/>",
    "vhost-scsi": "<hostdev mode='subsystem' type='scsi_host'>"
    "<source protocol='vhost' wwpn='naa.5123456789abcd{n:02x}'/></hostdev>",
    **{
        f"nic-{model or 'default'}": "<interface type='user'>"
        "<mac address='52:54:00:00:01:{n:02x}'/>"
        + (f"<model type='{model}'/></interface>" if model else "</interface>")
        for model in (
            "", "virtio", "virtio-transitional", "e1000", "E1000", "e1000e", "igb", "rtl8139",
            "vmxnet3", "pcnet", "tulip", "ne2k_pci", "usb-net",
        )
    },
    "vdpa": "<interface type='vdpa'><mac address='52:54:00:00:01:{n:02x}'/>"
    "<source dev='/dev/vhost-vdpa-{n}'/></interface>",
    "vhostuser": "<interface type='vhostuser'><mac address='52:54:00:00:01:{n:02x}'/>"
    "<source type='unix' path='/x/{n}' mode='server'/></interface>",
}  # fmt: skip

# Of these a guest has one, or they have their place by themselves: beside many of another kind.
SINGLES = {
    "pstore": "<pstore backend='acpi-erst'><path>/x/p</path><size unit='KiB'>8</size></pstore>",
    "pvpanic": "<panic model='pvpanic'/>",
    "iommu-intel": "<iommu model='intel'/>",
    "iommu-amd": "<iommu model='amd'/>",
    "iommu-virtio": "<iommu model='virtio'/>",
    "vsock": "<vsock model='virtio'><cid auto='no' address='3'/></vsock>",
    "pci-serial": "<serial type='pty'><target type='pci-serial' port='0'/></serial>",
    "scsi-hostdev": "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
    "<address bus='0' target='0' unit='0'/></source></hostdev>",
    "scsi-hostdev-and-disk": "<hostdev mode='subsystem' type='scsi'><source>"
    "<adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source></hostdev>"
    "<disk type='file' device='disk'><source file='/x/a'/><target dev='sdh' bus='scsi'/></disk>",
    "video-gpu": "<graphics type='vnc'/><video><model type='virtio'/></video>"
    "<video><model type='virtio'/></video>",
    "memory": "<memory model='virtio-pmem' access='shared'><source><path>/x/p</path></source>"
    "<target><size unit='MiB'>64</size></target></memory>",
}


def domain(machine: str, devices: Sequence[str]) -> bytes:
    arch, features = ("aarch64", "") if machine == "virt" else ("x86_64", "<acpi/>")
    return (
        "<domain type='qemu'><name>d</name><maxMemory slots='4' unit='MiB'>4096</maxMemory>"
        "<memory unit='MiB'>512</memory><vcpu>1</vcpu><memoryBacking><source type='memfd'/>"
        f"<access mode='shared'/></memoryBacking><os><type arch='{arch}' machine='{machine}'>hvm"
        f"</type></os><features>{features}</features><cpu><numa>"
        "<cell id='0' cpus='0' memory='512' unit='MiB' memAccess='shared'/></numa></cpu>"
        f"<devices>{''.join(devices)}</devices></domain>"
    ).encode()


def domains(machine: str) -> dict[str, bytes]:
    count = MANY[machine]
    found = {
        kind: domain(machine, [text.format(n=n) for n in range(count)])
        for kind, text in KINDS.items()
    }
    others = [KINDS["usb"].format(n=n) for n in range(count)]
    for kind, text in SINGLES.items():
        # The model of a SCSI controller that has none: lsilogic for 11.3, virtio-scsi for 12.8.
        if machine == "virt" and kind.startswith("scsi-hostdev"):
            continue
        found[kind] = domain(machine, [text])
        found[f"{kind}-beside-many"] = domain(machine, [text, *others])
    return found


def of(name: str, xml: bytes) -> Trial:
    functions = parse_allocations({"PCI_RESOURCE_X": "0000:a6:00.0,0000:a7:00.0"})
    return trial(name, Inputs(xml, allocations=functions))


@pytest.mark.parametrize("machine", MANY)
def test_no_device_of_any_kind_moves(machine: str, driver: LibvirtDriver) -> None:
    """What a libvirt or its QEMU does not have is refused without us already."""
    trials = [of(name, xml) for name, xml in domains(machine).items()]
    references = driver.read_back_all([t.reference for t in trials])
    answers = driver.read_back_all([t.ours for t in trials])
    faults, compared = [], 0
    for t, reference, answer in zip(trials, references, answers, strict=True):
        if isinstance(reference, LibvirtRefusedError):
            continue
        kind = t.name.partition("-")[0]
        if kind in ("crypto", "pstore") and f"<{kind}".encode() not in reference:
            continue  # 9.0 overlooks what it does not know
        compared += 1
        if isinstance(answer, LibvirtRefusedError):
            faults.append(f"{t.name}: {answer}")
        else:
            faults += faults_of(t, reference, answer)
    assert not faults, "\n".join(faults)
    print(f"{machine}: {compared} of {len(trials)} domains compared, 0 moved")
    if not all(isinstance(r, LibvirtRefusedError) and r.lacks_qemu for r in references):
        assert compared > 25
