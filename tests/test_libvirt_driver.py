"""The driver drives, and takes every domain that a launcher has written."""

import shutil
from pathlib import Path

import pytest
from libvirt_driver import (
    LibvirtDriver,
    LibvirtRefusedError,
    addresses,
    for_this_machine,
    guest_paths,
    moved,
    moved_in_guest,
    without_pci_hostdevs,
)
from lxml import etree

DOMAINS = Path(__file__).parents[2] / "shared/kubevirt-domains"
FILES = sorted(DOMAINS.glob("*.xml"))

PLAIN = b"""
<domain type='kvm'>
  <name>plain one</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/nowhere.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <memballoon model='none'/>%s
  </devices>
</domain>
"""
HOSTDEV = b"""
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x86' slot='0x00' function='0x0'/></source>
      <address type='pci' domain='0x0000' bus='%s' slot='0x00' function='0x0'/>
    </hostdev>"""
ROOT_PORT = b"""
    <controller type='pci' index='%d' model='pcie-root-port'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/>
    </controller>"""


@pytest.fixture(scope="module")
def answers(libvirt: LibvirtDriver) -> dict[str, bytes | LibvirtRefusedError]:
    documents = [without_pci_hostdevs(for_this_machine(file.read_bytes())) for file in FILES]
    names = [file.name for file in FILES]
    return dict(zip(names, libvirt.read_back_all(documents), strict=True))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_takes_a_domain_of_the_launchers(
    file: Path, answers: dict[str, bytes | LibvirtRefusedError]
) -> None:
    answer = answers[file.name]
    machine = etree.parse(file).xpath("string(os/type/@machine)")
    print(f"{file.name:60} {machine:20} {'ok' if isinstance(answer, bytes) else answer}")
    if isinstance(answer, LibvirtRefusedError):
        assert answer.lacks_qemu, answer


def test_reads_back_what_libvirt_added(libvirt: LibvirtDriver) -> None:
    assert addresses(libvirt.read_back(PLAIN % b"")) == {
        "controller usb qemu-xhci 0": "0000:01:00.0",
        "disk vda": "0000:02:00.0",
        "controller sata 0": "0000:00:1f.2",
        "controller pci pcie-root-port 1": "0000:00:01.0",
        "controller pci pcie-root-port 2": "0000:00:01.1",
        "controller pci pcie-root-port 3": "0000:00:01.2",
    }


def test_forgets_a_domain_that_it_has_read_back(libvirt: LibvirtDriver) -> None:
    first, second = libvirt.read_back_all([PLAIN % b"", (PLAIN % b"").replace(b"vda", b"vdb")])
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)


def test_refuses_in_libvirts_own_words(libvirt: LibvirtDriver) -> None:
    twice = PLAIN % (HOSTDEV % b"0x01" * 2)
    with pytest.raises(LibvirtRefusedError, match="Attempted double use of PCI Address"):
        libvirt.read_back(twice)
    taken, refused = libvirt.read_back_all([PLAIN % b"", twice])
    assert isinstance(taken, bytes)
    assert isinstance(refused, LibvirtRefusedError)


def test_shows_the_command_that_libvirt_would_run(libvirt: LibvirtDriver) -> None:
    xml = for_this_machine(PLAIN % (ROOT_PORT % 24 + HOSTDEV % b"0x18"))
    command = libvirt.qemu_argv(xml)
    assert command[0] == "/usr/bin/qemu-system-x86_64"
    assert any(
        '"driver":"vfio-pci","host":"0000:86:00.0"' in word and '"bus":"pci.24"' in word
        for word in command
    )


def test_names_the_devices_that_a_root_port_at_a_low_index_moves(libvirt: LibvirtDriver) -> None:
    reference = libvirt.read_back(PLAIN % b"")
    low = libvirt.read_back(PLAIN % (ROOT_PORT % 1 + HOSTDEV % b"0x01"))
    assert "disk vda: 0000:02:00.0 -> 0000:03:00.0" in moved(reference, low)
    assert "hostdev 0" not in addresses(low)
    assert addresses(low, with_hostdevs=True)["hostdev 0"] == "0000:01:00.0"


def test_a_root_port_at_a_high_index_moves_nothing(libvirt: LibvirtDriver) -> None:
    reference = libvirt.read_back(PLAIN % b"")
    high = libvirt.read_back(PLAIN % (ROOT_PORT % 24 + HOSTDEV % b"0x18"))
    assert moved(reference, high) == []


def test_a_guest_does_not_see_that_the_bridge_of_a_conventional_nic_has_another_index(
    libvirt: LibvirtDriver,
) -> None:
    nic = b"""
    <interface type='user'>
      <mac address='52:54:00:00:00:01'/>
      <model type='e1000'/>
    </interface>"""
    reference = libvirt.read_back(PLAIN % nic)
    ours = libvirt.read_back(PLAIN % (nic + ROOT_PORT % 24 + HOSTDEV % b"0x18"))
    assert "interface 52:54:00:00:00:01: 0000:02:01.0 -> 0000:1a:01.0" in moved(reference, ours)
    assert moved_in_guest(reference, ours) == []
    assert guest_paths(ours)["interface 52:54:00:00:00:01"] == "01.0/00.0/01.0"


def test_a_guest_sees_a_root_port_that_took_the_place_of_others(libvirt: LibvirtDriver) -> None:
    reference = libvirt.read_back(PLAIN % b"")
    ours = libvirt.read_back(PLAIN % (ROOT_PORT.replace(b"0x10", b"0x01") % 1 + HOSTDEV % b"0x01"))
    assert "disk vda: 01.1/00.0 -> 01.2/00.0" in moved_in_guest(reference, ours)


def test_a_device_that_is_gone_has_moved() -> None:
    assert moved(
        b"<domain><devices><rng><address type='pci' bus='0x01' slot='0'/></rng></devices></domain>",
        b"<domain><devices/></domain>",
    ) == ["rng 0: 0000:01:00.0 -> gone"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_leaves_devices_and_their_addresses_alone(file: Path) -> None:
    xml = file.read_bytes()
    mended = for_this_machine(xml)
    assert for_this_machine(mended) == mended
    assert addresses(mended, with_hostdevs=True) == addresses(xml, with_hostdevs=True)


@pytest.mark.skipif(shutil.which("tini") is None, reason="not installed: tini")
def test_a_hang_ends_and_is_tried_once_more(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    slow_at_first = f"echo run >> {runs}; [ $(wc -l < {runs}) -gt 1 ] || sleep 60"
    with (
        LibvirtDriver(prefix=("sh", "-c", slow_at_first), timeout_s=0.5) as driver,
        pytest.raises(LibvirtRefusedError),
    ):
        driver.read_back(PLAIN % b"")
    assert runs.read_text() == "run\nrun\n"
