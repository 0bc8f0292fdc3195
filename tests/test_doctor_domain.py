"""What `doctor` says of a domain: whatever `render` would refuse, and more."""

import json
from pathlib import Path
from typing import Any

import pytest
from cases import CASES
from doctored import DOMAIN, ENV, SIDECARS, node_with_proc, of, roots, severe, vmi
from pluginnode import GPUS, VARIABLE, Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return node_with_proc(tmp_path)


def test_a_domain_is_rendered_with_what_the_vm_and_its_sidecar_say(
    doctor: Any, tmp_path: Path
) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS)
    status, findings = doctor("--vmi", manifest, "--domain", DOMAIN, "--env-file", ENV)
    assert status == 0
    assert of(findings, "domain")[0]["what"] == (
        "render gives it 0000:86:00.0 at 0000:00:08.0, 0000:af:00.0 at 0000:00:09.0"
    )
    _, findings = doctor("--vmi", manifest, "--domain", DOMAIN, "--env-file", ENV,
                         "--set", "layout=root-port")  # fmt: skip
    assert "0000:86:00.0 at 0000:18:00.0" in of(findings, "domain")[0]["what"]


def test_a_rom_file_is_where_the_sidecar_or_the_command_line_allows_it(
    doctor: Any, tmp_path: Path
) -> None:
    rom = "devices: {gpu0: {rom: {file: /opt/roms/a.rom}}}"
    inputs = ["--domain", DOMAIN, "--env-file", ENV, "--vmi"]
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS, config=rom)
    status, findings = doctor(*inputs, manifest)
    assert status == 1
    assert "is in no directory that this deployment allows" in of(findings, "domain")[0]["what"]
    assert doctor(*inputs, manifest, "--rom-dir", "/opt/roms")[0] == 0
    allowed = json.dumps([{"image": "launcher-hook:1", "args": ["--rom-dir", "/opt/roms"]}])
    assert doctor(*inputs, vmi(manifest, sidecars=allowed, config=rom))[0] == 0


def test_a_function_that_the_node_lacks_is_an_error_of_the_domain(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS)
    variables = ["--env", f"{VARIABLE}=0000:01:00.0,0000:86:00.0"]
    status, findings = doctor("--vmi", manifest, "--domain", DOMAIN, *variables, *roots(node))
    assert status == 1
    assert of(findings, "domain")[0]["what"] == "the node has no such function"


@pytest.mark.parametrize("xml", ["<network/>", "nonsense"])
def test_whatever_render_refuses_is_an_error(doctor: Any, tmp_path: Path, xml: str) -> None:
    domain = tmp_path / "domain.xml"
    domain.write_text(xml)
    status, findings = doctor("--domain", domain)
    assert (status, of(findings, "domain")[0]["severity"]) == (1, "error")
    status, findings = doctor("--domain", DOMAIN, "--env", "PCI_RESOURCE_X=1")
    assert (status, of(findings, "domain")[0]["where"]) == (1, "PCI_RESOURCE_X, item 1 of 1")


def test_a_device_that_nobody_claims_is_a_warning(doctor: Any, tmp_path: Path) -> None:
    manifest = vmi(tmp_path / "vmi.yaml", sidecars=SIDECARS)
    variables = ["--env", f"{VARIABLE}={','.join(GPUS[:3])}"]
    _, findings = doctor("--vmi", manifest, "--domain", DOMAIN, *variables)
    (finding,) = [f for f in of(findings, "domain") if f["severity"] == "warning"]
    assert finding["what"] == f"{GPUS[2]} is allocated, and no entry of the VM claims it"


def test_a_domain_without_devices_is_a_warning(doctor: Any) -> None:
    _, findings = doctor("--domain", CASES / "nothing-to-do/domain.xml")
    assert of(findings, "domain")[0]["severity"] == "warning"


def test_devices_that_the_vm_did_not_ask_for_leave_the_limit_of_locked_memory(
    node: Node, doctor: Any, tmp_path: Path
) -> None:
    manifest = tmp_path / "vmi.yaml"
    manifest.write_text("kind: VirtualMachineInstance\nspec: {}\n")
    inputs = ["--vmi", manifest, "--domain", DOMAIN, "--env-file", ENV]
    _, findings = doctor(*inputs)
    (finding,) = of(findings, "memlock")
    assert finding["severity"] == "error"
    assert "leaves its container's limit as it is" in finding["what"]
    _, findings = doctor(*inputs, *roots(node))
    assert "leaves 65536 bytes as it is" in of(severe(findings), "memlock")[0]["what"]
    limits = node.sysfs.parent / "proc/self/limits"
    limits.write_text("Max locked memory unlimited unlimited bytes\n")
    _, findings = doctor(*inputs, *roots(node))
    assert not of(severe(findings), "memlock")
