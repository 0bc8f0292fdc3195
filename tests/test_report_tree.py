"""Both trees as text, beside each other or one above the other."""

from dataclasses import replace
from pathlib import Path

import pytest
from cases import read_case
from plans import OPTIONS, PICTURES, SCENES, Scene, made_up, names
from test_cases import check_expectation

from launcher_hook.render import plan_domain
from launcher_hook.report.tree import print_tree
from launcher_hook.settings import Settings

MIRROR = Scene("hgx-mirror", settings=Settings(layout="mirror"))


def scene(name: str) -> Scene:
    return next(scene for scene in SCENES if scene.name == name)


@pytest.mark.parametrize("scene", [MIRROR, *SCENES], ids=lambda scene: scene.name)
def test_a_scene_is_written_as_expected(
    scene: Scene, tmp_path: Path, update_expected: bool
) -> None:
    text = print_tree(scene.decide(tmp_path), names(), 160).encode()
    check_expectation(PICTURES / f"{scene.name}.txt", text, update_expected)


def test_the_trees_are_beside_each_other_where_a_line_has_room(tmp_path: Path) -> None:
    lines = print_tree(scene("two-gpus").decide(tmp_path), names(), 160).splitlines()
    assert lines[0].split() == ["node:", "guest:"]
    assert max(map(len, lines)) <= 160


def test_else_the_node_stands_above_the_guest_and_nothing_is_cut_off(tmp_path: Path) -> None:
    decision = scene("two-gpus").decide(tmp_path)
    lines = print_tree(decision, names(), 80).splitlines()
    assert lines[0] == "node:"
    assert lines[lines.index("guest:") - 1] == ""
    for alias in ("ua-gpu-gpu0", "ua-gpu-gpu1", "ua-pci-0000-86-00-1"):
        assert any(alias in line for line in lines)


def test_only_bridges_above_a_device_are_in_it(tmp_path: Path) -> None:
    text = print_tree(scene("two-gpus").decide(tmp_path), names(), 80)
    assert "-[0000:80]---01.0-[86]-+-00.0  VGA compatible controller: 10de:1f08  group 42" in text
    assert text.count("-[0000:") == 3  # two of the node, one of the guest


def test_a_neighbour_in_the_group_is_named_as_what_it_is(tmp_path: Path) -> None:
    text = print_tree(scene("companions-ignored").decide(tmp_path), names(), 80)
    assert "00.1  Audio device: 10de:10f9  group 42  (not for this VM)" in text


def test_a_mediated_device_is_below_its_function(tmp_path: Path) -> None:
    text = print_tree(scene("mediated").decide(tmp_path), names(), 80)
    assert "00.0-[3b]---00.0-+-4b20d080-1b54-4048-85b3-a6a62d165c01  mediated device" in text


@pytest.mark.parametrize("columns", [80, 200])
def test_options_and_the_hole_are_in_it(tmp_path: Path, columns: int) -> None:
    asked = replace(scene("two-gpus"), settings=OPTIONS)
    lines = print_tree(asked.decide(tmp_path), names(), columns).splitlines()
    (line,) = [line for line in lines if "ua-gpu-gpu0 =" in line]
    assert line.endswith("  rom.bar=off bootOrder=1")
    assert lines[-1] == "pciHole64: 64 GiB for 64-bit BARs"


def test_without_facts_it_is_the_guests_alone_and_says_so(tmp_path: Path) -> None:
    lines = print_tree(scene("node-not-known").decide(tmp_path), names(), 160).splitlines()
    assert lines == [
        r"-[0000:00 q35]-+-10.0-[18]---00.0  ua-gpu-gpu0 = 0000:86:00.0",
        r"               \-10.1-[19]---00.0  ua-gpu-gpu1 = 0000:af:00.0",
        "Nothing is known of the node: give its /sys with --sysfs.",
    ]


def test_a_device_that_libvirt_places_says_so(tmp_path: Path) -> None:
    text = print_tree(plan_domain(read_case("s390x", tmp_path)), names(), 160)
    assert "  libvirt's choice: ua-" in text


def test_a_port_that_libvirt_has_yet_to_add_is_shown_as_its_bus() -> None:
    decision = made_up(["gpu0"])
    decision = replace(decision, plan=replace(decision.plan, controllers=()))
    assert "??.?-[18]---00.0  ua-0 = 0000:a0:00.0" in print_tree(decision, names(), 160)


def test_an_expander_bus_says_which_cell_it_is_in(tmp_path: Path) -> None:
    text = print_tree(plan_domain(read_case("mirror", tmp_path)), names(), 80)
    assert "10.0-[18 cell 0]---00.0-[19]---00.0-[1a]-+-00.0-[1b]---00.0  ua-gpu-gpu0" in text
