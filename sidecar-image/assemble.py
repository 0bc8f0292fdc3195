"""Put together the image's root file system: an interpreter, our packages, and what both link to.

Run in the Containerfile's build stage, with the Python that the image is to have. No shell, no
package manager, no compiler gets in, because nothing gets in that is not named here; what does is
told to scanners the way distroless images do it, as a stanza a package in ``dpkg/status.d``.

The root is read-only where it runs, and the hook has a quarter of a CPU second to start: every
module is compiled here, and its .pyc is never compared with its source (PEP 552).
"""

import argparse
import compileall
import importlib.metadata
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

APP = Path("/usr/lib/launcher-hook")
"""Where our packages are: not on Python's own path, the programs put it there."""

PROGRAM = """\
#!{python} -IS
import sys

sys.path.append("{app}")
from {module} import {function}

sys.exit({function}())
"""
"""-I -S: neither the environment nor site's search for .pth files has a say, or takes time."""

UNUSED = (
    "__pycache__", "test", "tests", "idlelib", "turtledemo", "tkinter", "lib2to3", "ensurepip",
    "venv", "pydoc_data", "distutils", "curses", "dbm", "sqlite3", "msilib", "site-packages",
    "dist-packages", "config-*", "_test*", "_ctypes_test*", "_xx*", "xx*.so", "_curses*", "_dbm*",
    "_gdbm*", "_sqlite3*", "_tkinter*", "readline*", "nis.*", "ossaudiodev*", "_crypt*",
    "turtle.py", "pydoc.py", "doctest.py", "LICENSE.txt",
)  # fmt: skip
"""Of the standard library: what no server has a use for, and its libraries."""

UNUSED_IN_PACKAGES = ("__pycache__", "bin", "tests", "includes", "*.pyx", "*.pxd", "*.pxi", "*.pyi")
"""Of what pip installs: lxml's headers, stubs for type checkers."""

ACCOUNTS = {
    "passwd": "root:x:0:0:root:/:/nonexistent\nqemu:x:107:107:qemu:/:/nonexistent\n",
    "group": "root:x:0:\nqemu:x:107:\n",
}
"""KubeVirt's user of virt-launcher and its sidecars, by name."""

MOUNT_POINTS = ("proc", "sys", "dev", "host/dev", "etc/launcher-hook", "var/run/kubevirt-hooks",
                "var/run/kubevirt-plugin/launcher-hook",
                "var/lib/kubelet/device-plugins")  # fmt: skip
"""Of the manifests: somebody who mounts over a root that is read-only finds them there."""

DATA = ("/usr/share/misc/pci.ids", "/etc/os-release")

# glibc opens it when a thread ends by cancellation, and aborts where it is not.
OPENED_AT_RUN_TIME = ("libgcc_s.so.1",)


def main() -> None:
    """Assemble, compile, and show what came of it."""
    parser = argparse.ArgumentParser(description="Assemble the image's root file system.")
    parser.add_argument("app", type=Path, help="what pip installed, with --target")
    parser.add_argument("root", type=Path, help="the directory to make")
    arguments = parser.parse_args()
    root: Path = arguments.root
    root.mkdir(mode=0o755)

    python = copy_python(root)
    copy_packages(arguments.app, root)
    for source in DATA:
        copy_file(Path(source).resolve(), root, Path(source))
    origins = copy_libraries(root)
    origins.update(Path(source).resolve() for source in (python, *DATA))
    write_programs(root, python)
    write_packages(root, owners(origins))
    (root / "etc").mkdir(exist_ok=True)
    for name, text in ACCOUNTS.items():
        (root / "etc" / name).write_text(text, encoding="utf-8")
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)
    subprocess.run(["ldconfig", "-r", str(root)], check=True)
    shutil.rmtree(root / "var/cache", ignore_errors=True)  # ldconfig's own
    compile_modules(root)
    settle_modes(root)
    size = sum(path.lstat().st_size for path in root.rglob("*"))
    print(f"root file system: {size / 1e6:.1f} MB", flush=True)  # noqa: T201


def copy_python(root: Path) -> Path:
    """Copy the interpreter and its library; give the interpreter's path."""
    python = Path(sys.executable).resolve()
    copy_file(python, root)
    link(root, Path("/usr/bin/python3"), python)
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library, below(root, library), ignore=shutil.ignore_patterns(*UNUSED))
    return python


def copy_packages(app: Path, root: Path) -> None:
    """Copy what pip installed, without what only builders and testers read."""
    ignore = shutil.ignore_patterns(*UNUSED_IN_PACKAGES)
    shutil.copytree(app, below(root, APP), ignore=ignore)


def copy_libraries(root: Path) -> set[Path]:
    """Copy the shared libraries that everything in ``root`` links to; give where they came from."""
    wanted = {Path(find_library(name)) for name in OPENED_AT_RUN_TIME}
    for binary in binaries(root):
        listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
        missing = re.findall(r"^\s*(\S+) => not found", listing.stdout, re.M)
        if missing:
            sys.exit(f"{binary}: {', '.join(missing)} is not in the base image; install it there")
        # "libz.so.1 => /lib/... (0x...)", and the loader: "/lib64/ld-linux-x86-64.so.2 (0x...)"
        wanted.update(map(Path, re.findall(r"(/\S+) \(0x", listing.stdout)))
    for library in wanted:
        if not below(root, library).exists() and not library.is_relative_to(root):
            copy_file(library.resolve(), root, library)
    return {library.resolve() for library in wanted if not library.is_relative_to(root)}


def binaries(root: Path) -> Iterator[Path]:
    """Find ELF files."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def find_library(name: str) -> str:
    """Ask the loader's cache where a library is."""
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^\s*{re.escape(name)} .*=> (/\S+)$", cache, re.M)
    if found is None:
        sys.exit(f"{name} is not in the base image; install libgcc-s1 there")
    return found[1]


def write_programs(root: Path, python: Path) -> None:
    """Write the console scripts of the wheel."""
    (wheel,) = importlib.metadata.distributions(name="launcher-hook", path=[str(below(root, APP))])
    for entry in wheel.entry_points.select(group="console_scripts"):
        program = below(root, Path("/usr/bin", entry.name))
        program.parent.mkdir(parents=True, exist_ok=True)
        text = PROGRAM.format(python=python, app=APP, module=entry.module, function=entry.attr)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)


def owners(files: Iterable[Path]) -> set[str]:
    """Find the Debian packages that files came from; those of none, e.g. a built Python, are left.

    dpkg knows a file by the name that it was packed under, which may be without /usr.
    """
    found: set[str] = set()
    for path in files:
        for name in (path, Path("/", path.relative_to("/usr")) if path.parts[1] == "usr" else path):
            ask = ["dpkg-query", "-S", str(name)]
            answer = subprocess.run(ask, capture_output=True, text=True, check=False)
            found.update(line.partition(":")[0] for line in answer.stdout.splitlines())
    # The standard library's package is none of a library's or a program's, but of their source.
    return found | {name.replace("-minimal", "-stdlib") for name in found if "libpython" in name}


def write_packages(root: Path, names: Iterable[str]) -> None:
    """Leave each package's copyright, and its stanza where scanners look for it."""
    folder = below(root, Path("/var/lib/dpkg/status.d"))
    folder.mkdir(parents=True)
    for name in sorted(names):
        ask = ["dpkg-query", "-s", name]
        stanza = subprocess.run(ask, capture_output=True, text=True, check=False)
        if stanza.returncode == 0:
            (folder / name).write_text(stanza.stdout, encoding="utf-8")
        licence = Path("/usr/share/doc", name, "copyright")
        if licence.exists():
            copy_file(licence.resolve(), root, licence)


def compile_modules(root: Path) -> None:
    """Compile every module under the name that it will have."""
    for folder in (Path(sysconfig.get_path("stdlib")), APP):
        done = compileall.compile_dir(
            below(root, folder),
            quiet=1,
            force=True,
            workers=0,
            stripdir=str(root),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not done:
            sys.exit(f"{folder}: a module does not compile")


def settle_modes(root: Path) -> None:
    """Let everybody read and nobody write; no program changes who runs it."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)


def below(root: Path, path: Path) -> Path:
    """Give the place in ``root`` of an absolute path."""
    return root / path.relative_to("/")


def copy_file(source: Path, root: Path, name: Path | None = None) -> None:
    """Copy a file to where it is, or to where ``name`` says."""
    target = below(root, name or source)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def link(root: Path, name: Path, target: Path) -> None:
    """Make a symbolic link, unless the file itself is there."""
    place = below(root, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(os.path.relpath(target, name.parent))


if __name__ == "__main__":
    main()
