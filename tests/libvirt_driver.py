"""Drive libvirt's own qemu driver: define a domain, read it back. No daemon, nothing is started.

``virsh -c qemu:///embed?root=DIR`` carries the whole driver inside the process, with its state
below DIR.  The first call probes every QEMU that is installed (0.5 s each), the next ones find the
answers in DIR/cache and take 0.1 s; many domains in one call take 5 ms each.

Three things that this needs, or one define takes a minute instead:

- a ``qemu.conf`` with user and group root.  Where root may open /dev/kvm and the qemu user may not,
  libvirt probes QEMU again at every look at its capabilities;
- ``tini -s`` above it.  libvirt waits for each probe it killed, and PID 1 of a container is slow to
  reap those;
- a short path: libvirt puts unix sockets below it.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from lxml import etree

from launcher_hook.pci import PciAddress

_BATCH = 200
_QEMU_CONF = 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nremember_owner = 0\n'
_MARK = "~~next document~~"
_NEEDED = ("tini", "virsh", "qemu-system-x86_64")

# PCI and mediated devices. The launcher leaves `mode` out in pass 1, so it cannot be asked for.
_PCI_HOSTDEV = "devices/hostdev[@type='pci' or @type='mdev']"


# The same in the words of two libvirts, and of one with other packages beside it.
_NO_QEMU = re.compile(
    r"(unsupported configuration: )?No emulator found for arch"
    r"|Cannot check QEMU binary /usr/bin/qemu-system-(aarch64|s390x)"
)


class LibvirtRefusedError(Exception):
    """libvirt would not take a document; the message is libvirt's own."""

    @property
    def lacks_qemu(self) -> bool:
        """Whether it is only that this machine has no QEMU of the document's architecture."""
        return _NO_QEMU.match(str(self)) is not None


class LibvirtDriver:
    """One libvirt, with a directory of its own for its state.

    Args:
        prefix: What stands before ``virsh``: ``("chroot", "/srv/trixie")`` for another libvirt.
        base: Where the ``/`` of that libvirt is in our file system. Its ``tmp`` must exist.
        timeout_s: For one run of virsh, after which it gets a second try.
    """

    def __init__(
        self, prefix: Sequence[str] = (), base: Path = Path("/"), timeout_s: float = 120.0
    ) -> None:
        self._prefix = tuple(prefix)
        self._timeout_s = timeout_s
        self._state = Path(tempfile.mkdtemp(prefix="lv", dir=base / "tmp"))
        self._root = Path("/") / self._state.relative_to(base)  # as libvirt sees it
        (self._state / "etc").mkdir()
        (self._state / "etc/qemu.conf").write_text(_QEMU_CONF)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything that libvirt left behind."""
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def uri(self) -> str:
        """Where it is to be had, for anybody in the same root."""
        return f"qemu:///embed?root={self._root}"

    def define(self, xml: bytes) -> None:
        """Define a domain, which stays."""
        _, errors = self._virsh(f"define {self._write('define.xml', xml)}")
        if re.search("^error: ", errors, re.MULTILINE):
            raise LibvirtRefusedError(_message(errors))

    def dump(self, name: str) -> str:
        """The inactive XML of a domain that it has."""
        return self._virsh(f"dumpxml --inactive {shlex.quote(name)}")[0]

    def forget(self, name: str) -> None:
        """Undefine a domain; its UEFI variables stay."""
        self._virsh(f"undefine --keep-nvram {shlex.quote(name)}")

    def names(self) -> list[str]:
        """The domains that it has."""
        return self._virsh("list --all --name")[0].split()

    @property
    def version(self) -> tuple[int, ...]:
        """The library's version, e.g. ``(9, 0, 0)``."""
        answer, errors = self._virsh("version")
        match = re.search(r"Using library: libvirt ([\d.]+)", answer)
        if match is None:
            raise LibvirtRefusedError(_message(errors))
        return tuple(int(part) for part in match[1].split("."))

    def read_back(self, xml: bytes) -> bytes:
        """Define a domain, give back its inactive XML, and forget it again."""
        (answer,) = self.read_back_all([xml])
        if isinstance(answer, LibvirtRefusedError):
            raise answer
        return answer

    def read_back_all(self, documents: Sequence[bytes]) -> list[bytes | LibvirtRefusedError]:
        """As `read_back`, for many documents; a refusal stands in the place of its document."""
        answers: list[bytes | LibvirtRefusedError] = []
        for start in range(0, len(documents), _BATCH):
            answers += self._read_back_batch(documents[start : start + _BATCH])
        return answers

    def qemu_argv(self, xml: bytes) -> list[str]:
        """The QEMU command that libvirt would run."""
        (words,) = self.qemu_argv_all([xml])
        if isinstance(words, LibvirtRefusedError):
            raise words
        return words

    def qemu_argv_all(self, documents: Sequence[bytes]) -> list[list[str] | LibvirtRefusedError]:
        """The QEMU command that libvirt would run for each.

        libvirt takes every network interface down to a tap without an address while it converts:
        do not look for interfaces' addresses here.
        """
        answers: list[list[str] | LibvirtRefusedError] = []
        for start in range(0, len(documents), _BATCH):
            commands = [
                f"domxml-to-native qemu-argv --xml {self._write(f'{number}.xml', _vfio(xml))}"
                for number, xml in enumerate(documents[start : start + _BATCH])
            ]
            for text, refusal in self._run_each(commands):
                words = shlex.split(text)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]  # the environment
                answers.append(words or LibvirtRefusedError(_message(refusal)))
        return answers

    def _read_back_batch(self, documents: Sequence[bytes]) -> list[bytes | LibvirtRefusedError]:
        commands = []
        for number, xml in enumerate(documents):
            name = shlex.quote((etree.fromstring(xml).findtext("name") or "").strip())
            commands.append(
                f"define {self._write(f'{number}.xml', xml)}; dumpxml --inactive {name}; "
                f"undefine --nvram {name}"
            )
        answers: list[bytes | LibvirtRefusedError] = []
        for text, refusal in self._run_each(commands):
            found = re.search(r"<domain.*</domain>", text, re.DOTALL)
            answers.append(found[0].encode() if found else LibvirtRefusedError(_message(refusal)))
        return answers

    def _run_each(self, commands: Sequence[str]) -> list[tuple[str, str]]:
        """Run each in one virsh; give what each says and complains of.

        A document can end virsh itself (11.3 crashes on some of libvirt's own test domains): then
        each half is run apart, down to the one.
        """
        script = "; ".join(f"echo {_MARK}; echo --err {_MARK}; {c}" for c in commands)
        answer, errors = self._virsh(script)
        texts, refusals = answer.split(_MARK)[1:], errors.split(_MARK)[1:]
        if not len(texts) == len(refusals) == len(commands):
            half = len(commands) // 2
            if half == 0:
                return [("", "error: virsh ended early")]
            return self._run_each(commands[:half]) + self._run_each(commands[half:])
        return list(zip(texts, refusals, strict=True))

    def _write(self, name: str, xml: bytes) -> Path:
        (self._state / name).write_bytes(xml)
        return self._root / name

    def _virsh(self, script: str) -> tuple[str, str]:
        """Run virsh once; once more, with its domains forgotten, when it hangs."""
        try:
            return self._virsh_once(script)
        except subprocess.TimeoutExpired:
            for left_behind in ("etc/qemu", "run"):
                shutil.rmtree(self._state / left_behind, ignore_errors=True)
            return self._virsh_once(script)

    def _virsh_once(self, script: str) -> tuple[str, str]:
        command = ["tini", "-s", "--", *self._prefix, "virsh", "-q", "-c", self.uri, script]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # killing tini alone would leave virsh and its probes
        ) as process:
            try:
                return process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def _vfio(xml: bytes) -> bytes:
    """A domain whose PCI hostdevs name their driver, which libvirt chooses only at start."""
    domain = etree.fromstring(xml)
    for hostdev in domain.xpath("devices/hostdev[@type='pci'][not(driver/@name)]"):
        hostdev.insert(0, etree.Element("driver", name="vfio"))
    return etree.tostring(domain)


def vfio_devices(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The passed-through functions of a QEMU command; a mediated device has no ``host``."""
    # vfio-pci-nohotplug: one with a ramfb.
    devices = (json.loads(a) for a in arguments if a.startswith('{"driver":"vfio-pci'))
    return [device for device in devices if "host" in device]


def place_of(device: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Bus, address and multifunction of a device of a QEMU command."""
    return (device["bus"], device["addr"], device.get("multifunction", False))


def _message(errors: str) -> str:
    lines = re.findall(r"^error: (?!Failed to define domain)(.+)", errors, re.MULTILINE)
    return lines[0] if lines else errors.strip() or "virsh said nothing"


def for_this_machine(xml: bytes) -> bytes:
    """Take out of a launcher's domain what this machine's libvirt or QEMU does not have.

    Devices keep their addresses and their order.  Do the same to both sides of a comparison.
    """
    domain = etree.fromstring(xml)
    domain.set("type", "qemu")
    os_type = domain.find("os/type")
    if os_type is not None:
        arch = os_type.get("arch", "x86_64")
        for emulator in domain.iterfind("devices/emulator"):
            emulator.text = f"/usr/bin/qemu-system-{arch}"
        machine = os_type.get("machine", "")
        for family, newest in (("pc-q35-", "q35"), ("pc-i440fx-", "pc"), ("virt-", "virt")):
            if machine.startswith(family):  # "pc-q35-rhel9.6.0": another distribution's QEMU
                os_type.set("machine", newest)
    for cpu in domain.xpath("cpu[@mode='host-model' or @mode='host-passthrough']"):
        del cpu.attrib["mode"]  # needs KVM
        for child in cpu.xpath("model | feature"):
            cpu.remove(child)
    for number, interface in enumerate(domain.iterfind("devices/interface")):
        mac = interface.find("mac")
        if mac is None:  # libvirt would roll dice
            mac = etree.SubElement(interface, "mac")
        if not mac.get("address", "").strip("0:"):
            mac.set("address", f"52:54:00:00:00:{number:02x}")
    _remove(domain, "memoryBacking/hugepages")  # needs the host's, for qemu_argv only
    _remove(domain, "numatune")  # the host's nodes; 1.9 writes memnode without cells
    _remove(domain, "devices/tpm")  # needs swtpm, and is no PCI device
    _remove(domain, "maxMemory[not(@slots > 0)]")  # newer than 9.0
    _remove(domain, "devices/watchdog[@model='itco']")  # newer than 9.0; part of q35, no address
    return etree.tostring(domain)


def without_pci_hostdevs(xml: bytes) -> bytes:
    """The reference side of a comparison: the same domain with no PCI or mediated hostdev."""
    domain = etree.fromstring(xml)
    _remove(domain, _PCI_HOSTDEV)
    return etree.tostring(domain)


def _remove(domain: etree._Element, path: str) -> None:
    for element in domain.xpath(path):
        parent = element.getparent()
        if parent is not None:
            parent.remove(element)


def addresses(xml: bytes, *, with_hostdevs: bool = False) -> dict[str, str]:
    """The PCI address of each device and controller that has one.

    Returns:
        Address text by a name that does not depend on the address: a controller's type, model and
        index, a disk's target, an interface's MAC, for others the tag and a number.
    """
    domain = etree.fromstring(xml)
    ours = [] if with_hostdevs else domain.xpath(_PCI_HOSTDEV)
    numbers: Counter[str] = Counter()
    found: dict[str, str] = {}
    for device in domain.iterfind("devices/*"):
        if device in ours or not isinstance(device.tag, str):
            continue
        name = _name(device, numbers)
        address = device.find("address[@type='pci']")
        if address is not None:
            parts = (address.get(key, "0") for key in ("domain", "bus", "slot", "function"))
            found[name] = str(PciAddress(*(int(part, 0) for part in parts)))
    return found


def moved(reference_xml: bytes, ours_xml: bytes) -> list[str]:
    """What has another address than in the reference read-back, or is gone. Empty is good.

    Devices and controllers that only ours has are no fault: our own root ports, and the empty ones
    with which libvirt fills gaps in the indexes.
    """
    ours = addresses(ours_xml)
    return [
        f"{name}: {address} -> {ours.get(name, 'gone')}"
        for name, address in addresses(reference_xml).items()
        if ours.get(name) != address
    ]


def guest_paths(xml: bytes) -> dict[str, str]:
    """Where the guest finds each device: slot.function of every bridge above it, then its own.

    This is all that a guest can see of the topology, and what Windows and Linux name devices by.
    The `bus` of an address in a domain XML is a controller's index, which the guest never learns:
    its firmware numbers the buses anew, walking the slots of each bus in turn.
    """
    found = {name: PciAddress.parse(address) for name, address in addresses(xml).items()}
    bridges = {
        int(name.split()[-1]): address
        for name, address in found.items()
        if name.startswith("controller pci ")
    }
    paths = {}
    for name, address in found.items():
        if not name.startswith("controller pci "):
            steps = [address]
            while steps[0].bus in bridges:  # the root bus has no address
                steps.insert(0, bridges[steps[0].bus])
            paths[name] = "/".join(f"{step.slot:02x}.{step.function}" for step in steps)
    return paths


def moved_in_guest(reference_xml: bytes, ours_xml: bytes) -> list[str]:
    """As `moved`, for what the guest sees: renumbered controllers are no fault."""
    ours = guest_paths(ours_xml)
    return [
        f"{name}: {path} -> {ours.get(name, 'gone')}"
        for name, path in guest_paths(reference_xml).items()
        if ours.get(name) != path
    ]


def _name(device: etree._Element, numbers: Counter[str]) -> str:
    tag = str(device.tag)
    target, mac = device.find("target"), device.find("mac")
    words: tuple[str | None, ...]
    if tag == "controller":
        words = (device.get("type"), device.get("model"), device.get("index"))
    elif tag == "disk" and target is not None:
        words = (target.get("dev"),)
    elif tag == "interface" and mac is not None:
        words = (mac.get("address"),)
    else:
        words = (str(numbers[tag]),)
        numbers[tag] += 1
    return " ".join(word for word in (tag, *words) if word)


@pytest.fixture(scope="session")
def libvirt() -> Iterator[LibvirtDriver]:
    """This machine's libvirt. Skips where there is none; in CI (CI=true) that is a failure."""
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with LibvirtDriver() as driver:
        yield driver
