"""What is released: `make dist`, the same bytes from wherever and whenever it is built."""

import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from test_wheel import need_libvirts_schemas
from test_wheel import wheel as wheel_of_the_tree

from launcher_hook import __version__

REPOSITORY = Path(__file__).resolve().parents[1]
DIST = [f"launcher_hook-{__version__}-py3-none-any.whl", f"launcher_hook-{__version__}.tar.gz"]

# What names the version besides launcher_hook/__init__.py, which is the one place of it.
VERSIONED = re.compile(r"(launcher-hook:|newTag: )\d+\.\d+\.\d+\b")
NAMING = [
    REPOSITORY / "README.md",
    REPOSITORY / "sidecar-image/README.md",
    *sorted((REPOSITORY / "sidecar-image/manifests").rglob("*.yaml")),
]

wheel = wheel_of_the_tree  # the fixture


def build(into: Path, repository: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", repository / ".ci/dist.sh", into],
        env={**os.environ, "DIRTY": "1"}, cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def need_a_clone() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no clone")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_libvirts_schemas()
    need_a_clone()
    into = tmp_path_factory.mktemp("dist")
    done = build(into)
    assert done.returncode == 0, done.stderr
    return into


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Somebody else's clone, on another day, with this one's environment."""
    need_a_clone()
    there = tmp_path / "elsewhere" / "clone"
    there.mkdir(parents=True)
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True)
    for name in filter(None, tracked.split("\0")):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, there / name)
    (there / ".venv").symlink_to(REPOSITORY / ".venv")
    date = subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=REPOSITORY, text=True)
    when = f"{date.strip()} +0000"
    commit = {**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A", "-f", "--", ":!.venv"]):
        subprocess.run(["git", *command], cwd=there, check=True)
    subprocess.run(["git", *who, "commit", "-qm", "x"], cwd=there, env=commit, check=True)
    return there


def test_two_builds_in_two_clones_give_the_same_bytes(dist: Path, clone: Path) -> None:
    """The script itself compares two builds; here the clone, the day and the rubbish differ."""
    shutil.copytree(REPOSITORY / "schemas/libvirt", clone / "schemas/libvirt")
    (clone / "launcher_hook/notes.txt").write_text("not tracked\n")
    done = build(clone.parent / "out", clone)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in dist.iterdir())
    assert names == sorted([*DIST, "SHA256SUMS"])
    for name in names:
        assert (clone.parent / "out" / name).read_bytes() == (dist / name).read_bytes(), name


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(dist: Path, wheel: Path) -> None:
    """Names and contents; the time in it is the commit's, as `make dist` has it."""
    with zipfile.ZipFile(dist / DIST[0]) as ours, zipfile.ZipFile(wheel) as theirs:
        contents, wanted = (
            {name: archive.read(name) for name in archive.namelist()} for archive in (ours, theirs)
        )
    assert contents == wanted


def test_the_sdist_is_what_git_tracks_and_libvirts_schemas(dist: Path) -> None:
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True)
    with tarfile.open(dist / DIST[1]) as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
    names = {member.name.partition("/")[2] for member in members}
    libvirts = {name for name in names if name.startswith("schemas/libvirt/")}
    assert {name.split("/")[2] for name in libvirts} == {"9.0.0", "11.3.0"}
    assert names - libvirts - {"PKG-INFO"} == set(filter(None, tracked.split("\0")))


def test_the_version_stands_in_one_place(dist: Path, update_expected: bool) -> None:
    with zipfile.ZipFile(dist / DIST[0]) as archive:
        metadata = archive.read(f"launcher_hook-{__version__}.dist-info/METADATA").decode()
    assert HeaderParser().parsestr(metadata)["Version"] == __version__
    for path in NAMING:
        text = path.read_text(encoding="utf-8")
        wanted = VERSIONED.sub(rf"\g<1>{__version__}", text)
        if update_expected:
            path.write_text(wanted, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == wanted, path


def test_a_release_without_libvirts_schemas_is_refused(clone: Path) -> None:
    done = build(clone.parent / "out", clone)
    assert done.returncode == 1
    assert "run make setup" in done.stderr
    assert not (clone.parent / "out").exists()


def test_a_release_with_other_schemas_than_the_pinned_ones_is_refused(clone: Path) -> None:
    need_libvirts_schemas()
    shutil.copytree(REPOSITORY / "schemas/libvirt", clone / "schemas/libvirt")
    schema = clone / "schemas/libvirt/11.3.0/domain.rng"
    schema.write_bytes(schema.read_bytes() + b"\n")
    done = build(clone.parent / "out", clone)
    assert done.returncode == 1
    assert "without libvirt 11.3.0's schemas" in done.stderr


def test_a_release_of_what_no_commit_has_is_refused(clone: Path) -> None:
    with (clone / "README.md").open("a") as readme:
        readme.write("more\n")
    environment = {name: value for name, value in os.environ.items() if name != "DIRTY"}
    done = subprocess.run(
        ["bash", clone / ".ci/dist.sh"], env=environment, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1
    assert "commit them" in done.stderr
