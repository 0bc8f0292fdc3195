"""The README says what is so: its configuration table is made from the keys."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import ovmf
import pytest
import yaml
from conformance.chroot import TRIXIE
from guest_firmware import find_ovmf
from plans import SCENES, names
from test_cases import check_expectation
from test_lock_files import read_pins

from launcher_hook import __version__
from launcher_hook.cli import main
from launcher_hook.configkeys import KEYS, print_default
from launcher_hook.devicekeys import DEVICE_KEYS
from launcher_hook.deviceplugin.configfile import describe_selector_keys
from launcher_hook.report.tree import print_tree

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
DEVICE_PLUGIN = REPOSITORY / "launcher_hook/deviceplugin/README.md"


def selector_table() -> str:
    lines = ["| key of a selector | what it says of the function |", "|---|---|"]
    lines += [f"| `{key}` | {meaning} |" for key, meaning in describe_selector_keys().items()]
    return "\n".join(lines) + "\n"


def configuration_table() -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, key in KEYS.items():
        text = key.meaning.replace("|", r"\|")
        lines.append(f"| `{name}` | {key.values} | `{print_default(name)}` | {text} |")
    return "\n".join(lines) + "\n"


def option_table() -> str:
    lines = ["| key of a device | values | meaning |", "|---|---|---|"]
    for name, key in DEVICE_KEYS.items():
        lines.append(f"| `{name}` | {key.values} | {key.meaning} |")
    return "\n".join(lines) + "\n"


QEMU_OF = {"bookworm": "7.2", "trixie": "10.0"}
"""Debian's QEMU beside its libvirt; a machine that has one is asked below."""

EDK2_OF = {"bookworm": "2022.11", "trixie": "2025.02"}
"""Debian's OVMF; the package that the tests brought is asked below."""


def go_pin(module: str, package: str) -> str:
    text = (REPOSITORY / "tests/interop" / module / "go.mod").read_text()
    match = re.search(rf"^\s*(?:require )?{re.escape(package)} v([\d.]+)$", text, re.MULTILINE)
    assert match, f"{package} in tests/interop/{module}/go.mod"
    return match[1]


def libvirt_pins() -> dict[str, str]:
    """libvirt's version by Debian's suite."""
    sets = tomllib.loads((REPOSITORY / "schemas/manifest.toml").read_text())["set"]
    return {entry["suite"]: entry["version"] for entry in sets if "version" in entry}


def python_of_the_image() -> str:
    text = (REPOSITORY / "sidecar-image/build.py").read_text()
    (version,) = re.findall(r'^SUITE, PYTHON, GLIBC = "\w+", "([\d.]+)"', text, re.MULTILINE)
    assert isinstance(version, str)
    return version


def compatibility_table() -> str:
    """Each version is read where the suite that runs against it pins it."""
    libvirt = libvirt_pins()
    machine, chroot = libvirt["bookworm"], libvirt[TRIXIE.suite]
    newest = go_pin("launcher", "kubevirt.io/kubevirt")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    rows = [
        (
            "KubeVirt", newest,
            "converter, resource claims, hook manager, passes; plugin API (see Limits)",
            "make interop",
        ),
        ("KubeVirt", go_pin("oldest", "kubevirt.io/kubevirt"), "hook manager", "make interop"),
        (
            "KubeVirt's definitions, which an API server goes by", newest,
            "VM, VMI, KubeVirt CR, Plugin", "make interop",
        ),
        (
            "Kubernetes (kubelet)", go_pin("kubelet", "k8s.io/kubernetes"),
            "device and topology manager", "make interop",
        ),
        (
            "Kubernetes (kubeletplugin, the library of DRA drivers)",
            go_pin("kubelet", "k8s.io/dynamic-resource-allocation"),
            "metadata files of resource claims", "make interop",
        ),
        (
            "Kubernetes (API server)", go_pin("kubelet", "k8s.io/kubernetes"),
            "validation of the manifests, mutating policy", "make interop",
        ),
        (
            "kustomize (its Go module `api`)", go_pin("kubelet", "sigs.k8s.io/kustomize/api"),
            "the device plugin's base, and an overlay", "make interop",
        ),
        (
            "libvirt, QEMU", f"{machine}, {QEMU_OF['bookworm']}",
            "define, read-back, argv; by hand, a device really passed through",
            "make test`, `make conformance`, `make e2e ARGS=\"--suite bookworm\"",
        ),
        (
            "libvirt, QEMU", f"{chroot}, {QEMU_OF[TRIXIE.suite]}",
            "define, read-back, argv; a device really passed through",
            "make conformance`, `make e2e",
        ),
        (
            "libvirt, QEMU", "Debian sid's newest; 12.8.0 and 11.1 on 2026-11-29",
            "define, read-back, argv, on best effort", "make conformance",
        ),
        (
            "edk2's OVMF", EDK2_OF["bookworm"],
            "every BAR is mapped: layout root-port", "make test",
        ),
        (
            "edk2's OVMF", EDK2_OF[TRIXIE.suite],
            "every BAR is mapped: each layout; in a VM with devices", "make test`, `make e2e",
        ),
        (
            "libvirt's schemas", f"{', '.join(libvirt.values())}; and Debian sid's newest",
            "what is written is valid", "make test`, `make conformance",
        ),
        ("Python", project["requires-python"].removeprefix(">="), "all", "make test"),
        ("Python, in the image", python_of_the_image(), "the image runs", "make test"),
        ("grpcio", read_pins("requirements.lock")["grpcio"], "all", "make test"),
    ]  # fmt: skip
    lines = ["| what | version | of it | shown by |", "|---|---|---|---|"]
    lines += [f"| {what} | {version} | {part} | `{by}` |" for what, version, part, by in rows]
    return "\n".join(lines) + "\n"


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="there is no QEMU here")
def test_the_machines_qemu_is_the_one_of_the_table() -> None:
    ask = ["qemu-system-x86_64", "--version"]
    said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    release = Path("/etc/os-release").read_text()
    suite = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    if suite is None or suite[1] not in QEMU_OF:
        pytest.skip("this is none of the Debians of the table")
    assert f"version {QEMU_OF[suite[1]]}." in said


def test_the_ovmf_that_was_brought_is_the_one_of_the_table() -> None:
    find_ovmf(TRIXIE.suite)
    assert ovmf.version_of(TRIXIE.suite).startswith(EDK2_OF[TRIXIE.suite])


TABLES = {
    "configuration": (README, configuration_table),
    "options": (README, option_table),
    "selectors": (DEVICE_PLUGIN, selector_table),
    "compatibility": (README, compatibility_table),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_made_from_what_it_is_about(name: str, update_expected: bool) -> None:
    path, make_table = TABLES[name]
    mark = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    wanted, count = mark.subn(lambda match: match[1] + make_table() + match[2], path.read_text())
    assert count == 1
    if update_expected:
        path.write_text(wanted)
    assert path.read_text() == wanted


def test_every_link_to_a_file_of_ours_leads_to_one() -> None:
    links = re.compile(r"\[[^]]*\]\(([^)#:]*)(#[^)]*)?\)")
    for path in documents():
        for file, anchor in links.findall(path.read_text()):
            target = (path.parent / file) if file else path
            assert target.exists(), f"{path}: {file}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert anchor[1:] in map(anchor_of, headings), f"{path}: {file}{anchor}"


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [REPOSITORY / name for name in listed.split("\0") if name]


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_overlay_of_the_five_minutes_fits_the_base() -> None:
    """`make interop` has kustomize itself make an overlay like it."""
    (text,) = re.findall(r"<<END\n(.*?)\nEND\n", README.read_text(), re.DOTALL)
    overlay = yaml.safe_load(text)
    folder = REPOSITORY / "sidecar-image/manifests/my-gpus"  # where the README has it made
    (base,) = ((folder / name).resolve() for name in overlay["resources"])
    kustomization = yaml.safe_load((base / "kustomization.yaml").read_text())
    assert overlay["namespace"] == kustomization["namespace"]
    (generated,) = overlay["configMapGenerator"]
    (replaced,) = kustomization["configMapGenerator"]
    assert generated == {**replaced, "behavior": "replace"}
    (image,) = overlay["images"]
    assert image["name"] == kustomization["images"][0]["name"]
    assert image["newTag"] == __version__


FILES = {
    "vm.xml": "domain.xml", "vmi.yaml": "vmi.json", "pod.env": "env", "node.json": "node.json",
}  # fmt: skip
"""What the README calls the files of `fixtures/cases/readme`."""


@pytest.mark.parametrize("program", [".venv/bin/launcher-hook", "launcher-hook"])
def test_a_tree_is_what_the_command_above_it_prints(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("COLUMNS", "80")
    command = rf"{re.escape(program)} (plan (?:[^\n]*\\\n)*[^\n]* --output tree)"
    block = rf"```sh\n{command}\n```\n\n```\n(.*?)```"
    (found,) = re.findall(block, README.read_text(), re.DOTALL)
    command, printed = found
    words = shlex.split(command.replace("\\\n", ""))
    words = [f"fixtures/cases/readme/{FILES[word]}" if word in FILES else word for word in words]
    assert main([*words, "--pci-ids", os.devnull]) == 0
    assert capsys.readouterr().out == printed


def test_the_two_commands_and_every_make_target_are_named() -> None:
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_picture_is_what_the_command_beside_it_prints(update_expected: bool) -> None:
    (command,) = re.findall(r"^(launcher-hook plan (?:.*\\\n)*.*\.svg)$", README.read_text(), re.M)
    program, *arguments, arrow, file = shlex.split(command.replace("\\\n", ""))
    assert arrow == ">"
    assert f'<img src="{file}"' in README.read_text()
    environ = {name: value for name, value in os.environ.items() if "PCI_RESOURCE" not in name}
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=README.parent, env=environ, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    check_expectation(README.parent / file, done.stdout, update_expected)


def test_the_tree_is_what_is_printed_for_that_case(tmp_path: Path) -> None:
    scene = next(scene for scene in SCENES if scene.name == "two-gpus")
    assert f"```\n{print_tree(scene.decide(tmp_path), names(), 80)}```" in README.read_text()
