"""``launcher-hook discover``: what is offered, what is not and why; snapshots for every command."""

import json
from pathlib import Path

import pytest
from cases import CASES
from hosttree import rebind
from pluginnode import GPUS, RESOURCE, Node, seeds_node

from launcher_hook.cli import main

CASE = CASES / "readme"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return seeds_node(tmp_path)


def discover(node: Node, *arguments: str) -> int:
    return main(["discover", "--sysfs", str(node.sysfs), "--dev", str(node.dev),
                 "--pci-ids", str(node.names), *arguments])  # fmt: skip


def test_the_table_says_what_is_offered_and_what_comes_along(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.dev / "vfio/43").unlink()
    assert discover(node) == 0
    text = capsys.readouterr().out
    assert f"{RESOURCE}: 4 offered, 3 healthy\n" in text
    assert "  0000:86:00.0  1     42     healthy" in text
    assert "0000:86:00.1 0000:86:00.2 0000:86:00.3\n" in text
    assert "there is no /dev/vfio/43; load vfio-pci" in text
    assert "it goes with 0000:86:00.0, in whose IOMMU group it is\n" in text


def test_a_bridge_is_in_the_table_only_where_a_selector_asks_for_it(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    assert discover(node) == 0
    assert "PCI bridge" not in capsys.readouterr().out
    assert discover(node, "--output", "json") == 0
    assert "PCI bridge" in capsys.readouterr().out
    assert discover(node, "--vendor", "8086", "--class", "06") == 0
    text = capsys.readouterr().out
    assert "  0000:00:02.0  PCI bridge: 8086:347a                 it is a bridge, which no" in text


def test_what_nobody_asked_for_is_told_how_to_ask_for_it(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    rebind(node.sysfs, GPUS[0], "nvidia")
    by_default = "not NVIDIA's display class, which is the default; --vendor, --class or --config"
    assert discover(node) == 0
    (line,) = [s for s in capsys.readouterr().out.splitlines() if "0000:04:00.1" in s]
    assert by_default in line
    assert discover(node, "--class", "0302") == 0
    (line,) = [s for s in capsys.readouterr().out.splitlines() if "0000:04:00.1" in s]
    assert line.endswith("no selector matches it")


def test_json_has_a_reason_for_each_function_that_is_not_offered(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    rebind(node.sysfs, "0000:04:00.0", "nvidia")
    assert discover(node, "--output", "json") == 0
    document = json.loads(capsys.readouterr().out)
    (devices,) = document["resources"].values()
    assert [device["id"] for device in devices] == list(GPUS[1:])
    assert devices[0] == {
        "id": "0000:05:00.0", "numaNode": 0, "iommuGroup": 41, "healthy": True, "trouble": None,
        "comesAlong": ["0000:05:00.1", "0000:05:00.2", "0000:05:00.3"],
    }  # fmt: skip
    whys = {entry["id"]: entry for entry in document["notOffered"]}
    assert len(whys) == 17 - 3
    assert whys["0000:04:00.0"]["why"] == "bound to 'nvidia'; bind it to vfio-pci"
    assert whys["0000:04:00.0"]["selected"]


def test_all_ids_of_a_group_are_offered_where_that_is_asked_for(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--class", "03", "--class", "04", "--output", "json")
    assert discover(node, *options) == 0
    assert list(json.loads(capsys.readouterr().out)["resources"]) == [RESOURCE]
    assert discover(node, *options, "--ids-per-group", "all") == 0
    assert list(json.loads(capsys.readouterr().out)["resources"]) == ["nvidia.com/10f9", RESOURCE]


def test_a_snapshot_takes_the_place_of_the_node_in_every_command(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.json"
    assert discover(node, "--snapshot", str(file)) == 0
    table = capsys.readouterr().out
    assert main(["discover", "--sysfs", str(file), "--pci-ids", str(node.names)]) == 0
    assert capsys.readouterr().out == table
    inputs = ["--domain", str(CASE / "domain.xml"), "--vmi", str(CASE / "vmi.json"),
              "--env-file", str(CASE / "env")]  # fmt: skip
    for command in ("plan", "render"):
        outputs = []
        for sysfs in (str(node.sysfs), str(file)):
            assert main([command, *inputs, "--sysfs", sysfs]) == 0
            outputs.append(capsys.readouterr().out)
        assert outputs[0] == outputs[1]
        assert "0x86" in outputs[0] or "0000:86:00.1" in outputs[0]


def test_a_node_without_pci_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "--sysfs", str(tmp_path)]) == 2
    assert "there is no bus/pci/devices below it; give a node's /sys" in capsys.readouterr().err


def test_a_snapshot_that_cannot_be_written_is_refused_and_nothing_is_printed(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    assert discover(node, "--snapshot", "/nonexistent/x") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "it cannot be written" in captured.err
