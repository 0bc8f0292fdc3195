"""What must not be in an image is found in one: sidecar-image/scan.py, which its build runs."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "sidecar-image"))

from archive import read_image
from scan import find_faults

SETTINGS = {"config": {"User": "107:107"}, "history": [{"created_by": "COPY / /"}]}


def write_archive(
    path: Path, *layers: dict[str, tuple[dict[str, Any], bytes]], settings: Any = SETTINGS
) -> Path:
    """An OCI archive of files: by name, what differs from a plain file of root's, and content."""
    blobs: dict[str, bytes] = {}

    def add(content: bytes) -> dict[str, str]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}"}

    described = []
    for layer in layers:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, (attributes, content) in layer.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                for attribute, value in attributes.items():
                    setattr(info, attribute, value)
                tar.addfile(info, io.BytesIO(content))
        described.append(add(gzip.compress(data.getvalue())))
    manifest = {"config": add(json.dumps(settings).encode()), "layers": described}
    index = {"manifests": [add(json.dumps(manifest).encode())]}
    with tarfile.open(path, "w") as tar:
        for name, content in {**blobs, "index.json": json.dumps(index).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def faults(path: Path) -> list[str]:
    return list(find_faults(read_image(path)))


FAULTY = {
    "everybody may write a file": ("etc/x", {"mode": 0o666}, b"", "everybody may write it (666)"),
    "everybody may write a directory, sticky or not": (
        "scratch", {"type": tarfile.DIRTYPE, "mode": 0o1777}, b"", "everybody may write it (1777)",
    ),
    "the group may write": ("etc/x", {"mode": 0o664}, b"", "its group may write it"),
    "setuid": ("usr/bin/x", {"mode": 0o4755}, b"", "setuid or setgid (4755)"),
    "setgid": ("usr/bin/x", {"mode": 0o2755}, b"", "setuid or setgid"),
    "capabilities": (
        "usr/bin/x",
        {"pax_headers": {"SCHILY.xattr.security.capability": "x"}}, b"", "it has capabilities",
    ),
    "another owner": ("etc/x", {"uid": 107}, b"", "it belongs to 107:0"),
    "a device": ("dev/mem", {"type": tarfile.CHRTYPE}, b"", "neither file nor directory"),
    "a cache": ("var/lib/apt/lists/x", {}, b"", "left over from a build"),
    "somebody's home": ("root/.bash_history", {}, b"", "left over from a build"),
    "a clone": ("src/.git/config", {}, b"", "left over from a build"),
    "a file of passwords": ("etc/pip.conf", {}, b"", "looks like a secret"),
    "a private key": (
        "etc/x.pem", {},
        b"-----BEGIN PRIVATE KEY-----\n" + 64 * b"A" + b"\n", "looks like a secret",
    ),
    "a password in an address": (
        "etc/x", {}, b"index-url = https://me:hunter2hunter2@pypi.example/simple", "a secret",
    ),
    "a token": ("etc/x", {}, b"ghp_" + 36 * b"a", "looks like a secret"),
    "a shell": ("bin/sh", {"mode": 0o755}, b"", "nothing in the image needs this program"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_found_and_named(fault: str, tmp_path: Path) -> None:
    name, attributes, content, says = FAULTY[fault]
    path = write_archive(tmp_path / "x.tar", {name: (attributes, content)})
    found = faults(path)
    assert any(line.startswith(f"/{name}: ") and says in line for line in found), found


def test_what_may_be_there_is_no_fault(tmp_path: Path) -> None:
    path = write_archive(
        tmp_path / "x.tar",
        {
            "usr/bin/launcher-hook": ({"mode": 0o755}, b"#!/usr/bin/python3\n"),
            "usr/lib/x.py": ({}, b'"https://user:pass@host:port/path", "-----BEGIN PRIVATE KEY"'),
            "usr/bin/python3": ({"type": tarfile.SYMTYPE, "mode": 0o777, "linkname": "x"}, b""),
            "proc": ({"type": tarfile.DIRTYPE, "mode": 0o755}, b""),
        },
    )
    assert faults(path) == []


def test_a_later_layer_replaces_a_file_of_an_earlier_one(tmp_path: Path) -> None:
    path = write_archive(
        tmp_path / "x.tar", {"etc/x": ({"mode": 0o666}, b"")}, {"./etc/x": ({}, b"")}
    )
    assert faults(path) == []


@pytest.mark.parametrize("user", ["", "0", "0:0", "root"])
def test_an_image_that_runs_as_root_is_faulty(user: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x.tar", {}, settings={"config": {"User": user}})
    assert any("give it a user" in line for line in faults(path))


def test_a_secret_in_the_history_of_the_build_is_found(tmp_path: Path) -> None:
    run = {"created_by": "RUN pip install -i https://me:hunter2hunter2@pypi.example/simple x"}
    path = write_archive(tmp_path / "x.tar", {}, settings={**SETTINGS, "history": [run]})
    assert any("secret" in line for line in faults(path))


def test_who_is_not_root_is_told_what_a_build_needs() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import build; print(build.advise(is_root=False))"],
        cwd=Path(__file__).parent.parent / "sidecar-image",
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "run this as root (sudo make image), or where docker has an engine" in said
