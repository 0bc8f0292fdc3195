"""Starts VMs with passed-through functions in a real libvirt, over a written /sys.

This kernel has no vfio, so /sys and /dev are written ones, in a mount namespace of their own;
`fake_kernel.c` is what the kernel does when libvirt writes there. QEMU is the real one, but for
`vfio-pci`, which becomes `pci-testdev`, or the end of QEMU: what libvirt does before QEMU opens
the device, and after QEMU's end, is libvirt's own.

Every VM has functions of its own, so that one virsh starts and stops them all.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chroot import Chroot
from hosttree import HostDevice, build_host_tree, device_directory

HERE = Path(__file__).resolve().parent
NATIVE = "mlx5_core"
VARIANT = "mlx5_vfio_pci"
LIMIT_S = 300

VF_IDS = (0x15B3, 0x101E, 0x020000)
"""Of a ConnectX's virtual function, for which modules.alias names a variant."""

_ALIAS = (
    "# Aliases extracted from modules themselves.\n"
    "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
    f"alias vfio_pci:v{VF_IDS[0]:08X}d{VF_IDS[1]:08X}sv*sd*bc*sc*i* {VARIANT}\n"
)
_DRIVERS = ("vfio-pci", VARIANT, NATIVE)  # loaded, whether a function is bound to them or not

_QEMU_CONF = """\
user = "{user}"
group = "{user}"
security_driver = "none"
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
_STAND_IN = """\
#!/bin/bash
unset LD_PRELOAD
words=() ended=
for word; do
    if [[ $word == '{{"driver":"vfio-pci"'* ]]; then
        host=${{word#*'"host":"'}} host=${{host%%'"'*}}
        link=$(readlink /sys/bus/pci/devices/$host/driver)
        echo "qemu $host ${{link##*/}}" >>{log}
        {then}
    fi
    words+=("$word")
done
[ -z "$ended" ] || exit 1
exec /usr/bin/qemu-system-x86_64 "${{words[@]}}"
"""
# What becomes of `vfio-pci`: a device that needs no kernel's, or the end of QEMU. libvirt gives the
# function back in both cases, and without a QEMU a start takes a tenth of the time.
_THEN = {
    True: """word=${word/vfio-pci/pci-testdev} word=${word/'"host":"'$host'",'/}""",
    False: "ended=1",
}


@dataclass(frozen=True)
class Place:
    """Where libvirt runs.

    Attributes:
        uid: Its user: 0 on a host, 107 in a launcher pod.
        alias: Whether there is a ``/lib/modules/$(uname -r)/modules.alias``, as on a host.
    """

    uid: int
    alias: bool


PLACES = tuple(Place(uid, alias) for uid in (0, 107) for alias in (True, False))
POD = Place(107, alias=False)


@dataclass(frozen=True)
class Outcome:
    """What libvirt did with a VM and its functions.

    Attributes:
        started: Whether QEMU ran with the devices, or got as far as that where there is none.
        refusal: Why not, in libvirt's words.
        drivers_for_qemu: What each function was bound to when QEMU was started; empty where it
            was not.
        drivers_after: What each function is bound to after the VM's end.
        writes: What libvirt wrote to the functions' files.
    """

    started: bool
    refusal: str
    drivers_for_qemu: tuple[str, ...]
    drivers_after: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A VM: its functions, and what makes its hostdevs of the node's /sys.

    Attributes:
        domain: Is given the name and the emulator that the domain must have, and the /sys.
    """

    functions: tuple[HostDevice, ...]
    domain: Callable[[str, Path, Path], bytes]


class Trials:
    """One libvirt's directory, which it keeps between places.

    Args:
        chroot: Where libvirt and QEMU are; None is the machine itself.
        library: `fake_kernel.c`, compiled.
        with_qemu: Whether QEMU is to run; else it ends where it would open the device.
    """

    def __init__(self, chroot: Chroot | None, library: Path, *, with_qemu: bool = False) -> None:
        self._base = Path("/") if chroot is None else chroot.root
        self._with_qemu = with_qemu
        self._directory = Path(tempfile.mkdtemp(prefix="lvm", dir=self._base / "tmp"))
        self._directory.chmod(0o755)
        shutil.copy(library, self._directory / "fake_kernel.so")
        # libvirt asks an emulator what it can do again when the file has changed.
        stand_in = self._directory / "qemu"
        stand_in.write_text(_STAND_IN.format(log=self._inside("log"), then=_THEN[with_qemu]))
        stand_in.chmod(0o755)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def version(self) -> str:
        """libvirt's, e.g. ``11.3.0``."""
        inside = () if self._base == Path("/") else ("chroot", self._base)
        asked = subprocess.run([*inside, "virsh", "-v"], capture_output=True, text=True, check=True)
        return asked.stdout.strip()

    def run(self, place: Place, trials: Sequence[Trial]) -> list[Outcome]:
        """Start and stop every VM."""
        sysfs, log = self._directory / "sys", self._directory / "log"
        shutil.rmtree(sysfs, ignore_errors=True)
        loaded = [HostDevice(f"ffff:ff:{n:02x}.0", driver=name) for n, name in enumerate(_DRIVERS)]
        build_host_tree(sysfs, [*(f for trial in trials for f in trial.functions), *loaded])
        log.write_text("")
        log.chmod(0o666)
        self._prepare(place)
        commands = []
        for number, trial in enumerate(trials):
            name, file = f"vm{number}", self._directory / f"{number}.xml"
            file.write_bytes(trial.domain(name, self._inside("qemu"), sysfs))
            commands.append(
                f"echo {_MARK}; echo --err {_MARK}; define {self._inside(file.name)}; "
                f"start --paused {name}; domstate {name}; destroy {name}; undefine {name}"
            )
        out, err = self._virsh(place, "; ".join(commands))
        answers, errors = out.split(_MARK)[1:], err.split(_MARK)[1:]
        assert len(answers) == len(errors) == len(trials), (out[-2000:], err[-2000:])
        notes = [line.split(" ", 2) for line in log.read_text().splitlines()]
        return [
            self._outcome(trial, answer, error, notes, sysfs)
            for trial, answer, error in zip(trials, answers, errors, strict=True)
        ]

    def _outcome(
        self, trial: Trial, answer: str, error: str, notes: Sequence[Sequence[str]], sysfs: Path
    ) -> Outcome:
        bdfs = [function.bdf for function in trial.functions]
        mine = [note for note in notes if note[1] in bdfs]
        used = tuple(driver for what, _, driver in mine if what == "qemu")
        # Without QEMU libvirt's words depend on what it was doing when QEMU ended.
        started = "paused" in answer if self._with_qemu else bool(used)
        links = [device_directory(sysfs, bdf) / "driver" for bdf in bdfs]
        return Outcome(
            started=started,
            refusal="" if started else _refusal(error),
            drivers_for_qemu=used,
            drivers_after=tuple(
                link.readlink().name if link.is_symlink() else "" for link in links
            ),
            writes=tuple(" ".join(note) for note in mine if note[0] != "qemu"),
        )

    def _inside(self, *parts: str) -> Path:
        """A path below the directory as libvirt sees it."""
        return Path("/").joinpath(self._directory.relative_to(self._base), *parts)

    def _prepare(self, place: Place) -> None:
        """What differs from place to place: the user's libvirt, and the kernel's aliases."""
        alias = self._directory / "modules.alias"
        alias.unlink(missing_ok=True)
        if place.alias:
            alias.write_text(_ALIAS)
        state = self._directory / f"state{place.uid}"
        if state.exists():
            return
        (state / "etc").mkdir(parents=True)
        user = "root" if place.uid == 0 else str(place.uid)
        (state / "etc/qemu.conf").write_text(_QEMU_CONF.format(user=user))
        for path in (state, state / "etc", state / "etc/qemu.conf"):
            os.chown(path, place.uid, place.uid)

    def _virsh(self, place: Place, script: str) -> tuple[str, str]:
        state, user, chroot = self._inside(f"state{place.uid}"), (), ()
        if place.uid != 0:
            number = place.uid
            user = ("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups",
                    "--inh-caps=-all", "--bounding-set=-all")  # fmt: skip
        if self._base != Path("/"):
            chroot = ("chroot", str(self._base))
        command = (
            "tini", "-s", "--", "unshare", "--mount", "bash", "-euc", _MOUNTS, "bash",
            self._base, self._directory, *chroot, *user,
            "env", f"LD_PRELOAD={self._inside('fake_kernel.so')}",
            f"FAKE_LOG={self._inside('log')}", f"FAKE_NATIVE={NATIVE}", "LC_ALL=C.UTF-8",
            f"HOME={state}", f"XDG_RUNTIME_DIR={state}", f"XDG_CACHE_HOME={state}/cache",
            "virsh", "-q", "-c", f"qemu:///embed?root={state}", script,
        )  # fmt: skip
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=LIMIT_S,
        )  # fmt: skip
        return done.stdout, done.stderr


_MARK = "~~next VM~~"

# $1 is libvirt's root, $2 our directory. A /dev of its own has no /dev/kvm and nothing to open.
_MOUNTS = """
root=${1%/} work=$2; shift 2
mkdir -p $work/sys/devices/system $work/dev/vfio $work/dev/shm $work/dev/pts $root/usr/lib/modules
if [ -d /sys/devices/system ]; then
    mount --rbind /sys/devices/system $work/sys/devices/system
fi
for node in null zero full random urandom tty; do
    touch $work/dev/$node; mount --bind /dev/$node $work/dev/$node
done
ln -sfn /proc/self/fd $work/dev/fd
mount --bind /dev/pts $work/dev/pts
touch $work/dev/vfio/vfio
for group in $work/sys/kernel/iommu_groups/*; do touch $work/dev/vfio/${group##*/}; done
chmod -R a+rw $work/dev/vfio
mount -t tmpfs tmpfs $root/usr/lib/modules
if [ -e $work/modules.alias ]; then
    mkdir $root/usr/lib/modules/$(uname -r)
    cp $work/modules.alias $root/usr/lib/modules/$(uname -r)/
fi
if [ -n "$root" ]; then
    mount -t proc proc $root/proc
    mount -t tmpfs tmpfs $root/run
fi
mount --rbind $work/dev $root/dev
mount --rbind $work/sys $root/sys
exec "$@"
"""


def _refusal(error: str) -> str:
    lines = [
        line.removeprefix("error: ")
        for line in error.splitlines()
        if line.startswith("error: ") and not re.match(r"error: Failed to (start|destroy)", line)
    ]
    return lines[0] if lines else error.strip()


def build_library(directory: Path) -> Path:
    """Compile `fake_kernel.c`."""
    library = directory / "fake_kernel.so"
    command = ["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", library, HERE / "fake_kernel.c"]
    subprocess.run(command, check=True)
    return library
