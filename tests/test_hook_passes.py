"""Every domain of a real launcher, through a real sidecar process, as the launcher does it.

Scan, Info, the passes with libvirt and KubeVirt's read-back between them, Shutdown.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from cases import CASES, shared_domains
from launcher import Launcher, running_sidecar
from launcher_passes import next_pass
from libvirt_driver import LibvirtDriver, for_this_machine
from lxml import etree

SPARE_PORTS = (0, 3)  # that the launcher adds before pass 2 and before pass 3
EIGHT = ",".join(f"0000:{bus:02x}:00.0" for bus in range(0xA0, 0xA8))


def first_passes() -> list[tuple[str, bytes, bytes]]:
    """Name, domain and VMI of each first pass; the README's case where the folder is absent."""
    files = [file for file in shared_domains() if not file.stem.startswith(("p2-", "p3-"))]
    files = files or [CASES / "stock-sidecar" / "domain.xml"]
    passes = []
    for file in files:
        own, other = file.with_name(f"{file.stem}.vmi.json"), file.with_name("vmi.json")
        vmi = own if own.exists() else other
        passes.append((file.stem, file.read_bytes(), vmi.read_bytes()))
    return passes


def devices_of(domain: bytes) -> dict[str, list[str]]:
    """Alias, then management, driver, source and guest address of each passed-through device.

    libvirt writes its defaults out: managed and display of a mediated device, both off.
    """
    devices = {}
    for hostdev in etree.fromstring(domain).xpath("devices/hostdev[@type='pci' or @type='mdev']"):
        parts = [
            f"{path}: {sorted(found.attrib.items())}"
            for path in ("driver", "source/address", "address")
            for found in hostdev.iterfind(path)
        ]
        managed = hostdev.get("managed", "no")
        devices[hostdev.find("alias").get("name")] = [f"managed: {managed}", *parts]
    return devices


def read_back(libvirt: LibvirtDriver, domains: Sequence[bytes]) -> list[bytes | None]:
    """What libvirt makes of them; None where this machine has no QEMU for it."""
    answers = libvirt.read_back_all([for_this_machine(domain) for domain in domains])
    for answer in answers:
        assert isinstance(answer, bytes) or answer.lacks_qemu, answer
    return [answer if isinstance(answer, bytes) else None for answer in answers]


@pytest.mark.parametrize(
    "arguments", [(), ("--env", f"PCI_RESOURCE_EXAMPLE={EIGHT}")], ids=["stock", "with-variables"]
)
def test_three_passes_of_every_launcher_domain_agree(
    arguments: tuple[str, ...], libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    names, domains, vmis = (list(column) for column in zip(*first_passes(), strict=True))
    directory = tmp_path / "hook-sidecar-0"
    directory.mkdir()
    with running_sidecar("--sysfs", "/nonexistent", *arguments, directory=directory) as sidecar:
        launcher = Launcher(tmp_path)
        launcher.collect(1)
        sent = [launcher.on_define_domain(d, v) for d, v in zip(domains, vmis, strict=True)]
        decided = [devices_of(domain) for domain in sent]
        assert arguments == () or all(len(devices) >= 8 for devices in decided)
        for spare_ports in SPARE_PORTS:
            answers = read_back(libvirt, sent)
            for index, answer in enumerate(answers):
                if answer is None:
                    continue
                domain = next_pass(sent[index], answer, spare_ports)
                sent[index] = launcher.on_define_domain(domain, vmis[index])
                assert devices_of(sent[index]) == decided[index], names[index]
        launcher.shut_down()
        assert sidecar.process.wait(60) == 0
        assert list(directory.iterdir()) == []
        events = [event for event in sidecar.events() if event["level"] != "info"]
    assert [event for event in events if event["level"] == "error"] == []
    print(f"{len(names)} domains, three passes each")


def test_two_sidecars_are_told_apart_by_the_names_of_their_sockets(tmp_path: Path) -> None:
    names = ["hook-sidecar-0", "hook-sidecar-1"]
    for name in names:
        (tmp_path / name).mkdir()
    (_, domain, vmi), *_ = first_passes()
    with (
        running_sidecar("--sysfs", "/nonexistent", directory=tmp_path / names[0]),
        running_sidecar(
            "--sysfs", "/nonexistent", directory=tmp_path / names[1], container=names[1]
        ),
    ):
        launcher = Launcher(tmp_path)
        launcher.collect(2)
        assert sorted(hook.socket.name for hook in launcher.hooks) == [f"{n}.sock" for n in names]
        once = launcher.on_define_domain(domain, vmi)
        assert launcher.on_define_domain(once, vmi) == once
