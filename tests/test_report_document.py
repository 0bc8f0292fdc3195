"""The plan as JSON: the distances, for every layout."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plans import OPTIONS, SCENES, Scene, made_up, names

from launcher_hook.report.document import print_json
from launcher_hook.settings import Layout, Settings

HGX = Scene("hgx")


def distances(scene: Scene, scratch: Path) -> dict[str, Any]:
    document = json.loads(print_json(scene.decide(scratch), names()))
    assert list(document) == [
        "machine",
        "devices",
        "controllers",
        "pciHole64",
        "warnings",
        "distances",
    ]
    found = document["distances"]
    assert found["devices"] == [device["alias"] for device in document["devices"]]
    for side in ("host", "guest"):
        assert len(found[side]) == len(found["devices"])
        assert all(row[n] == "X" for n, row in enumerate(found[side]))
    return dict(found)


@pytest.mark.parametrize("layout", ["root-port", "root-bus", "numa", "mirror", "auto"])
def test_both_matrices_are_there_for_every_layout(layout: Layout, tmp_path: Path) -> None:
    scene = replace(HGX, settings=Settings(layout=layout))
    if layout == "root-bus":  # 16 slots on bus 0
        scene = replace(next(s for s in SCENES if s.name == "two-gpus"), settings=scene.settings)
    found = distances(scene, tmp_path)
    assert (found["host"] == found["guest"]) is (layout == "mirror")
    assert None not in (cell for row in found["host"] + found["guest"] for cell in row)


def test_a_mediated_device_is_where_its_function_is(tmp_path: Path) -> None:
    found = distances(next(s for s in SCENES if s.name == "mediated"), tmp_path)
    assert found["host"] == [["X", "PIX"], ["PIX", "X"]]
    assert found["guest"] == [["X", "PHB"], ["PHB", "X"]]


def test_options_and_the_hole_are_in_it(tmp_path: Path) -> None:
    scene = replace(next(s for s in SCENES if s.name == "two-gpus"), settings=OPTIONS)
    document = json.loads(print_json(scene.decide(tmp_path), names()))
    assert [device["options"] for device in document["devices"]] == [
        {"rom.bar": "off", "bootOrder": 1}, {}, {}, {},
    ]  # fmt: skip
    assert document["pciHole64"] == {"bytes": 64 << 30, "firmwareIsTold": False}


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    found = distances(next(s for s in SCENES if s.name == "node-not-known"), tmp_path)
    assert found["host"] == [["X", None], [None, "X"]]


def test_no_devices_have_no_distances(tmp_path: Path) -> None:
    found = distances(next(s for s in SCENES if s.name == "nothing"), tmp_path)
    assert found == {"devices": [], "host": [], "guest": []}


def test_a_row_is_a_line_and_any_name_is_legal_json() -> None:
    text = print_json(made_up(['"\\\n', "b"], aliases=["ua-\u2028", '"']), names())
    assert '      ["X", "PIX"],\n' in text
    assert json.loads(text)["distances"]["devices"] == ["ua-\u2028", '"']
