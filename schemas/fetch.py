"""Bring libvirt's RELAX NG schemas to ``schemas/libvirt/<version>/``.

They are libvirt's, LGPL-2.1-or-later, and not in this repository. Debian packages them,
one libvirt per suite, so apt gets them: from the archive that this machine already uses,
with only the suite changed, in private directories, signatures checked as ever.
``manifest.toml`` says which suite, which package and the sha256 of every file.

Exit status: 0 all pinned sets are there; 1 a download failed or brought something else;
3 this machine has no Debian archive to ask.
"""

import argparse
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from debian import (
    FetchError,
    NoArchiveError,
    deb_line,
    find_archive,
    keep_trying,
    make_apt_folder,
    run_apt,
)

HERE = Path(__file__).resolve().parent
START = "domain.rng"
LICENCE = "COPYING.libvirt"
# The packages' own licence file says where Debian keeps this text; we keep it beside the schemas.
LGPL = Path("/usr/share/common-licenses/LGPL-2.1")


@dataclass(frozen=True, slots=True)
class SchemaSet:
    """One libvirt's schemas.

    Attributes:
        suite: Debian suite whose package carries them.
        package: Debian binary package.
        version: libvirt's version, or None for whatever the suite has.
        sha256: File name to digest; empty when nothing is pinned.
    """

    suite: str
    package: str
    version: str | None
    sha256: Mapping[str, str]

    @property
    def name(self) -> str:
        """For people: what is being fetched."""
        return f"libvirt {self.version or 'newest'}"


def read_manifest(path: Path = HERE / "manifest.toml") -> tuple[SchemaSet, ...]:
    """Read the sets in the manifest's order."""
    return tuple(
        SchemaSet(entry["suite"], entry["package"], entry.get("version"), entry.get("sha256", {}))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["set"]
    )


def parse_version(package_version: str) -> str:
    """Take libvirt's version out of a Debian one: ``9.0.0-4+deb12u2`` is ``9.0.0``."""
    match = re.fullmatch(r"(?:\d+:)?(\d+(?:\.\d+)+)([-+~].*)?", package_version)
    if match is None:
        raise FetchError(f"package version {package_version!r}: no libvirt version in it")
    return match[1]


def included_files(files: Mapping[str, bytes], start: str = START) -> set[str]:
    """Follow ``<include href>`` from ``start``: every file that its grammar is made of.

    Raises:
        FetchError: One of them is not in ``files``.
    """
    found: set[str] = set()
    to_read = [start]
    while to_read:
        name = to_read.pop()
        if name in found:
            continue
        if name not in files:
            raise FetchError(f"{name} is not among the files, though the grammar needs it")
        found.add(name)
        text = files[name].decode()
        to_read += re.findall(r"<(?:include|externalRef)\s[^>]*?href=[\"']([^\"']+)", text)
    return found


def wrong_files(files: Mapping[str, bytes], sha256: Mapping[str, str]) -> list[str]:
    """Name the pinned files that are missing or differ."""
    return [
        name
        for name, digest in sha256.items()
        if name not in files or hashlib.sha256(files[name]).hexdigest() != digest
    ]


def read_files(folder: Path) -> dict[str, bytes]:
    """Read the ``*.rng`` files of a folder; none when there is no such folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*.rng")}


def is_complete(wanted: SchemaSet, into: Path) -> bool:
    """Say whether a pinned set is there, every byte of it, with its licence."""
    if wanted.version is None:
        return False
    folder = into / wanted.version
    return (folder / LICENCE).is_file() and not wrong_files(read_files(folder), wanted.sha256)


def read_package(deb: Path, package: str) -> tuple[dict[str, bytes], bytes]:
    """Read all schemas and the licence of a .deb."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True)
    schemas: dict[str, bytes] = {}
    licence = b""
    with tarfile.open(fileobj=io.BytesIO(data.stdout)) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            folder, _, name = path.rpartition("/")
            is_schema = folder == "usr/share/libvirt/schemas" and name.endswith(".rng")
            if not is_schema and path != f"usr/share/doc/{package}/copyright":
                continue
            stream = archive.extractfile(member)
            if stream is None:
                continue
            if is_schema:
                schemas[name] = stream.read()
            else:
                licence = stream.read()
    return schemas, licence


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with these files in place, whole or not at all; one that is there goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as work:
        new, old = Path(work, "new"), Path(work, "old")
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def fetch(wanted: SchemaSet, archive: str) -> tuple[str, dict[str, bytes]]:
    """Get one set from the archive.

    Returns:
        libvirt's version, and the files of its folder: the grammar and the licence.

    Raises:
        FetchError: The package is not to be had or is not what is pinned.
    """
    with tempfile.TemporaryDirectory(prefix="launcher-hook-apt-") as name:
        work = Path(name)
        make_apt_folder(work, deb_line(archive, wanted.suite))
        run_apt(["update"], work)
        run_apt(["download", wanted.package], work)
        (deb,) = (work / "download").glob("*.deb")
        field = ["dpkg-deb", "--field", str(deb), "Version"]
        version = subprocess.run(field, check=True, capture_output=True, text=True).stdout.strip()
        schemas, licence = read_package(deb, wanted.package)
    found = parse_version(version)
    names = wanted.sha256 or sorted(included_files(schemas))
    if wanted.version not in (None, found) or wrong_files(schemas, wanted.sha256):
        raise FetchError(
            f"{wanted.package} {version} of {wanted.suite} is not the pinned {wanted.name}; "
            "look at what changed, then put its version and sums into schemas/manifest.toml"
        )
    if LGPL.is_file():
        licence += b"\n" + LGPL.read_bytes()
    return found, {**{name: schemas[name] for name in names}, LICENCE: licence}


def say(text: str) -> None:
    """Tell the person at the terminal, beside the output."""
    print(f"schemas: {text}", file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what is missing; see the module for the exit status."""
    parser = argparse.ArgumentParser(description="Bring libvirt's RELAX NG schemas here.")
    parser.add_argument("--into", type=Path, default=HERE / "libvirt", metavar="DIR")
    parser.add_argument("--newest", action="store_true", help="look for a newer libvirt, too")
    parser.add_argument(
        "--archive",
        metavar="ADDRESS",
        help="a Debian archive to use instead of the machine's own (with debian-archive-keyring)",
    )
    options = parser.parse_args(arguments)
    into: Path = options.into

    sets = read_manifest()
    missing = [each for each in sets if each.version is not None and not is_complete(each, into)]
    if missing or options.newest:
        missing += [each for each in sets if each.version is None]
    if not missing:
        say(f"all there, in {into}")
        return 0
    try:
        archive = options.archive or find_archive()
    except NoArchiveError as error:
        say(
            f"{error}; run this on Debian, or name an archive with --archive, or copy "
            f"{into} from where it has run. Without it launcher-hook checks against "
            "/usr/share/libvirt/schemas if that is there, else against its own passthrough.xsd"
        )
        return 3
    except (FetchError, OSError, subprocess.SubprocessError) as error:
        say(f"{error}; see that `apt-get update` works here, then run this again")
        return 1

    status = 0
    for wanted in missing:
        say(f"{wanted.name}: {wanted.package} from Debian {wanted.suite} ...")
        start = time.monotonic()
        try:
            version, files = keep_trying(partial(fetch, wanted, archive))
            write_folder(into / version, files)
        except (FetchError, OSError, subprocess.SubprocessError) as error:
            if wanted.version is None:
                say(f"{wanted.name}: {error}; going on without, --newest tries again")
            else:
                say(f"{wanted.name}: {error}; see that `apt-get update` works, then try again")
                status = 1
            continue
        say(f"libvirt {version}: {len(files) - 1} files in {time.monotonic() - start:.1f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
