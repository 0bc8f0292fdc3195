"""From an allocation to a running VM: sidecar, launcher, three passes, libvirt."""

import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launcher import Launcher, running_sidecar
from launcher_passes import next_pass
from lxml import etree

from e2e.claims import ClaimEntry, read_address
from e2e.node import QEMU_USER
from e2e.vm import Libvirt, as_user, console_of
from launcher_hook.pci import PciAddress

PLACE = Path("/opt/e2e")
# Without services of ports (hotplug, errors), and windows for what may be plugged in: there are 28
# ports, and they take their time.
GUEST_KERNEL_LINE = (
    "console=ttyS0 panic=-1 mitigations=off nokaslr tsc=reliable cryptomgr.notests "
    "pcie_ports=compat pci=hpiosize=0,hpmemsize=0 apparmor=0 ipv6.disable=1 quiet"
)
OVMF = Path("/usr/share/OVMF")
UEFI_MIB = 256
"""Memory of a VM with UEFI: OVMF does not run in as little as SeaBIOS."""
SPARE_PORTS = (0, 3)  # that the launcher adds before pass 2 and before pass 3
START_S = 300  # of a sidecar: emulated, and beside others
ANNOTATION = "passthrough.launcher-hook.io/config"


@dataclass(frozen=True)
class Pod:
    """A launcher pod: what the VMI asks for, and what kubelet has put into its environment.

    Attributes:
        name: Of the VM.
        machine: Of the domain: q35 or i440fx.
        entries: Resource by name of an entry of ``gpus[]``.
        variables: As Allocate gave them.
        config: Our annotation.
        told: The sidecar knows the variables by ``--env`` and the domain has no hostdevs; if not,
            it is a stock one, and virt-launcher has written the hostdevs.
        cells: NUMA cells with as much memory each, bound to level 1's nodes of the same numbers.
        disk_address: Guest address of the disk, as ``disk.pciAddress`` of a VMI asks for one.
        linux: Boot a Linux that prints what it sees, instead of the firmware only.
        claims: Entries that have their devices from resource claims.
        metadata: Where the compute container has the metadata files of these claims.
        uefi: The firmware is OVMF.
    """

    name: str
    machine: str
    entries: Mapping[str, str]
    variables: Mapping[str, str]
    config: str = ""
    told: bool = False
    linux: bool = False
    cells: int = 0
    disk_address: str = ""
    claims: Sequence[ClaimEntry] = ()
    metadata: Path = Path("/var/run/kubernetes.io/dra-device-attributes")
    uefi: bool = False
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def domain_name(self) -> str:
        return f"default_{self.name}"

    def vmi(self) -> bytes:
        devices: dict[str, list[dict[str, str]]] = {"gpus": [], "hostDevices": []}
        for entry, resource in self.entries.items():
            devices["gpus"].append({"name": entry, "deviceName": resource})
        for claimed in self.claims:
            devices[claimed.kind].append(
                {
                    "name": claimed.name,
                    "claimName": claimed.claim,
                    "requestName": claimed.request,
                }
            )
        metadata = {"name": self.name, "namespace": "default", "uid": self.uid}
        if self.config:
            metadata["annotations"] = {ANNOTATION: self.config}  # type: ignore[assignment]
        vmi = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": metadata,
            "spec": {
                "domain": {"devices": devices},
                "resourceClaims": [claimed.pod_claim for claimed in self.claims],
            },
        }
        return json.dumps(vmi).encode()

    def domain(self, hostdevs: bool = True) -> bytes:
        """What virt-launcher hands to the hook in pass 1; or that without its hostdevs."""
        domain = etree.fromstring((PLACE / f"{self.machine}.xml").read_bytes())
        set_text(domain, "name", self.domain_name)
        identity = etree.Element("uuid")
        identity.text = self.uid
        domain.insert(1, identity)
        devices = domain.find("devices")
        for target in devices.iterfind("interface/target"):
            target.set("dev", make_tap(self.uid))
        for mac in devices.iterfind("interface/mac"):
            mac.set("address", f"02:00:00:00:00:{int(self.uid[:2], 16):02x}")
        for source in devices.iterfind("disk/source"):
            source.set("file", make_disk(self.name))
            if self.disk_address:
                disk = source.getparent()
                disk.append(address_element(self.disk_address))
        if hostdevs and not self.told:
            self._write_hostdevs(devices)
        if self.linux:
            self._boot_linux(domain)
        if self.uefi:
            self._write_firmware(domain)
        if self.cells:
            self._write_cells(domain)
        return etree.tostring(domain)

    def _write_hostdevs(self, devices: etree._Element) -> None:
        """As virt-launcher: entries in their order take the addresses of their variable."""
        from launcher_hook.env import parse_allocations, variable_of

        allocations = parse_allocations(self.variables)
        left = {name: list(a.sources) for name, a in allocations.items()}
        aliases = {}
        for name, resource in self.entries.items():
            aliases[f"ua-gpu-{name}"] = left[variable_of(resource)].pop(0)
        for claimed in self.claims:
            aliases[claimed.alias] = PciAddress.parse(read_address(self.metadata, claimed))
        for alias, address in aliases.items():
            hostdev = etree.SubElement(devices, "hostdev", type="pci", managed="no")
            source = etree.SubElement(hostdev, "source")
            etree.SubElement(
                source, "address", type="pci", domain=f"0x{address.domain:04x}",
                bus=f"0x{address.bus:02x}", slot=f"0x{address.slot:02x}",
                function=f"0x{address.function:x}",
            )  # fmt: skip
            etree.SubElement(hostdev, "alias", name=alias)

    def _boot_linux(self, domain: etree._Element) -> None:
        place = domain.find("os")
        domain.find("vcpu").text = "1"
        domain.find("cpu/topology").set("cores", "1")
        for tag, text in (
            ("kernel", str(PLACE / "guest-kernel")),
            ("initrd", str(PLACE / "guest.cpio")),
            ("cmdline", GUEST_KERNEL_LINE),
        ):
            etree.SubElement(place, tag).text = text
        serial = etree.SubElement(domain.find("devices"), "serial", type="file")
        etree.SubElement(serial, "source", path=str(console_of(self.domain_name)))
        etree.SubElement(serial, "target", port="0")

    def _write_firmware(self, domain: etree._Element) -> None:
        """As virt-launcher for ``firmware.bootloader.efi``, from Debian's package."""
        set_text(domain, "memory", str(UEFI_MIB << 20))
        place = domain.find("os")
        loader = etree.SubElement(place, "loader", readonly="yes", secure="no", type="pflash")
        loader.text = str(OVMF / "OVMF_CODE_4M.fd")
        variables = etree.SubElement(place, "nvram", template=str(OVMF / "OVMF_VARS_4M.fd"))
        variables.text = f"/tmp/{self.name}_VARS.fd"

    def _write_cells(self, domain: etree._Element) -> None:
        """As virt-launcher for guestMappingPassthrough.

        Without vcpupin, for which there are no threads without KVM. Linux has one CPU, in cell 0:
        level 1's other processor is for the other cases.
        """
        cpus = 1 if self.linux else self.cells
        set_text(domain, "vcpu", str(cpus))
        domain.find("cpu/topology").set("cores", str(cpus))
        numa = etree.SubElement(domain.find("cpu"), "numa")
        tune = etree.SubElement(domain, "numatune")
        nodes = ",".join(map(str, range(self.cells)))
        etree.SubElement(tune, "memory", mode="strict", nodeset=nodes)
        memory = int(domain.findtext("memory")) // self.cells
        for number in range(self.cells):
            cell = etree.SubElement(numa, "cell", id=str(number), memory=str(memory), unit="b")
            if number < cpus:
                cell.set("cpus", str(number))
            etree.SubElement(
                tune, "memnode", cellid=str(number), mode="strict", nodeset=str(number)
            )


def address_element(text: str) -> etree._Element:
    """A guest address, as libvirt writes it."""
    address = PciAddress.parse(text)
    return etree.Element(
        "address", type="pci", domain="0x0000", bus=f"0x{address.bus:02x}",
        slot=f"0x{address.slot:02x}", function=f"0x{address.function:x}",
    )  # fmt: skip


def set_text(domain: etree._Element, tag: str, text: str) -> None:
    element = domain.find(tag)
    element.text = text


def make_tap(uid: str) -> str:
    """The interface that virt-launcher has made for the VM already."""
    tap = f"tap{uid[:8]}"
    if not Path(f"/sys/class/net/{tap}").exists():
        subprocess.run(
            ["ip", "tuntap", "add", tap, "mode", "tap", "user", str(QEMU_USER)], check=True
        )
    return tap


def make_disk(name: str) -> str:
    file = Path(f"/tmp/{name}.disk")
    with file.open("wb") as disk:
        disk.truncate(1 << 20)
    file.chmod(0o666)
    return str(file)


@contextmanager
def sidecar(pod: Pod, *arguments: str, out: Path = Path("/out")) -> Iterator[Launcher]:
    """Run the pod's hook sidecar as its user, and have a launcher collect it."""
    more = [word for n, v in pod.variables.items() if pod.told for word in ("--env", f"{n}={v}")]
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        directory = root / "hook-sidecar-0"
        directory.mkdir()
        subprocess.run(["chown", f"{QEMU_USER}:{QEMU_USER}", directory], check=True)
        with running_sidecar(
            *more, *arguments, directory=directory, prefix=as_user(), wait=False
        ) as running:
            try:
                running.wait_for_socket(poll_s=0.1)
                launcher = Launcher(root)
                launcher.collect(1, START_S, START_S)
                yield launcher
                launcher.shut_down()
                assert running.process.wait(60) == 0
            finally:
                with (out / "sidecar.jsonl").open("a") as log:
                    log.write(running.log.read_text())


def define(pod: Pod, launcher: Launcher, libvirt: Libvirt) -> tuple[bytes, str]:
    """Go through the launcher's passes.

    Returns:
        What libvirt has in the end, and how many passes gave our devices the same addresses.
    """
    vmi, domain = pod.vmi(), pod.domain()
    count = 1 if pod.machine == "i440fx" else len(SPARE_PORTS) + 1
    addresses = []
    for number in range(count):
        sent = launcher.on_define_domain(domain, vmi)
        addresses.append(guest_addresses(sent))
        read_back = libvirt.define(sent)
        if number + 1 < count:
            domain = next_pass(sent, read_back, SPARE_PORTS[number])
    same = all(other == addresses[0] for other in addresses)
    return sent, f"{count}, same addresses" if same else f"they differ: {addresses}"


def guest_addresses(xml: bytes) -> dict[str, dict[str, str]]:
    """What we wrote: address by alias."""
    return {
        hostdev.find("alias").get("name"): dict(hostdev.find("address").attrib)
        for hostdev in etree.fromstring(xml).iterfind("devices/hostdev[@type='pci']")
    }
