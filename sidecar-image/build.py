"""Build the image with buildah or docker, whichever works here, into one OCI archive.

The base is made from Debian's packages, by mmdebstrap from the archive that this machine's apt
uses; ``--base`` names another one, of a registry. The base and the wheels are kept in
``.cache/image`` by what they are made of, so that the second build asks nobody; one whose inputs
have not changed does nothing. What was built is looked through (scan.py), and beside the archive
stands its bill of materials (sbom.py).

Exit status: 0 the archive is there; 1 it could not be built, or has faults; 3 this machine lacks
what it takes.
"""

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "schemas"))

from archive import read_image  # noqa: E402
from debian import (  # noqa: E402
    FetchError,
    NoArchiveError,
    deb_line,
    find_archive,
    mmdebstrap,
)
from scan import find_faults  # noqa: E402

CACHE = REPOSITORY / ".cache/image"
WORK = REPOSITORY / "build/image"
ARCHIVE = WORK / "launcher-hook.tar"

SUITE, PYTHON, GLIBC = "trixie", "3.13", 41
"""Debian's release for the base, the Python that it has, and the minor version of its glibc 2."""

BASE_PACKAGES = ("python3-venv", "pci.ids", "ca-certificates")
LOCKS = ("build.lock", "runtime.lock")
CONTEXT = (
    "pyproject.toml", "README.md", "LICENSE", "launcher_hook", "schemas",
    *(f"sidecar-image/{name}" for name in ("Containerfile", "assemble.py", *LOCKS)),
)  # fmt: skip
IGNORED = ("__pycache__", ".*")
NAME = "localhost/launcher-hook"
ASK = ("python3", "-c", "import platform as p; print(p.python_version()[:4], p.libc_ver()[1])")


class FaultyError(Exception):
    """What was built is nothing to give to anybody: its faults."""


class UnableError(Exception):
    """This machine cannot build: what it lacks, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build if anything has changed; see the module for the exit status."""
    parser = argparse.ArgumentParser(description="Build launcher-hook's image.")
    parser.add_argument(
        "--base",
        metavar="IMAGE",
        help="Debian-based, with Python 3.11 or newer (default: made from Debian's packages)",
    )
    parser.add_argument(
        "--engine", choices=("docker", "buildah"), help="(default: the one that works here)"
    )
    parser.add_argument(
        "--output", type=Path, default=ARCHIVE, metavar="FILE", help="the OCI archive to write"
    )
    options = parser.parse_args(arguments)
    try:
        build(options.base or None, options.engine or choose_engine(), options.output)
    except (UnableError, NoArchiveError) as error:
        say(str(error))
        return 3
    except FaultyError as error:
        say(str(error))
        return 1
    except (FetchError, OSError, subprocess.SubprocessError) as error:
        say(f"{error}; see above, {advise(is_root=os.geteuid() == 0)}")
        return 1
    return 0


def advise(*, is_root: bool) -> str:
    """What to do about a program that failed: another user's user namespaces may not be enough."""
    if is_root:
        return "mend it, and run this again"
    return (
        "and run this as root (sudo make image), or where docker has an engine with a base of a "
        "registry (make image BASE=python:3.13-slim-trixie)"
    )


def build(base: str | None, engine: str, output: Path) -> None:
    """Bring what is missing, and build unless that has been done with the same inputs."""
    if importlib.util.find_spec("cyclonedx") is None:
        raise UnableError("there is no Python package cyclonedx; run make image, which brings it")
    context = WORK / "context"
    lay_context(context)
    tarball = bring_base() if base is None else None
    # What is in our own base is in its name, and the wheels are those of the lock files.
    made_of = digest(files_below(context), f"{base or tarball} {engine} {revision()}")
    stamp, materials = output.with_name(f"{output.name}.made-of"), output.with_suffix(".cdx.json")
    if (
        stamp.exists()
        and stamp.read_text(encoding="utf-8") == made_of
        and all(path.exists() for path in (output, materials))
    ):
        say(f"all there, in {shorten(output)}")
        return
    with progress(f"image, with {engine}"):
        stamp.unlink(missing_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        ENGINES[engine](context, base or f"{NAME}-base:{SUITE}", tarball, output)
        inspect(output, materials, context / "wheels")
        stamp.write_text(made_of, encoding="utf-8")
    say(f"{shorten(output)}: {output.stat().st_size / 1e6:.1f} MB, an OCI archive")
    say(f"{shorten(materials)}: its bill of materials, CycloneDX 1.6")


def inspect(archive: Path, materials: Path, wheels: Path) -> None:
    """Look through what was built, and write down what it is made of; a faulty one goes."""
    from sbom import describe_image

    image = read_image(archive)
    faults = list(find_faults(image))
    if faults:
        archive.unlink()
        raise FaultyError("\n".join([f"{shorten(archive)} is not kept:", *faults]))
    text = describe_image(image, sorted(wheels.glob("*.whl")), commit_time())
    with whole(materials) as new:
        new.write_text(text, encoding="utf-8")


def choose_engine() -> str:
    """Docker where it has an engine to talk to, else buildah, which needs none."""
    if shutil.which("docker") is not None:
        asked = subprocess.run(["docker", "info"], capture_output=True, check=False)
        if asked.returncode == 0:
            return "docker"
    if shutil.which("buildah") is not None:
        return "buildah"
    raise UnableError(
        "there is no buildah, and no docker that has an engine; "
        "as root do 'apt-get install --no-install-recommends buildah mmdebstrap'"
    )


def lay_context(context: Path) -> None:
    """Copy what the build may see, and nothing else: no cache, no .git, no build before it."""
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    for name in CONTEXT:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns(*IGNORED))
        else:
            (context / name).parent.mkdir(exist_ok=True)
            shutil.copy2(source, context / name)


def bring_base() -> Path:
    """Give the base's file system as a tar, made when there is none yet."""
    made_of = f"{SUITE} {' '.join(BASE_PACKAGES)} {platform.machine()}"
    tarball = CACHE / f"base-{digest((), made_of)[:16]}.tar"
    if tarball.exists():
        return tarball
    if shutil.which("mmdebstrap") is None:
        raise UnableError(
            "there is no mmdebstrap to make the base with; as root do 'apt-get install "
            "mmdebstrap', or give one of a registry, e.g. make image BASE=python:3.13-slim-trixie"
        )
    with progress(f"base of Debian {SUITE}'s packages"), whole(tarball) as new:
        include = ",".join(BASE_PACKAGES)
        run(*mmdebstrap("--variant=apt", f"--include={include}", "--format=tar",
                        '--aptopt=Acquire::Retries "3"', SUITE, new, *sources()))  # fmt: skip
    return tarball


def sources() -> list[str]:
    """Where apt of this machine has Debian and its security updates, for our suite."""
    archive = find_archive()
    lines = [deb_line(archive, suite) for suite in (SUITE, f"{SUITE}-updates")]
    try:
        security = find_archive("Debian-Security")
    except NoArchiveError:
        say("apt has no security archive here: the base goes without its updates")
        return lines
    return [*lines, deb_line(security, f"{SUITE}-security")]


def bring_wheels(context: Path, python: str, glibc: int) -> None:
    """Put the locked wheels into the context; pip of this machine knows where they come from.

    Args:
        context: Has the lock files.
        python: The base's Python, such as ``3.13``.
        glibc: The minor version of the base's glibc 2.
    """
    locks = [context / "sidecar-image" / name for name in LOCKS]
    machine = platform.machine()
    names = " ".join(lock.name for lock in locks)
    made_of = digest(locks, f"{names} {python} {glibc} {machine}")
    wheels = CACHE / f"wheels-{python}-{made_of[:16]}"
    # pip takes the names as they are: each glibc's own, none implies an older one.
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 4, -1)]
    target = [f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}")]
    if not wheels.exists():
        with progress(f"Python packages of the image, for {python}"), whole(wheels) as new:
            for lock in locks:
                run(sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "--no-deps",
                    "--only-binary=:all:", f"--python-version={python}", *target, "-r", lock,
                    "-d", new)  # fmt: skip
    shutil.copytree(wheels, context / "wheels")


def parse_versions(text: str) -> tuple[str, int]:
    """Take apart what ``ASK`` prints in a base: its Python, and the minor of its glibc 2."""
    python, _, libc = text.partition(" ")
    major, _, minor = libc.partition(".")
    if major != "2" or not minor.isdecimal():
        raise UnableError(f"the base has no glibc 2 ({text!r}); give one that is Debian's")
    return python, int(minor)


def build_with_docker(context: Path, base: str, tarball: Path | None, output: Path) -> None:
    """Build in docker's engine; the image stays there, and goes into the archive."""
    if tarball is not None:
        run("docker", "import", tarball, base, quiet=True)
        versions = PYTHON, GLIBC
    else:
        versions = parse_versions(capture("docker", "run", "--rm", "--entrypoint=", base, *ASK))
    bring_wheels(context, *versions)
    tags = [f"--tag={name}" for name in image_names()]
    run("docker", "build", "-q", *tags, *build_arguments(context, base), quiet=True)
    with whole(output) as new:
        run("docker", "save", "-o", new, image_names()[0])


def build_with_buildah(context: Path, base: str, tarball: Path | None, output: Path) -> None:
    """Build without engine, registry or privileges beyond a chroot, in a storage of our own."""
    storage = WORK / "storage"
    policy = WORK / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="utf-8")
    places = ("--root", storage / "root", "--runroot", storage / "run")
    buildah: list[str | Path] = ["buildah", *places, "--storage-driver", "vfs"]
    signed: list[str | Path] = ["--signature-policy", policy]
    try:
        if tarball is not None:
            container = capture(*buildah, "from", *signed, "scratch")
            run(*buildah, "add", "-q", container, tarball, "/", quiet=True)
            run(*buildah, "commit", "-q", *signed, "--rm", container, base, quiet=True)
            versions = PYTHON, GLIBC
        else:
            container = capture(*buildah, "from", "-q", *signed, base)
            ask = capture(*buildah, "run", "--isolation", "chroot", container, "--", *ASK)
            versions = parse_versions(ask)
        bring_wheels(context, *versions)
        tags = [f"--tag={name}" for name in image_names()]
        run(*buildah, "build", "--isolation", "chroot", *signed, "--pull=missing", *tags,
            *build_arguments(context, base))  # fmt: skip
        with whole(output) as new:
            run(*buildah, "push", "-q", *signed, image_names()[0],
                f"oci-archive:{new}:{image_names()[0]}", quiet=True)  # fmt: skip
    finally:
        shutil.rmtree(storage, ignore_errors=True)


ENGINES: dict[str, Callable[[Path, str, Path | None, Path], None]] = {
    "docker": build_with_docker,
    "buildah": build_with_buildah,
}


def build_arguments(context: Path, base: str) -> list[str | Path]:
    """What docker and buildah are told alike."""
    values = {"BASE": base, "VERSION": version(), "REVISION": revision()}
    given = [f"--build-arg={name}={value}" for name, value in values.items()]
    return [*given, "-f", context / "sidecar-image/Containerfile", context]


def image_names() -> list[str]:
    """The image's names: with the version, and latest."""
    return [f"{NAME}:{version()}", f"{NAME}:latest"]


def version() -> str:
    """The program's version, as the wheel takes it."""
    text = (REPOSITORY / "launcher_hook/__init__.py").read_text(encoding="utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


def revision() -> str:
    """The commit, with ``-dirty`` where it is not all; ``unknown`` outside of a clone."""
    ask = ["git", "-C", str(REPOSITORY), "describe", "--always", "--abbrev=40", "--dirty"]
    asked = subprocess.run(ask, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def commit_time() -> datetime:
    """When the commit was made; outside of a clone the beginning of time."""
    ask = ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%ct"]
    asked = subprocess.run(ask, capture_output=True, text=True, check=False)
    return datetime.fromtimestamp(int(asked.stdout or 0), UTC)


def files_below(folder: Path) -> list[Path]:
    """All files, in a stable order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest(paths: Iterable[Path], text: str) -> str:
    """Sum up a text, and files by place, mode and content."""
    total = hashlib.sha256(text.encode())
    for path in paths:
        total.update(f"\0{path} {path.stat().st_mode & 0o111:o}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def run(*command: str | Path, quiet: bool = False) -> None:
    """Run a program; what it prints goes to our stderr, or nowhere."""
    where = subprocess.PIPE if quiet else sys.stderr
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=where, check=False)
    if done.returncode != 0:
        shown = " ".join(map(str, command[:3]))
        raise subprocess.SubprocessError(f"{shown} ended with status {done.returncode}")


def capture(*command: str | Path) -> str:
    """Run a program; give what it prints."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write under; it becomes ``path`` when all went well, else it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new-{path.name}")
    remove(new)
    try:
        yield new
        remove(path)
        new.rename(path)
    finally:
        remove(new)


def remove(path: Path) -> None:
    """Take a file or a directory away, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Tell the start of something that takes long, and how long it took."""
    say(f"{what} ...")
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.0f} s")


def shorten(path: Path) -> Path:
    """A path as seen from the repository, if it is in there."""
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(f"image: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
