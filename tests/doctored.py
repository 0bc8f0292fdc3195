"""Runs `launcher-hook doctor`, and what it is run over."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import CASES
from pluginnode import RESOURCE, Node, seeds_node

from launcher_hook.cli import main
from launcher_hook.doctor.sidecars import HOOK_SIDECARS
from launcher_hook.vmi import CONFIG_ANNOTATION

DOMAIN = CASES / "readme/domain.xml"
ENV = CASES / "readme/env"
SIDECARS = '[{"image": "launcher-hook:1", "args": ["--set", "layout=root-bus"]}]'

Findings = list[dict[str, str]]


def node_with_proc(tmp_path: Path) -> Node:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "cmdline").write_text("amd_iommu_dump=1\n")
    (proc / "cpuinfo").write_text("vendor_id : AuthenticAMD\nflags : fpu\n")
    (proc / "self/limits").write_text("Max locked memory 65536 65536 bytes\n")
    return seeds_node(tmp_path)


def roots(node: Node) -> list[str]:
    return ["--sysfs", str(node.sysfs), "--dev", str(node.dev), "--proc",
            str(node.sysfs.parent / "proc"), "--pci-ids", str(node.names)]  # fmt: skip


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run it; give the exit status and the findings."""

    def run(*arguments: str | Path) -> tuple[int, Findings]:
        status = main(["doctor", "--output", "json", *map(str, arguments)])
        captured = capsys.readouterr()
        assert captured.err == ""
        document = json.loads(captured.out)
        assert document["errors"] == len(severe(document["findings"]))
        return status, document["findings"]

    return run


def severe(findings: Findings) -> Findings:
    return [finding for finding in findings if finding["severity"] == "error"]


def of(findings: Findings, check: str) -> Findings:
    return [finding for finding in findings if finding["check"] == check]


def vmi(path: Path, **annotations: str) -> Path:
    spec = {
        "domain": {
            "devices": {
                "gpus": [{"name": f"gpu{i}", "deviceName": RESOURCE} for i in range(2)],
            }
        }
    }
    names = {"sidecars": HOOK_SIDECARS, "config": CONFIG_ANNOTATION}
    metadata = {"name": "vm", "annotations": {names[k]: v for k, v in annotations.items()}}
    document = {"kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}
    path.write_text(yaml.safe_dump(document))
    return path
