"""Brings libvirt's own test domains to .cache/conformance: `python tests/conformance/corpus.py`.

They are libvirt's (LGPL-2.1-or-later) and not in this repository. apt gets the source package's
tarball from the archive that this machine uses, with only the suite changed, as for the
schemas; what else belongs to the source package (its signature) is not asked for.
"""

import hashlib
import re
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "schemas"))

import debian  # noqa: E402 - it is a script, no package

INTO = REPOSITORY / ".cache" / "conformance"
APT_HELPER = "/usr/lib/apt/apt-helper"


@dataclass(frozen=True)
class Source:
    """One libvirt's test corpus.

    Attributes:
        folders: Below ``tests/`` in the tarball.
    """

    version: str
    suite: str
    tarball: str
    sha256: str
    folders: tuple[str, ...]

    @property
    def directory(self) -> Path:
        return INTO / f"libvirt-{self.version}"

    @property
    def is_there(self) -> bool:
        stamp = self.directory / "sha256"
        return stamp.is_file() and stamp.read_text() == self.sha256

    def domains(self) -> list[Path]:
        """Every XML file of the corpus, in order."""
        return sorted(self.directory.glob("*/*.xml"))


def read_sources() -> list[Source]:
    text = Path(__file__).with_name("corpus.toml").read_text(encoding="utf-8")
    return [
        Source(**{**entry, "folders": tuple(entry["folders"])})
        for entry in tomllib.loads(text)["source"]
    ]


def bring(source: Source, archive: str) -> int:
    """Fetch one corpus; give the number of its files."""
    with tempfile.TemporaryDirectory(prefix="launcher-hook-apt-") as name:
        work = Path(name)
        debian.make_apt_folder(work, debian.deb_line(archive, source.suite, "deb-src"))
        debian.run_apt(["update"], work)
        uris = debian.run_apt(["--print-uris", "--only-source", "source", "libvirt"], work)
        line = re.search(rf"'([^']+)' {re.escape(source.tarball)} ", uris)
        if line is None:
            raise debian.FetchError(
                f"Debian {source.suite} has no {source.tarball} any more; put the version that it "
                "has into tests/conformance/corpus.toml"
            )
        tarball = work / "download" / source.tarball
        debian.run_apt(
            ["download-file", line[1], str(tarball), f"SHA256:{source.sha256}"], work, APT_HELPER
        )
        if hashlib.sha256(tarball.read_bytes()).hexdigest() != source.sha256:
            raise debian.FetchError(f"{source.tarball} has another sha256 than is pinned")
        files = dict(_read(tarball, source.folders))
    source.directory.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        file = source.directory / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    (source.directory / "sha256").write_text(source.sha256)
    return len(files)


def _read(tarball: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    wanted = re.compile(rf"[^/]+/tests/(({'|'.join(folders)})/[^/]+\.xml)")
    with tarfile.open(tarball, "r:xz") as archive:
        for member in archive:
            match = wanted.fullmatch(member.name)
            # A link in the corpus is another name for a file that is there as well.
            stream = archive.extractfile(member) if match and member.isfile() else None
            if match and stream is not None:
                yield match[1], stream.read()


def main() -> int:
    missing = [source for source in read_sources() if not source.is_there]
    if not missing:
        return 0
    try:
        archive = debian.find_archive()
        for source in missing:
            print(f"corpus: libvirt {source.version} from Debian {source.suite} ...", flush=True)
            count = debian.keep_trying(partial(bring, source, archive))
            print(f"corpus: libvirt {source.version}: {count} domains", flush=True)
    except (debian.FetchError, debian.NoArchiveError) as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
