"""What is ours in level 1: the wheel with its dependencies, the tests' launcher, the guest's parts.

The dependencies are those of requirements.lock for level 1's Python, kept by the lock's hash; the
wheel and the rest are put in anew each time. It is a second cpio behind the machine's.
"""

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from libvirt_driver import for_this_machine
from lxml import etree

from e2e.machine import Image, pack, run

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = REPOSITORY / "tests"
# Case of fixtures/ whose domain a launcher wrote for the machine type, before its hostdevs.
DOMAINS = {"q35": "readme", "i440fx": "i440fx"}
GUEST_MIB = 128
_FROM_TESTS = ("apart.py", "launcher.py", "launcher_passes.py", "kubelet.py", "metadata.py")
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")


def put_project(image: Image, cache: Path, into: Path, say: Callable[[str], None]) -> None:
    """Write level 1's whole initramfs: the machine's and ours."""
    with tempfile.TemporaryDirectory(prefix="e2e-", dir=cache) as name:
        root = Path(name)
        root.chmod(0o755)  # it becomes level 1's /
        place = root / "opt/e2e"
        shutil.copytree(_dependencies(image, cache, say), place / "lib")
        _put_wheel(place / "lib", root / "usr/bin")
        tests = place / "tests"
        shutil.copytree(TESTS / "e2e", tests / "e2e", ignore=shutil.ignore_patterns("__pycache__"))
        for file in _FROM_TESTS:
            if (TESTS / file).exists():
                shutil.copy2(TESTS / file, tests)
        for machine, case in DOMAINS.items():
            (place / f"{machine}.xml").write_bytes(launcher_domain(case))
        _compile(place, image)
        _put_guest(root, place, image)
        pack(root, root.parent / "project.cpio")
    with into.open("wb") as file:
        for part in (image.initramfs, cache / "project.cpio"):
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
    (cache / "project.cpio").unlink()


def launcher_domain(case: str) -> bytes:
    """A domain that virt-launcher wrote, small enough for an emulated node, without hostdevs."""
    xml = (REPOSITORY / "fixtures/cases" / case / "domain.xml").read_bytes()
    domain = etree.fromstring(for_this_machine(xml))
    for hostdev in domain.xpath("devices/hostdev"):
        hostdev.getparent().remove(hostdev)
    memory = domain.find("memory")
    assert memory is not None
    for disk in domain.iterfind("devices/disk/driver"):
        disk.attrib.pop("cache")  # no O_DIRECT on a tmpfs
        disk.set("type", "raw")
    memory.text = str(GUEST_MIB * 1024 * 1024)
    # virt-launcher always writes it, and a guest's NUMA nodes are told by it.
    features = domain.find("features")
    if features is None:
        features = etree.SubElement(domain, "features")
    if features.find("acpi") is None:
        etree.SubElement(features, "acpi")
    return etree.tostring(domain)


def _dependencies(image: Image, cache: Path, say: Callable[[str], None]) -> Path:
    """The locked packages that the wheel asks for, for level 1's Python."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    project = (REPOSITORY / "pyproject.toml").read_text()
    wanted = _wanted(project)
    key = hashlib.sha256(f"{wanted} {lock}".encode()).hexdigest()[:16]
    folder = cache / f"dependencies-{image.python_version}-{key}"
    if folder.is_dir():
        return folder
    say("the wheel's dependencies, for level 1's Python (once; needs the package index)")
    with tempfile.TemporaryDirectory(prefix="e2e-", dir=cache) as name:
        # Without hashes: pip would ask for those of the requirements too.
        pins = re.findall(r"^[A-Za-z0-9_.-]+==\S+(?: ;[^\\\n]+)?", lock, re.MULTILINE)
        constraints = Path(name) / "constraints"
        constraints.write_text("\n".join(pins) + "\n")
        platforms = [word for p in _PLATFORMS for word in ("--platform", p)]
        run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-input", "--root-user-action=ignore", "--only-binary", ":all:", *platforms,
            "--python-version", image.python_version, "--target", Path(name) / "lib",
            "--constraint", constraints, *wanted,
        )  # fmt: skip
        (Path(name) / "lib").rename(folder)
    for other in cache.glob(f"dependencies-{image.python_version}-*"):
        if other != folder:
            shutil.rmtree(other)
    return folder


def _wanted(project: str) -> list[str]:
    import tomllib

    return list(tomllib.loads(project)["project"]["dependencies"])


def _put_wheel(lib: Path, programs: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", name, cwd=REPOSITORY)
        (wheel,) = Path(name).glob("*.whl")
        run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--root-user-action=ignore", "--no-index", "--no-deps", "--upgrade",
            "--target", lib, wheel,
        )  # fmt: skip
    programs.mkdir(parents=True)
    for script in (lib / "bin").iterdir():
        text = script.read_text()
        if script.name in ("launcher-hook", "onDefineDomain"):
            (programs / script.name).write_text(re.sub(r"\A#!.*", "#!/usr/bin/python3", text))
            (programs / script.name).chmod(0o755)


def _compile(place: Path, image: Image) -> None:
    """Compile it by level 1's Python, here, where it is quick."""
    # In one process: its workers would be started without its loader.
    run(*image.python(), "-m", "compileall", "-q", "-s", place.parents[1],
        "--invalidation-mode", "unchecked-hash", place)  # fmt: skip


def _put_guest(root: Path, place: Path, image: Image) -> None:
    """Level 2's kernel and an initramfs of busybox and one script."""
    shutil.copy2(image.guest_kernel, place / "guest-kernel")
    guest = root / "guest"
    for name in ("bin", "dev", "proc", "sys"):
        (guest / name).mkdir(parents=True)
    shutil.copy2(image.busybox, guest / "bin/busybox")
    shutil.copy2(TESTS / "e2e/guest-init.sh", guest / "init")
    (guest / "init").chmod(0o755)
    pack(guest, place / "guest.cpio")
    shutil.rmtree(guest)
