"""Read a built image: an OCI archive, as its specification says it."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A file, directory or link of the image's root file system."""

    info: tarfile.TarInfo
    content: bytes

    @property
    def name(self) -> str:
        """Its absolute path in the image."""
        return "/" + self.info.name.strip("/").removeprefix("./")


@dataclass(frozen=True)
class Image:
    """What a runtime gets.

    Attributes:
        digest: The manifest's, ``sha256:...``: what a registry calls the image by.
        document: The image's configuration: settings, history, architecture.
        entries: The root file system, by absolute path; a later layer's entry replaces an
            earlier one's.
    """

    digest: str
    document: Mapping[str, Any]
    entries: Mapping[str, Entry]

    def files(self, prefix: str = "/") -> Iterator[Entry]:
        """Regular files below a path, in the order of their names."""
        for name in sorted(self.entries):
            if name.startswith(prefix) and self.entries[name].info.isfile():
                yield self.entries[name]


def read_image(archive: Path) -> Image:
    """Read the first image of an archive; all of it is kept in memory."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None, name
            return file.read()

        def blob(descriptor: Mapping[str, Any]) -> bytes:
            return read("blobs/" + descriptor["digest"].replace(":", "/"))

        (described, *_) = json.loads(read("index.json"))["manifests"]
        manifest = json.loads(blob(described))
        entries: dict[str, Entry] = {}
        for layer in manifest["layers"]:
            entries.update((entry.name, entry) for entry in _unpack(blob(layer)))
        return Image(described["digest"], json.loads(blob(manifest["config"])), entries)


def _unpack(layer: bytes) -> Iterator[Entry]:
    data = gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            if info.name.strip("./"):
                file = tar.extractfile(info) if info.isfile() else None
                yield Entry(info, file.read() if file is not None else b"")
