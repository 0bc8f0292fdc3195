"""Level 2: libvirt defines, starts and ends it; its monitor says what its firmware enumerated."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from apart import DISTANCES, Seen, apart, at, changed_distances

from e2e.node import QEMU_USER, WAIT_S, wait_until

_CONF = """\
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
remember_owner = 0
"""
_DAEMON = 'auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\nlog_outputs = "2:file:{log}"\n'

# As in a launcher's container, which has none of the node's modules.
_WITHOUT_MODULES = (
    "unshare", "--mount", "sh", "-c",
    'mount -t tmpfs none "$(readlink -f /lib/modules)" && exec "$@"', "sh",
)  # fmt: skip


class LibvirtRefusedError(Exception):
    """libvirt's own words."""


@dataclass(frozen=True)
class GuestFunction:
    """A PCI function as the guest's firmware left it.

    Attributes:
        path: slot.function of each bridge above it, then its own: all that a guest can see.
        device: Vendor and device id.
    """

    path: str
    device: str


class Libvirt:
    """A libvirt daemon on level 1; as root, or a user's own as virt-launcher runs it."""

    def __init__(self, uid: int = 0, out: Path = Path("/out")) -> None:
        self.uid = uid
        self._log = out / f"libvirt-{uid}.log"
        self._out = out
        self._prefix: list[str] = []
        self._environ = dict(os.environ)
        self._uri = "qemu:///system"
        self._work = Path(f"/tmp/vm-{uid}")

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self._work.mkdir(exist_ok=True)
        if self.uid:
            home, runtime = Path("/home/qemu"), Path(f"/run/user/{self.uid}")
            config = home / ".config/libvirt"
            self._uri = "qemu:///session"
            # virt-handler raises it for a pod with devices; this libvirt may not.
            self._prefix = ["prlimit", "--memlock=unlimited:unlimited", *as_user()]
            self._environ |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}
            for folder in (config, runtime):
                folder.mkdir(parents=True, exist_ok=True)
            self._log = Path("/tmp/libvirt-107.log")
        else:
            config = Path("/etc/libvirt")
            for name in ("/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt/qemu"):
                Path(name).mkdir(parents=True, exist_ok=True)
        conf = _CONF if not self.uid else _CONF.split("\n", 2)[2]
        (config / "qemu.conf").write_text(conf)
        (config / "libvirtd.conf").write_text(_DAEMON.format(log=self._log))
        if self.uid:
            for place in (Path("/home/qemu"), Path(f"/run/user/{self.uid}"), self._work):
                subprocess.run(["chown", "-R", f"{QEMU_USER}:{QEMU_USER}", place], check=True)
        daemon = subprocess.Popen(
            [*_WITHOUT_MODULES, *self._prefix, "libvirtd"], env=self._environ,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            if daemon.poll() is not None:
                raise RuntimeError(f"libvirtd ended: {self._log.read_text()}")
            return self._run("list").returncode == 0

        wait_until(answers, "libvirtd", poll_s=0.3)

    def define(self, xml: bytes) -> bytes:
        """Define a domain and read its inactive XML back."""
        name = name_of(xml)
        file = self._work / f"{name}.xml"
        file.write_bytes(xml)
        answer = self.virsh(f"define {file}; dumpxml --inactive {name}")
        return answer[answer.index("<domain") :].encode()

    def begin(self, name: str) -> None:
        self.virsh(f"start {name}")

    def end(self, name: str) -> None:
        """End QEMU, if it runs, and forget the domain."""
        self._run(f"destroy {name}")
        self._run(f"undefine {name} --nvram")

    def functions(
        self, name: str, aliases: set[str], limit_s: float = WAIT_S, poll_s: float = 2
    ) -> dict[str, GuestFunction]:
        """Wait until the firmware has given each device of these aliases an address."""

        def enumerated() -> dict[str, GuestFunction] | None:
            found = parse_info_pci(self.virsh(f"qemu-monitor-command {name} --hmp 'info pci'"))
            return found if aliases <= found.keys() else None

        try:
            return wait_until(enumerated, f"{name}: {sorted(aliases)}", limit_s, poll_s)
        except TimeoutError:
            return parse_info_pci(self.virsh(f"qemu-monitor-command {name} --hmp 'info pci'"))

    def wait_for_console(self, name: str, text: str, limit_s: float = 1100) -> str:
        """Wait until a guest has printed this."""
        file = console_of(name)
        wait_until(
            lambda: file.exists() and text in file.read_text(errors="replace"), text, limit_s, 0.5
        )
        return file.read_text(errors="replace")

    def keep_logs(self, name: str) -> None:
        home = Path("/home/qemu/.cache/libvirt") if self.uid else Path("/var/log/libvirt")
        for file in (home / f"qemu/log/{name}.log", home / f"qemu/{name}.log", console_of(name)):
            if file.exists():
                shutil.copyfile(file, self._out / f"{file.stem}-{self.uid}.{file.suffix[1:]}")

    def virsh(self, script: str) -> str:
        result = self._run(script)
        if result.returncode != 0:
            raise LibvirtRefusedError(say_refusal(result.stderr))
        return result.stdout

    def _run(self, script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._prefix, "virsh", "-q", "-c", self._uri, script], env=self._environ,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip


def say_refusal(errors: str) -> str:
    """One line of what virsh and QEMU said, without what they were asked to do and when."""
    lines = [line.removeprefix("error: ").strip() for line in errors.splitlines()]
    told = [
        line for line in lines if line and not re.match(r"[Ff]ailed to (start|define|get) ", line)
    ]
    return re.sub(r"\d{4}-\d\d-\d\dT\S+ ", "", " ".join(told))


def as_user(uid: int = QEMU_USER) -> list[str]:
    """What stands before a command that runs as virt-launcher and its sidecars do."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all",
            "--bounding-set=-all", "--no-new-privs"]  # fmt: skip


def console_of(name: str) -> Path:
    return Path(f"/tmp/{name}.console")


def name_of(xml: bytes) -> str:
    found = re.search(rb"<name>([^<]+)</name>", xml)
    assert found is not None
    return found[1].decode()


def parse_info_pci(text: str) -> dict[str, GuestFunction]:
    """Read the monitor's ``info pci``: functions by QEMU's id, which is libvirt's alias.

    Left out is what the firmware has not given addresses: bridges without a bus behind them show
    nothing below them, and a BAR without an address is all ones.
    """
    blocks = re.split(r"^  Bus +(\d+), device +(\d+), function (\d+):\n", text, flags=re.MULTILINE)
    bridges: dict[int, tuple[int, str]] = {}
    seen = []
    for bus, slot, function, body in zip(*[iter(blocks[1:])] * 4, strict=True):
        place = (int(bus), f"{int(slot):02x}.{function}")
        secondary = re.search(r"secondary bus (\d+)", body)
        if secondary is not None and int(secondary[1]):
            bridges[int(secondary[1])] = place
        device = re.search(r"PCI device ([0-9a-f]{4}:[0-9a-f]{4})", body)
        name = re.search(r'id "([^"]*)"', body)
        if device and name and name[1] and "0xffffffffffffffff" not in body:
            seen.append((place, device[1], name[1]))
    found = {}
    for (bus_number, own), device_id, name_text in seen:
        path = [own]
        while bus_number in bridges:
            bus_number, step = bridges[bus_number]
            path.insert(0, step)
        if bus_number:
            path.insert(0, f"{bus_number:02x}:")
        found[name_text] = GuestFunction("/".join(path).replace(":/", ":"), device_id)
    return found


def seen_by_linux(console: str, paths: Mapping[str, str]) -> dict[str, Seen]:
    """Where level 2's Linux has the functions at these guest paths, by what the paths stand for."""
    found = {}
    for line in console.splitlines():
        match = re.match(r"guest-pci \S+ \S+ node=(\S+) path=(\S+)", line)
        if match is not None:
            seen = at(match[2], match[1])
            root = seen.root.rpartition(":")[2]
            path = "/".join(step.split(":")[-1] for step in seen.steps)
            if root != "00":  # as parse_info_pci says it of an expander bus
                path = f"{root}:{path}"
            if path in paths:
                found[paths[path]] = seen
    return found


def read_linux(console: str) -> dict[str, str]:
    """What level 2's Linux has done with its devices."""
    observed = {}
    for line in console.splitlines():
        words = line.split()
        if line.startswith("guest-edu "):
            observed["register written and read"] = words[2]
        elif line.startswith("guest-nvme "):
            observed["block read by DMA"] = line.partition(" ")[2].strip()
    return observed


def say_topology(host: dict[str, Seen], guest: dict[str, Seen]) -> dict[str, str]:
    """What Linux in the guest knows of NUMA nodes and distances, beside the node's own."""
    nodes = sorted({seen.node for seen in guest.values()})
    counts = Counter(apart(one, other) for one, other in combinations(guest.values(), 2))
    return {
        "its NUMA nodes": "; ".join(
            f"{node}: {' '.join(role for role, seen in guest.items() if seen.node == node)}"
            for node in nodes
        ),
        "pairs": ", ".join(f"{kind} {counts[kind]}" for kind in DISTANCES if counts[kind]),
        "pairs that are another distance apart on the node": "; ".join(
            changed_distances(host, guest)
        )
        or "none",
    }
