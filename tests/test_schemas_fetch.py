"""schemas/fetch.py: its pure parts, and that what it brought is what the manifest pins."""

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMAS = REPOSITORY / "schemas"
LIBVIRT = SCHEMAS / "libvirt"

sys.path.insert(0, str(SCHEMAS))

import fetch  # noqa: E402 - it is a script, no package

SETS = fetch.read_manifest()
PINNED = [each for each in SETS if each.version is not None]


def need(complete: bool) -> None:
    """Skip where libvirt's schemas could not be fetched; CI has no such excuse."""
    if not complete and not os.environ.get("CI"):
        pytest.skip("libvirt's schemas are not here; run make setup")
    assert complete


def test_manifest_pins_two_versions_and_follows_the_newest() -> None:
    """Bookworm's and trixie's libvirt are required, sid's is not."""
    assert [(each.version, each.suite) for each in SETS] == [
        ("9.0.0", "bookworm"),
        ("11.3.0", "trixie"),
        (None, "sid"),
    ]
    for each in PINNED:
        assert "domain.rng" in each.sha256
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in each.sha256.values())


@pytest.mark.parametrize("pinned", PINNED, ids=lambda each: each.version)
def test_what_was_fetched_is_what_is_pinned(pinned: fetch.SchemaSet) -> None:
    """Every pinned byte is there, with the licence, and the pins are the whole grammar."""
    folder = LIBVIRT / pinned.version
    need(folder.is_dir())
    files = fetch.read_files(folder)
    assert fetch.wrong_files(files, pinned.sha256) == []
    assert fetch.included_files(files) == set(pinned.sha256)
    assert "LGPL" in (folder / "COPYING.libvirt").read_text(encoding="utf-8")


def test_fetching_again_asks_nobody(tmp_path: Path) -> None:
    """With everything there, no program is run: an empty PATH does."""
    need(all(fetch.is_complete(each, LIBVIRT) for each in PINNED))
    result = subprocess.run(
        [sys.executable, SCHEMAS / "fetch.py"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert "all there" in result.stderr


def test_a_machine_without_apt_is_told_what_to_do(tmp_path: Path) -> None:
    """Status 3 is for the Makefile, the message for people."""
    result = subprocess.run(
        [sys.executable, SCHEMAS / "fetch.py", "--into", tmp_path / "schemas"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3
    assert re.search(r"run this on Debian.*passthrough\.xsd", result.stderr)
    assert not (tmp_path / "schemas").exists()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("9.0.0-4+deb12u2", "9.0.0"),
        ("11.3.0-3+deb13u3", "11.3.0"),
        ("1:12.8.0-1", "12.8.0"),
        ("12.9.0~rc1-1", "12.9.0"),
    ],
)
def test_version_of_a_package(text: str, version: str) -> None:
    """Epoch, Debian revision and pre-release marks are not libvirt's version."""
    assert fetch.parse_version(text) == version


@pytest.mark.parametrize("text", ["", "newest", "12", "../../12.0.0-1"])
def test_version_that_is_none(text: str) -> None:
    """A folder is named after it: nothing but a version passes."""
    with pytest.raises(fetch.FetchError, match=re.escape(repr(text))):
        fetch.parse_version(text)


def test_included_files_follows_includes_of_includes() -> None:
    """Each file once, a circle does not hurt, what nobody includes stays out."""
    files = {
        "domain.rng": b"<grammar><include href='a.rng'/></grammar>",
        "a.rng": b'<grammar><include\n  href="b.rng"><start/></include></grammar>',
        "b.rng": b'<grammar><include href="a.rng"/></grammar>',
        "network.rng": b"<grammar/>",
    }
    assert fetch.included_files(files) == {"domain.rng", "a.rng", "b.rng"}


def test_included_files_names_what_is_missing() -> None:
    """A package that moved part of the grammar elsewhere is found out before it is used."""
    with pytest.raises(fetch.FetchError, match=r"b\.rng is not among the files"):
        fetch.included_files({"domain.rng": b'<grammar><include href="b.rng"/></grammar>'})


def test_a_set_is_complete_only_with_every_byte(tmp_path: Path) -> None:
    """A changed file, a missing one and a missing licence are all incomplete."""
    content = {"domain.rng": b"<grammar/>", "COPYING.libvirt": b"LGPL"}
    digest = hashlib.sha256(b"<grammar/>").hexdigest()
    pinned = fetch.SchemaSet("bookworm", "libvirt0", "9.0.0", {"domain.rng": digest})
    assert not fetch.is_complete(pinned, tmp_path)
    fetch.write_folder(tmp_path / "9.0.0", content)
    assert fetch.is_complete(pinned, tmp_path)
    assert not fetch.is_complete(dataclasses.replace(pinned, version=None), tmp_path)
    fetch.write_folder(tmp_path / "9.0.0", {**content, "domain.rng": b"<grammar />"})
    assert not fetch.is_complete(pinned, tmp_path)
    fetch.write_folder(tmp_path / "9.0.0", {"domain.rng": b"<grammar/>"})
    assert not fetch.is_complete(pinned, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["9.0.0"]


def test_lock_names_no_place() -> None:
    """requirements.lock is for every machine: hashes, no index, no path."""
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--index|--find-links|file:|/home/|/tmp/", text)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    wanted = [*project["project"]["dependencies"]]
    for entry in groups["dev"]:
        wanted += groups[entry["include-group"]] if isinstance(entry, dict) else [entry]
    locked = set(re.findall(r"^([a-z0-9.-]+)==", text, flags=re.MULTILINE))
    assert {re.split(r"[<>=!~ ;\[]", line)[0].lower() for line in wanted} <= locked
