"""A second libvirt and QEMU beside the machine's: Debian's next release in a folder.

`python tests/conformance/chroot.py` makes it in .cache/conformance, once: mmdebstrap, the machine's
own archive, 25 s and 300 MB. It is entered with chroot in a mount namespace of its own, so that
nothing stays mounted.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "schemas"))

import debian  # noqa: E402 - it is a script, no package

SUITE = "trixie"
PACKAGES = ("libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86", "qemu-system-arm")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

_KEY = hashlib.sha256(repr((SUITE, PACKAGES, LEFT_OUT)).encode()).hexdigest()[:12]
ROOT = REPOSITORY / ".cache" / "conformance" / f"{SUITE}-{_KEY}"

LIMIT_S = 900


def is_there() -> bool:
    return (ROOT / "usr/bin/virsh").exists()


def enter() -> Sequence[str]:
    """What a command line begins with to run inside."""
    mounts = (
        f"mount -t proc proc {ROOT}/proc",
        f"mount -t tmpfs tmpfs {ROOT}/run",
        f"mount --rbind /dev {ROOT}/dev",
        f'exec chroot {ROOT} "$@"',
    )
    return ("unshare", "--mount", "sh", "-c", " && ".join(mounts), "sh")


def make(archive: str) -> None:
    """Make it under another name first: a broken one must not be taken for it."""
    new = ROOT.with_name(f"{ROOT.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    ROOT.parent.mkdir(parents=True, exist_ok=True)
    options = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
    done = subprocess.run(
        debian.mmdebstrap(
            "--variant=apt", f"--include={','.join(PACKAGES)}",
            '--aptopt=APT::Install-Recommends "false"', *options, SUITE, new,
            debian.deb_line(archive, SUITE),
        ),
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise debian.FetchError(f"mmdebstrap failed: {done.stderr.strip()[-400:]}")
    new.rename(ROOT)


def main() -> int:
    if is_there():
        return 0
    print(f"chroot: libvirt and QEMU of Debian {SUITE}, half a minute ...", flush=True)
    try:
        debian.keep_trying(partial(make, debian.find_archive()))
    except (debian.FetchError, debian.NoArchiveError, OSError) as error:
        print(f"chroot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
