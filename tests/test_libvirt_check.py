"""`validate --libvirt` and `render --check-with`: a real libvirt has the last word."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
from cases import CASES
from launcher import COMMAND
from libvirt_driver import LibvirtDriver, for_this_machine

CASE = CASES / "readme"
FUNCTIONS = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A=0000:86:00.0,0000:af:00.0"

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("libvirt") is None and os.environ.get("CI") != "true",
    reason="libvirt-python is not installed (as root: make test)",
)


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    file = tmp_path / "vm.xml"
    file.write_bytes(for_this_machine((CASE / "domain.xml").read_bytes()))
    return file


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # tini: libvirt waits for the probes that it kills, and PID 1 may be slow to reap them.
    return subprocess.run(
        ["tini", "-s", "--", COMMAND, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@needs_package
def test_a_rendered_domain_is_taken_and_nothing_stays_behind(
    libvirt: LibvirtDriver, domain: Path
) -> None:
    done = run(
        "render", "--domain", domain, "--vmi", CASE / "vmi.json", "--env", FUNCTIONS,
        "--check-with", libvirt.uri, "-v",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "takes it" in done.stderr
    assert libvirt.names() == []


@needs_package
@pytest.mark.parametrize("command", ["validate", "render"])
def test_the_uefi_variables_of_the_vm_stay(
    command: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    """libvirt can forget a domain and its variables together."""
    variables, code, domain = (tmp_path / name for name in ("VARS.fd", "CODE.fd", "vm.xml"))
    variables.write_bytes(b"boot entries of a VM")
    code.touch()
    domain.write_bytes(
        for_this_machine(
            f"""<domain type='kvm'><name>vm</name><memory>524288</memory>
            <os><type arch='x86_64' machine='q35'>hvm</type>
            <loader readonly='yes' type='pflash'>{code}</loader><nvram>{variables}</nvram></os>
            <features><acpi/></features><devices/></domain>""".encode()
        )
    )
    if command == "validate":
        done = run("validate", domain, "--libvirt", libvirt.uri)
    else:
        done = run("render", "--domain", domain, "--env", "PCI_RESOURCE_X=0000:86:00.0",
                   "--check-with", libvirt.uri)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert variables.read_bytes() == b"boot entries of a VM"
    assert libvirt.names() == []


UUID = "0c1a6b5e-3f0d-4d8f-9a57-0a5d0a8f1e11"


@needs_package
@pytest.mark.parametrize("with_uuid", [True, False], ids=["uuid", "uuid-of-sysinfo"])
def test_a_libvirt_that_has_the_vm_checks_it_and_leaves_the_vm_alone(
    with_uuid: bool, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    variables, code, domain = (tmp_path / name for name in ("VARS.fd", "CODE.fd", "vm.xml"))
    variables.write_bytes(b"boot entries of a VM")
    code.touch()
    domain.write_bytes(
        for_this_machine(
            f"""<domain type='kvm'><name>default_vm</name>{f"<uuid>{UUID}</uuid>" * with_uuid}
            <genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid><title>a VM</title>
            <metadata><k:vm xmlns:k='http://kubevirt.io'><k:uid>7</k:uid></k:vm></metadata>
            <memory>524288</memory>
            <sysinfo type='smbios'><system><entry name='uuid'>{UUID}</entry>
            <entry name='serial'>x</entry></system></sysinfo>
            <os><type arch='x86_64' machine='q35'>hvm</type>
            <loader readonly='yes' type='pflash'>{code}</loader><nvram>{variables}</nvram>
            <smbios mode='sysinfo'/></os>
            <features><acpi/></features><devices/></domain>""".encode()
        )
    )
    libvirt.define(domain.read_bytes())
    before = libvirt.dump("default_vm")
    try:
        validated = run("validate", domain, "--libvirt", libvirt.uri)
        rendered = run("render", "--domain", domain, "--env", "PCI_RESOURCE_X=0000:86:00.0",
                       "--check-with", libvirt.uri, "-v")  # fmt: skip
        assert libvirt.names() == ["default_vm"]
        assert libvirt.dump("default_vm") == before
    finally:
        libvirt.forget("default_vm")
    assert "so says" not in validated.stdout
    assert rendered.returncode == 0, rendered.stderr
    assert "takes it" in rendered.stderr
    assert variables.read_bytes() == b"boot entries of a VM"


@needs_package
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<uuid>0c1a", "<uuid>0c1b", "UUID mismatch between <uuid> and <sysinfo>"),
        (f"<uuid>{UUID}", "<uuid>x", "malformed uuid element"),
        ("'uuid'>0c1a6b5e", "'uuid'>0c1a6b5x", "malformed <sysinfo> uuid element"),
        ("<name>x</name>", "", "name"),
    ],
    ids=["mismatch", "malformed", "malformed-sysinfo", "no-name"],
)
def test_what_libvirt_has_against_a_vms_own_name_and_uuid_is_still_said(
    old: str, new: str, message: str, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    text = f"""<domain type='qemu'><name>x</name><uuid>{UUID}</uuid><memory>524288</memory>
        <sysinfo type='smbios'><system><entry name='uuid'>{UUID}</entry></system></sysinfo>
        <os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>"""
    assert old in text
    (tmp_path / "vm.xml").write_text(text.replace(old, new))
    done = run("validate", tmp_path / "vm.xml", "--libvirt", libvirt.uri)
    assert done.returncode == 4
    assert any(message in line and "so says" in line for line in done.stdout.splitlines()), (
        done.stdout
    )


@needs_package
def test_a_domain_that_libvirt_refuses_without_us_is_an_input_error(
    libvirt: LibvirtDriver, domain: Path
) -> None:
    domain.write_bytes(domain.read_bytes().replace(b"q35", b"q36"))
    done = run("render", "--domain", domain, "--env", "PCI_RESOURCE_X=0000:86:00.0",
               "--check-with", libvirt.uri)  # fmt: skip
    assert done.returncode == 2
    assert "it refuses the domain as it was given: " in done.stderr
    assert done.stdout == ""


@needs_package
def test_validate_says_what_libvirt_says(libvirt: LibvirtDriver, domain: Path) -> None:
    good = run("validate", domain, "--libvirt", libvirt.uri)
    assert f"and in libvirt {'.'.join(map(str, libvirt.version))} ({libvirt.uri})" in good.stdout
    assert "so says" not in good.stdout
    domain.write_bytes(domain.read_bytes().replace(b"q35", b"q36"))
    bad = run("validate", domain, "--libvirt", libvirt.uri)
    assert bad.returncode == 4
    assert "; so says libvirt" in bad.stdout
    assert libvirt.names() == []


@needs_package
def test_a_libvirt_that_does_not_answer_is_said(domain: Path) -> None:
    done = run("validate", domain, "--libvirt", "qemu+unix:///system?socket=/nonexistent")
    assert done.returncode == 3
    assert "it does not answer: " in done.stderr
    assert "see that libvirtd runs, or give another URI" in done.stderr


def test_without_the_package_it_says_what_to_install(domain: Path, tmp_path: Path) -> None:
    (tmp_path / "libvirt.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [COMMAND, "validate", str(domain), "--libvirt", "qemu:///system"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "libvirt-python is missing: not here; pip install libvirt-python" in done.stderr
