"""The image of level 1: a Debian with libvirt and QEMU, as one initramfs, and two kernels.

It is made from the packages of one Debian suite: from the archive that this machine's own apt uses,
whatever its suite, or from an archive that is named. It is made once a suite, and kept under the
hash of what it is made from. Nothing of launcher-hook is in it: see ``project``.
"""

import hashlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "schemas"))

import debian

from e2e.cases import SUITES
from e2e.node import QEMU_USER

PACKAGES = (
    "busybox-static",
    "iproute2",
    "kmod",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "ovmf",
    "pciutils",
    "procps",
    "python3",
    "qemu-system-x86",
    "seabios",
    "util-linux",
)
# The first has the drivers of level 1's devices; the second is small, and boots level 2 faster.
KERNEL_PACKAGES = ("linux-image-amd64", "linux-image-cloud-amd64")
MODULES = (
    "virtio_pci", "9p", "9pnet_virtio", "tun", "vfio_pci", "vfio_iommu_type1",
    "e1000e", "bochs", "snd_hda_intel", "nvme",
)  # fmt: skip
_NOT_IN_IMAGE = ("doc", "man", "locale", "info", "icons", "sounds", "qemu/edk2*")
_FIRMWARE = ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")
"""The files of OVMF that level 1 keeps; the package has 40 MB of others."""

INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t devtmpfs d /dev; mount -t proc p /proc; mount -t sysfs s /sys
mount -t tmpfs t /run; mount -t tmpfs t /tmp
mkdir -p /dev/pts /dev/shm /out
mount -t devpts d /dev/pts; mount -t tmpfs t /dev/shm; mount -t cgroup2 c /sys/fs/cgroup
ip link set lo up; hostname level1; echo "127.0.0.1 localhost level1" > /etc/hosts
modprobe -a virtio_pci 9pnet_virtio 9p tun
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /out
echo "level 1 is up: $(cut -d' ' -f1 /proc/uptime) s"
PYTHONPATH=/opt/e2e/lib:/opt/e2e/tests python3 -m e2e.agent
echo "agent: status $?, $(cut -d' ' -f1 /proc/uptime) s"
dmesg > /out/dmesg.log
sync; exec busybox poweroff -f
"""


class CannotBuildError(Exception):
    """The image cannot be made here; the message says what is missing."""


@dataclass(frozen=True)
class Image:
    """What a build leaves in its folder."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinux-1"

    @property
    def guest_kernel(self) -> Path:
        return self.folder / "vmlinux-2"

    @property
    def initramfs(self) -> Path:
        return self.folder / "level1.cpio"

    @property
    def busybox(self) -> Path:
        return self.folder / "busybox"

    @property
    def python_version(self) -> str:
        return (self.folder / "python-version").read_text().strip()

    def python(self) -> list[str | Path]:
        """Begin a command line of level 1's own Python, run here by its own loader."""
        home = self.folder / "python"
        (loader,) = home.glob("lib64/ld-linux-*")
        return ["env", f"PYTHONHOME={home / 'usr'}", loader, "--library-path", home / "lib",
                home / "usr/bin" / f"python{self.python_version}"]  # fmt: skip

    @property
    def versions(self) -> str:
        return (self.folder / "versions").read_text().strip()


def build_image(
    cache: Path, say: Callable[[str], None], suite: str = SUITES[0], archive: str | None = None
) -> Image:
    """Give the image, building it if it is not in the cache: a minute, and the network.

    Args:
        suite: One of SUITES.
        archive: Address of a Debian archive; without one this machine's apt is asked for it.
    """
    cache = cache.resolve()  # modprobe prints full paths
    image = Image(cache / f"machine-{suite}-{_key(suite)}")
    if image.folder.is_dir():
        return image
    say(f"machine image: {suite}, from packages (once; needs the package archive)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="e2e-", dir=cache) as name:
        work = Path(name)
        new = work / "new"
        new.mkdir()
        root = work / "root"
        source = debian.deb_line(archive or _find_archive(), suite)
        _make_root(suite, source, root)
        say("machine image: kernels")
        apt = work / "apt"
        apt.mkdir()
        debian.make_apt_folder(apt, source)
        _ask(apt, "apt-get", "update")
        (first, package), (second, _) = (_fetch_kernel(p, apt, work) for p in KERNEL_PACKAGES)
        _extract_kernel(_the_kernel(first), new / "vmlinux-1")
        _extract_kernel(_the_kernel(second), new / "vmlinux-2")
        _put_modules(first, root)
        shutil.copy2(root / "bin/busybox", new / "busybox")
        _keep_python(root, new)
        (new / "versions").write_text(_versions(root, package))
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        say("machine image: initramfs")
        pack(root, new / "level1.cpio", leave_out=("./var/cache/apt", "./var/lib/apt"))
        new.rename(image.folder)
    for other in cache.glob(f"machine-{suite}-*"):
        if other != image.folder:
            shutil.rmtree(other)
    return image


def _key(suite: str) -> str:
    return hashlib.sha256(suite.encode() + Path(__file__).read_bytes()).hexdigest()[:16]


def _find_archive() -> str:
    try:
        return debian.find_archive()
    except (debian.NoArchiveError, debian.FetchError, OSError) as error:
        raise CannotBuildError(
            f"{error}; the machine is made from Debian's packages: name an archive of them, "
            "--archive ADDRESS (and install debian-archive-keyring)"
        ) from None


def _make_root(suite: str, source: str, root: Path) -> None:
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in (*_NOT_IN_IMAGE, "OVMF")]
    excluded += [f"--dpkgopt=path-include=/usr/share/OVMF/{name}" for name in _FIRMWARE]
    run(
        *debian.mmdebstrap(
            "--variant=minbase", "--mode=root", f"--include={','.join(PACKAGES)}",
            "--aptopt=APT::Install-Recommends \"false\"", *excluded, suite, root, "-",
        ),
        stdin=source + "\n",
    )  # fmt: skip
    for group in ("kvm", "libvirt"):
        run("chroot", root, "groupadd", "-r", "-f", group)
    # libvirt's driver looks this user up, whoever it runs QEMU as. Since trixie its package makes
    # it, with another number.
    if "\nlibvirt-qemu:" in (root / "etc/passwd").read_text():
        run("chroot", root, "userdel", "libvirt-qemu")
    if "\nlibvirt-qemu:" in (root / "etc/group").read_text():
        run("chroot", root, "groupdel", "libvirt-qemu")
    run("chroot", root, "groupadd", "-r", "-g", str(QEMU_USER), "libvirt-qemu")
    run("chroot", root, "useradd", "-r", "-u", str(QEMU_USER), "-g", "libvirt-qemu", "-G", "kvm",
        "-m", "-d", "/home/qemu", "-s", "/bin/sh", "libvirt-qemu")  # fmt: skip


def _ask(apt: Path, program: str, *arguments: str) -> str:
    """Run one of apt's programs over the sources that the image is made from."""
    try:
        return debian.keep_trying(lambda: debian.run_apt(arguments, apt, program))
    except (debian.FetchError, OSError, subprocess.SubprocessError) as error:
        raise CannotBuildError(f"{error}; see that the package archive can be reached") from None


def _fetch_kernel(package: str, apt: Path, work: Path) -> tuple[Path, str]:
    """Unpack the newest kernel that a package depends on; its folder and package."""
    found = re.search(r"Depends: (linux-image-\S+)", _ask(apt, "apt-cache", "depends", package))
    if found is None:
        raise CannotBuildError(f"the archive has no {package}; name another one by --archive")
    _ask(apt, "apt-get", "download", found[1])
    folder = work / package
    folder.mkdir()
    (archive,) = (apt / "download").glob("*.deb")
    run("dpkg-deb", "-x", archive, folder)
    archive.unlink()
    return folder, found[1]


def _the_kernel(folder: Path) -> Path:
    (kernel,) = folder.glob("boot/vmlinuz-*")
    return kernel


def _extract_kernel(packed: Path, into: Path) -> None:
    """Take the ELF out of a bzImage: QEMU boots it by PVH, which saves unpacking it emulated.

    Linux Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    """
    data = packed.read_bytes()
    setup = data[0x1F1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (setup + 1) * 512 + offset
    payload = data[start : start + length]
    unpackers = {b"\xfd7zXZ": "xz", b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}
    for magic, program in unpackers.items():
        if payload.startswith(magic):
            more = ["--single-stream"] if program == "xz" else []
            if shutil.which(program) is None:
                raise CannotBuildError(f"{packed.name} is packed with {program}; install that")
            result = subprocess.run([program, "-dc", *more], input=payload, capture_output=True)
            if result.stdout.startswith(b"\x7fELF"):
                into.write_bytes(result.stdout)
                return
            raise CannotBuildError(f"{packed.name}: {program}: {result.stderr.decode()}")
    raise CannotBuildError(f"{packed.name}: packed in an unknown way, {payload[:8].hex()}")


def _put_modules(kernel: Path, root: Path) -> None:
    """Copy the modules that level 1 needs, with what they need."""
    (modules,) = (*kernel.glob("lib/modules/*"), *kernel.glob("usr/lib/modules/*"))
    version = modules.name
    if not (kernel / "lib").exists():  # since trixie; this machine's depmod looks into lib
        (kernel / "lib").symlink_to("usr/lib")
    run("depmod", "-b", kernel, version)
    files: set[Path] = set()
    for name in MODULES:
        text = run("modprobe", "-d", kernel, "-S", version, "--show-depends", name)
        words = [line.split() for line in text.splitlines()]
        files |= {Path(word[1]) for word in words if word[0] == "insmod"}
    modules = modules.resolve()
    for file in (*files, *modules.glob("modules.builtin*"), modules / "modules.order"):
        into = root / "lib/modules" / version / file.resolve().relative_to(modules)
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, into)
    run("depmod", "-b", root, version)


def _keep_python(root: Path, new: Path) -> None:
    """Keep level 1's Python in a folder of its own, to compile for it on this machine."""
    (program,) = {path.resolve().name for path in root.glob("usr/bin/python3")}
    (new / "python-version").write_text(program.removeprefix("python"))
    home = new / "python"
    for folder in ("usr/bin", "lib", "lib64"):
        (home / folder).mkdir(parents=True)
    shutil.copy2(root / "usr/bin" / program, home / "usr/bin")
    shutil.copytree(root / "usr/lib" / program, home / "usr/lib" / program, symlinks=True)
    needed = re.findall(r"(/\S+) \(0x", run("chroot", root, "ldd", f"/usr/bin/{program}"))
    for library in needed:
        folder = "lib64" if library.startswith("/lib64/") else "lib"
        shutil.copy2(root / library.removeprefix("/"), home / folder)


def _versions(root: Path, kernel: str) -> str:
    form = "${Package} ${Version}\n"
    names = ("libvirt-daemon", "qemu-system-x86", "seabios", "ovmf")
    text = run("chroot", root, "dpkg-query", "-W", "-f", form, *names)
    return f"{text}{kernel.replace('linux-image-', 'linux ')}"


def pack(root: Path, into: Path, leave_out: Sequence[str] = ()) -> None:
    """Make a cpio of a tree; several, one behind the other, are one initramfs."""
    prune = [word for path in leave_out for word in ("-path", path, "-prune", "-o")]
    with into.open("wb") as file:
        find = subprocess.Popen(["find", ".", *prune, "-print0"], cwd=root, stdout=subprocess.PIPE)
        subprocess.run(
            ["cpio", "--null", "--create", "--format=newc", "--quiet"],
            cwd=root, stdin=find.stdout, stdout=file, check=True,
        )  # fmt: skip
        if find.wait() != 0:
            raise CannotBuildError(f"{root} cannot be read")


def run(*command: str | Path, stdin: str = "", cwd: Path | None = None) -> str:
    """Run a program; its errors are the message of what is raised."""
    result = subprocess.run(
        list(map(str, command)),
        input=stdin, cwd=cwd, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if result.returncode != 0:
        errors = result.stderr.strip()[-2000:]
        raise CannotBuildError(
            f"{' '.join(map(str, command[:3]))}: status {result.returncode}: {errors}"
        )
    return result.stdout
