"""The image, built and then run as a container runtime runs it, without an engine: as root."""

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import CASES
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from kubernetes import parse_injected_container
from launcher import Sidecar, mutate
from test_lock_files import read_pins

from launcher_hook import __version__

REPOSITORY = Path(__file__).parent.parent
MANIFESTS = REPOSITORY / "sidecar-image/manifests"
CASE = CASES / "stock-sidecar"
DOMAIN = (CASE / "domain.xml").read_bytes()
VMI = (CASE / "vmi.json").read_bytes()
EXPECTED = (CASE / "expected.xml").read_bytes()

MUST_MB, GOAL_MB = 200, 120
BUILD_S = 1500  # wide: on a new machine the base is made first, from packages that must come

pytestmark = pytest.mark.timeout(BUILD_S + 300)


@dataclass(frozen=True)
class Image:
    """The built image: what its runtime is told, and its root file system, unpacked."""

    settings: dict[str, Any]
    root: Path

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        for path in sorted(self.root.rglob("*")):
            yield f"/{path.relative_to(self.root)}", path.lstat()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if os.geteuid() != 0:
        pytest.skip("not root: a root file system with its owners, and a chroot, are root's")
    build = [sys.executable, REPOSITORY / "sidecar-image/build.py"]
    done = subprocess.run(build, stderr=subprocess.PIPE, text=True, check=False, timeout=BUILD_S)
    if done.returncode == 3 and not os.environ.get("CI"):
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    work = tmp_path_factory.mktemp("image")
    work.parent.parent.chmod(0o755)  # pytest's own are 0700, and uid 107 must get through
    work.parent.chmod(0o755)
    work.chmod(0o755)
    return unpack(REPOSITORY / "build/image/launcher-hook.tar", work)


def unpack(archive: Path, work: Path) -> Image:
    """Read an OCI archive as its specification says: index, manifest, configuration, layers."""
    with tarfile.open(archive) as tar:
        tar.extractall(work / "oci", filter="data")

    def blob(descriptor: dict[str, Any]) -> Path:
        return work / "oci/blobs" / descriptor["digest"].replace(":", "/")

    index = json.loads((work / "oci/index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]).read_text())
    root = work / "root"
    root.mkdir(mode=0o755)
    for layer in manifest["layers"]:
        with tarfile.open(blob(layer)) as tar:
            tar.extractall(root, filter="fully_trusted")  # our own: modes and owners as they are
    return Image(json.loads(blob(manifest["config"]).read_text())["config"], root)


def inside(image: Image, *command: str, bind: str | None = None) -> list[str]:
    """The command line that runs a program in the image, with SOURCE:TARGET mounted."""
    binds = [f"--bind={bind}"] if bind else []
    container = str(REPOSITORY / "tests/container.py")
    return [sys.executable, container, str(image.root), *binds, "--", *command]


def environment(image: Image) -> dict[str, str]:
    """The image's own variables and KubeVirt's one; mount is looked for where hosts have it."""
    own = dict(variable.split("=", 1) for variable in image.settings["Env"])
    return {**own, "CONTAINER_NAME": "hook-sidecar-0"}


def run(image: Image, *command: str, bind: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        inside(image, *command, bind=bind), env=environment(image), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@contextmanager
def running(
    image: Image,
    *arguments: str,
    mount: str = "/var/run/kubevirt-hooks",
    container: str = "hook-sidecar-0",
) -> Iterator[Sidecar]:
    """The image's entry point, with a directory for its sockets."""
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        Path(scratch).chmod(0o755)
        hooks, log = Path(scratch, "hooks"), Path(scratch, "log")
        hooks.mkdir()
        hooks.chmod(0o777)  # an emptyDir
        command = [*image.settings["Entrypoint"], "--sysfs", "/nonexistent", *arguments]
        with log.open("w") as stderr:
            process = subprocess.Popen(
                inside(image, *command, bind=f"{hooks}:{mount}"), env=environment(image),
                stdin=subprocess.DEVNULL, stderr=stderr, text=True,
            )  # fmt: skip
        sidecar = Sidecar(process, hooks, log, container)
        try:
            sidecar.wait_for_socket()
            yield sidecar
        finally:
            process.kill()
            process.wait()


def test_the_hook_runs_as_qemu_with_a_read_only_root_and_no_capability(image: Image) -> None:
    with running(image) as sidecar:
        lines = Path(f"/proc/{sidecar.process.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        assert status["Uid"].split() == status["Gid"].split() == ["107"] * 4
        assert {
            status[f"Cap{name}"].strip("\t0") for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")
        } == {""}
        mounts = Path(f"/proc/{sidecar.process.pid}/mountinfo").read_text()
        (root,) = (line.split() for line in mounts.splitlines() if line.split()[4] == "/")
        assert "ro" in root[5].split(",")

        assert sidecar.info().name == "hook-sidecar-0"
        assert sidecar.define(DOMAIN, VMI) == EXPECTED
        sidecar.shut_down()
        assert sidecar.process.wait(60) == 0
        assert list(sidecar.directory.iterdir()) == []


def test_the_hook_runs_as_the_policy_injects_it(image: Image) -> None:
    documents = yaml.safe_load_all((MANIFESTS / "plugin.yaml").read_text(encoding="utf-8"))
    (policy,) = (d for d in documents if d["kind"] == "MutatingAdmissionPolicy")
    container = parse_injected_container(policy["spec"]["mutations"][0]["jsonPatch"]["expression"])
    (mount,) = container["volumeMounts"]
    with running(image, *container["args"], mount=mount["mountPath"], container="x") as sidecar:
        assert mutate(sidecar.socket, DOMAIN, VMI) == EXPECTED
        sidecar.process.terminate()
        assert sidecar.process.wait(60) == 0
        assert list(sidecar.directory.iterdir()) == []


def test_the_device_plugin_runs_with_what_its_manifest_gives_it(
    image: Image, tmp_path: Path
) -> None:
    """As soon as the program has the command."""
    if not (REPOSITORY / "launcher_hook/deviceplugin").is_dir():
        return
    daemonset = yaml.safe_load((MANIFESTS / "device-plugin/daemonset.yaml").read_text())
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [
        f"--metrics={address}" if argument.startswith("--metrics=") else argument
        for argument in container["args"]
    ]
    kubelet = tmp_path / "kubelet"
    kubelet.mkdir(mode=0o750)
    sources = {
        "kubelet": kubelet,
        "dev": Path("/dev"),
        "config": MANIFESTS / "device-plugin",  # the ConfigMap, and some files more
    }
    binds = [
        f"--bind={sources[mount['name']]}:{mount['mountPath']}"
        for mount in container["volumeMounts"]
    ]
    user = f"--user={container['securityContext']['runAsUser']}"
    command = [sys.executable, str(REPOSITORY / "tests/container.py"), str(image.root), user,
               *binds, "--", *container["command"], *arguments]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment(image), stderr=log)
    try:
        path = container["livenessProbe"]["httpGet"]["path"]
        wait_for_answer(f"http://{address}{path}", process, tmp_path / "log")
        process.terminate()
        assert process.wait(60) == 0
        assert list(kubelet.iterdir()) == []
    finally:
        process.kill()
        process.wait()


def wait_for_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it is 200, as kubelet's startup probe does."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def test_the_schemas_of_the_image_are_those_that_we_pin(image: Image) -> None:
    with running(image) as sidecar:
        sidecar.info()
        assert any("checked against libvirt 11.3.0" in event["msg"] for event in sidecar.events())


def test_the_hook_in_the_image_loads_every_module_compiled(image: Image) -> None:
    code = """
import sys
sys.path.append("/usr/lib/launcher-hook")
import launcher_hook.hook.serve
print(*(m.__cached__ for m in sys.modules.values() if getattr(m, "__cached__", None)))
"""
    done = run(image, "python3", "-IS", "-c", code)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert any("/launcher_hook/__pycache__/render." in name for name in modules)
    for name in modules:
        header = (image.root / name.lstrip("/")).read_bytes()[:8]
        # PEP 552: hash-based, and not to be compared with the source.
        assert int.from_bytes(header[4:8], "little") == 0b01, name


@pytest.mark.parametrize(
    "command",
    [
        ["launcher-hook", "--version"],
        ["launcher-hook", "render", "--help"],
        ["onDefineDomain", "--help"],
    ],
    ids=" ".join,
)
def test_the_programs_are_on_the_path(image: Image, command: list[str]) -> None:
    done = run(image, *command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_what_the_server_does_without_is_there_for_people(image: Image, tmp_path: Path) -> None:
    """`validate --explain` takes xmlschema, and no other command does."""
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    faulty = EXPECTED.replace(
        b'<address domain="0x0000" bus="0x86" slot="0x00"',
        b'<address domain="0x0000" bus="0x86" slot="0x40"',
    )
    (tmp_path / "vm.xml").write_bytes(faulty)
    done = run(
        image,
        "launcher-hook",
        "validate",
        "--explain",
        "/var/run/kubevirt-hooks/vm.xml",
        bind=f"{tmp_path}:/var/run/kubevirt-hooks",
    )
    assert done.returncode == 4, done.stderr
    assert "passthrough.xsd says: " in done.stdout
    assert "slot '0x40'" in done.stdout


def test_names_of_devices_are_in_the_image(image: Image) -> None:
    names = (image.root / "usr/share/misc/pci.ids").read_text(encoding="utf-8", errors="replace")
    assert "TU106 [GeForce RTX 2060 Rev. A]" in names


def test_what_a_runtime_is_told(image: Image) -> None:
    settings = image.settings
    assert settings["User"] == "107:107"
    assert settings["Entrypoint"] == ["launcher-hook", "serve"]
    assert not settings.get("Cmd")
    labels = settings["Labels"]
    assert labels["org.opencontainers.image.title"] == "launcher-hook"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0 AND LGPL-2.1-or-later"
    assert labels["org.opencontainers.image.revision"] != "unknown"


def test_nobody_can_write_and_no_program_changes_who_runs_it(image: Image) -> None:
    for name, status in image.files():
        assert status.st_uid == status.st_gid == 0, name
        if not stat.S_ISLNK(status.st_mode):
            assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | 0o022), name
            assert status.st_mode & 0o044 == 0o044, name


def test_no_shell_compiler_or_installer_is_in_the_image(image: Image) -> None:
    programs = [
        name for name, status in image.files()
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o111 and ".so" not in name
    ]  # fmt: skip
    assert sorted(name for name in programs if "/bin/" in name or "/sbin/" in name) == [
        "/usr/bin/launcher-hook", "/usr/bin/onDefineDomain", "/usr/bin/python3.13",
    ]  # fmt: skip
    for name, _ in image.files():
        assert Path(name).name not in {
            "pip",
            "ensurepip",
            "setuptools",
            "wheel",
            "gcc",
            "sh",
            "apt",
        }, name


def test_scanners_find_what_the_image_is_made_of(image: Image) -> None:
    stanzas = {path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "python3.13-minimal", "pci.ids"} <= stanzas
    for name in stanzas - {"pci.ids"}:
        assert (image.root / "usr/share/doc" / name / "copyright").exists(), name
    wheels = {
        path.name.split("-")[0] for path in image.root.glob("usr/lib/launcher-hook/*.dist-info")
    }
    assert {name.replace("-", "_").lower() for name in read_pins("sidecar-image/runtime.lock")} | {
        "launcher_hook"
    } == {name.lower() for name in wheels}


def test_the_bill_of_materials_names_all_that_the_image_is_made_of(image: Image) -> None:
    bill = json.loads((REPOSITORY / "build/image/launcher-hook.cdx.json").read_text())
    parts = bill["components"]
    stanzas = {path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {part["name"] for part in parts if part["bom-ref"].startswith("deb:")} == stanzas
    python = {part["name"]: part for part in parts if part["bom-ref"].startswith("pypi:")}
    pins = read_pins("sidecar-image/runtime.lock") | {"launcher-hook": __version__}
    assert {name: part["version"] for name, part in python.items()} == pins
    lock = (REPOSITORY / "sidecar-image/runtime.lock").read_text()
    for name in python.keys() - {"launcher-hook"}:
        (digest,) = python[name]["hashes"]
        assert f"--hash=sha256:{digest['content']}" in lock, name
        assert python[name]["licenses"], name
    assert {part["version"] for part in parts if part["name"] == "libvirt-schemas"} == {
        "9.0.0", "11.3.0",
    }  # fmt: skip
    for part in parts:
        if part["type"] == "file":
            content = (image.root / part["name"].lstrip("/")).read_bytes()
            assert part["hashes"][0]["content"] == hashlib.sha256(content).hexdigest()


def test_the_bill_of_materials_is_valid_and_is_of_this_image(image: Image) -> None:
    text = (REPOSITORY / "build/image/launcher-hook.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    subject = json.loads(text)["metadata"]["component"]
    index = json.loads((image.root.parent / "oci/index.json").read_text())
    assert subject["version"] == __version__
    assert f"sha256:{subject['hashes'][0]['content']}" == index["manifests"][0]["digest"]


def test_the_image_is_small(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    size = sum(status.st_size for _, status in image.files()) / 1e6
    with capsys.disabled():
        print(f"\nimage: {size:.1f} MB (must {MUST_MB}, goal {GOAL_MB})")
    assert size < MUST_MB


def test_a_build_with_the_same_inputs_asks_nobody(image: Image) -> None:
    start = time.time()
    archive = REPOSITORY / "build/image/launcher-hook.tar"
    done = subprocess.run(
        [sys.executable, REPOSITORY / "sidecar-image/build.py"],
        capture_output=True, text=True, check=False, timeout=BUILD_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "image: all there, in build/image/launcher-hook.tar"
    assert archive.stat().st_mtime < start
