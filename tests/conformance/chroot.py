"""Other libvirts and QEMUs beside the machine's: other Debian suites, each in a folder.

`python tests/conformance/chroot.py` makes those that are missing in .cache/conformance, once:
mmdebstrap, the machine's own archive, 25 s and 300 MB each. One is entered with chroot in a mount
namespace of its own, so that nothing stays mounted.

Debian sid is best effort: it is what Debian has today, and may be broken today. Without it the
program says so and succeeds, and its tests are skipped.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "schemas"))

import debian  # noqa: E402 - it is a script, no package

PACKAGES = ("libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86", "qemu-system-arm")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

LIMIT_S = 900


@dataclass(frozen=True)
class Chroot:
    """The file system of one Debian suite with libvirt and QEMU.

    Attributes:
        best_effort: Whether its absence is no failure, in CI either.
    """

    suite: str
    best_effort: bool = False

    @property
    def root(self) -> Path:
        """Its folder; the name changes with what is installed in it."""
        key = hashlib.sha256(repr((self.suite, PACKAGES, LEFT_OUT)).encode()).hexdigest()[:12]
        return REPOSITORY / ".cache" / "conformance" / f"{self.suite}-{key}"

    def is_there(self) -> bool:
        """Whether it has been made."""
        return (self.root / "usr/bin/virsh").exists()

    def enter(self) -> Sequence[str]:
        """What a command line begins with to run inside."""
        mounts = (
            f"mount -t proc proc {self.root}/proc",
            f"mount -t tmpfs tmpfs {self.root}/run",
            f"mount --rbind /dev {self.root}/dev",
            f'exec chroot {self.root} "$@"',
        )
        return ("unshare", "--mount", "sh", "-c", " && ".join(mounts), "sh")

    def make(self, archive: str) -> None:
        """Make it under another name first: a broken one must not be taken for it."""
        new = self.root.with_name(f"{self.root.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.parent.mkdir(parents=True, exist_ok=True)
        options = debian.age_options()
        options += [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
        done = subprocess.run(
            debian.mmdebstrap(
                "--variant=apt", f"--include={','.join(PACKAGES)}",
                '--aptopt=APT::Install-Recommends "false"', *options, self.suite, new,
                debian.deb_line(archive, self.suite),
            ),
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise debian.FetchError(f"mmdebstrap failed: {done.stderr.strip()[-400:]}")
        new.rename(self.root)


TRIXIE = Chroot("trixie")
SID = Chroot("sid", best_effort=True)
CHROOTS = (TRIXIE, SID)


def main() -> int:
    """Make what is missing; 1 where one that is needed could not be made."""
    status = 0
    for chroot in CHROOTS:
        if chroot.is_there():
            continue
        print(f"chroot: libvirt and QEMU of Debian {chroot.suite}, half a minute ...", flush=True)
        try:
            make = partial(chroot.make, debian.find_archive())
            if chroot.best_effort:
                make()
            else:
                debian.keep_trying(make)
        except (
            debian.FetchError,
            debian.NoArchiveError,
            OSError,
            subprocess.TimeoutExpired,
        ) as error:
            print(f"chroot: {error}", file=sys.stderr)
            if chroot.best_effort:
                print(f"chroot: going on without Debian {chroot.suite}", file=sys.stderr)
            else:
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
