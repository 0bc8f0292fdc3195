"""Brings the OVMF of a Debian suite to .cache/ovmf: `python tests/ovmf.py`, or `... sid`.

Firmware of several years, on one machine: what it finds room for differs. The package is one of all
architectures, so that nothing of it is run here or installed. It stays as it came until its folder
is removed; `make setup` brings the default.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "schemas"))

import debian  # noqa: E402 - it is a script, no package

PACKAGES = {"trixie": "ovmf", "sid": "ovmf-generic"}
"""The package that has the files, by suite; the first is the default."""

CACHE = REPOSITORY / ".cache/ovmf"
OF_THE_MACHINE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")


def code_of(suite: str) -> Path:
    """The code of a suite's firmware; it is there if it was brought."""
    return CACHE / suite / "usr/share/OVMF/OVMF_CODE_4M.fd"


def version_of(suite: str) -> str:
    """The package's version, e.g. ``2025.02-8+deb13u1``."""
    return (CACHE / suite / "version").read_text().strip()


def bring(suite: str, archive: str) -> None:
    """Unpack it under another name first: a broken one must not be taken for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        debian.make_apt_folder(work, debian.deb_line(archive, suite))
        debian.run_apt(["update"], work)
        debian.run_apt(["download", PACKAGES[suite]], work)
        (package,) = (work / "download").glob("*.deb")
        new = work / "new"
        subprocess.run(["dpkg-deb", "-x", package, new], check=True)
        form = ["dpkg-deb", "-W", "--showformat", "${Version}\n", package]
        (new / "version").write_text(subprocess.check_output(form, text=True))
        new.rename(CACHE / suite)


def main() -> int:
    suite = sys.argv[1] if len(sys.argv) > 1 else next(iter(PACKAGES))
    if code_of(suite).exists():
        return 0
    print(f"OVMF of Debian {suite} ...", flush=True)
    try:
        debian.keep_trying(partial(bring, suite, debian.find_archive()))
    except (debian.FetchError, debian.NoArchiveError, OSError) as error:
        print(f"OVMF: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
