"""What the Debian archive of this machine gives, of any suite: packages, sources, whole systems.

It is asked by apt in private directories, signatures checked as ever, with nothing of the machine
changed. Which archive that is says the machine's apt: no address stands in this repository.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TRIES = 3
APT_LIMIT_S = 300

Result = TypeVar("Result")

APT_CONF = """\
#clear APT::Update;
#clear Acquire::IndexTargets::deb::DEP-11;
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State::lists "{work}/lists";
Dir::Cache "{work}/cache";
"""
# Nothing counts as installed: a newer libvirt on this machine would be apt's choice.
OWN_SOURCES = """\
Dir::State::status "{work}/status";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "/dev/null";
"""


class NoArchiveError(Exception):
    """This machine cannot ask a Debian archive: it must be done on another, or by other means."""


class FetchError(Exception):
    """The archive did not give what was asked for."""


def parse_archive(targets: str, wanted: str = "Debian") -> str | None:
    """Choose an archive's main part from ``kind|label|component|address`` lines, if it is there."""
    for line in targets.splitlines():
        kind, label, component, address = line.split("|")
        if (kind, label, component) == ("Packages", wanted, "main"):
            return address
    return None


def run_apt(arguments: Sequence[str], work: Path, program: str = "apt-get") -> str:
    """Run apt-get, or another of apt's programs, with the configuration of ``work``."""
    result = subprocess.run(
        [program, "-q", "-c", work / "apt.conf", *arguments],
        cwd=work / "download",
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=APT_LIMIT_S,
        check=False,
    )
    if result.returncode != 0:
        errors = [line[3:] for line in result.stderr.splitlines() if line.startswith("E: ")]
        reason = errors[0] if errors else result.stderr.strip() or f"status {result.returncode}"
        raise FetchError(f"{Path(program).name} {arguments[0]} failed: {reason}")
    return result.stdout


def make_apt_folder(work: Path, sources: str | None) -> None:
    """Lay out private lists, cache and configuration; ``sources`` None keeps the machine's."""
    for name in ("lists/partial", "cache/archives/partial", "download"):
        (work / name).mkdir(parents=True)
    work.chmod(0o755)
    if os.geteuid() == 0:
        with suppress(LookupError):  # apt downloads as this user, when there is one
            shutil.chown(work / "download", "_apt")
    text = APT_CONF
    if sources is not None:
        (work / "sources.list").write_text(sources + "\n", encoding="utf-8")
        (work / "status").touch()
        text += OWN_SOURCES
    (work / "apt.conf").write_text(text.format(work=work), encoding="utf-8")


def deb_line(archive: str, suite: str, kind: str = "deb") -> str:
    """Write a line of apt's sources: an archive's main part, signed by Debian where we can tell.

    Args:
        archive: Its address.
        suite: Such as ``trixie`` or ``trixie-security``.
        kind: ``deb`` for packages, ``deb-src`` for their sources.
    """
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    return f"{kind} {signed}{archive} {suite} main"


def find_archive(label: str = "Debian") -> str:
    """Ask the machine's own apt where one of Debian's archives is.

    Args:
        label: As its Release file says; ``Debian-Security`` is the other one.

    Raises:
        NoArchiveError: There is no apt, or it does not use the main part of that archive.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoArchiveError("there is no apt-get or no dpkg-deb here")
    question = ["indextargets", "--format", "$(CREATED_BY)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"]
    machine = subprocess.run(["apt-get", *question], capture_output=True, text=True, check=False)
    archive = parse_archive(machine.stdout, label)
    if archive is None:  # a new machine or an image without lists: get them, for ourselves only
        with tempfile.TemporaryDirectory(prefix="launcher-hook-apt-") as name:
            work = Path(name)
            make_apt_folder(work, sources=None)
            keep_trying(partial(run_apt, ["update"], work))
            archive = parse_archive(run_apt(question, work), label)
    if archive is None:
        raise NoArchiveError(f"apt's sources have no main component labelled {label}")
    return archive


def mmdebstrap(*arguments: str | Path) -> list[str | Path]:
    """Put together the command that makes a Debian's file system.

    As root it mounts /proc, /sys and more in the folder. In a mount namespace of its own these go
    with it, also when it is killed; left behind, they would keep ``rm -r`` from taking the clone.
    """
    own_mounts = ("unshare", "--mount") if os.geteuid() == 0 else ()
    return [*own_mounts, "mmdebstrap", "--quiet", *arguments]


def age_options() -> list[str]:
    """Give mmdebstrap what the machine's apt thinks of an old Release file: a mirror may be behind.

    mmdebstrap reads nothing of the machine's configuration by itself.
    """
    name = "Acquire::Check-Valid-Until"
    asked = subprocess.run(
        ["apt-config", "dump", "--format", "%v", name], capture_output=True, text=True, check=False
    )
    value = asked.stdout.strip()
    return [f'--aptopt={name} "{value}"'] if asked.returncode == 0 and value else []


def keep_trying(action: Callable[[], Result]) -> Result:
    """Do it, and again after a pause when it fails, TRIES times in all."""
    for again in range(1, TRIES):
        try:
            return action()
        except (FetchError, OSError, subprocess.SubprocessError) as error:
            print(f"apt: {error}; trying again", file=sys.stderr, flush=True)  # noqa: T201
            time.sleep(3 * again)
    return action()
