"""The table: a line a device, and what is not known is a dash."""

from dataclasses import replace
from pathlib import Path

from plans import OPTIONS, SCENES, names

from launcher_hook.report.table import print_table


def table(name: str, scratch: Path) -> list[str]:
    scene = next(scene for scene in SCENES if scene.name == name)
    return print_table(scene.decide(scratch), names()).splitlines()


def test_the_columns_are_under_each_other(tmp_path: Path) -> None:
    header, *rows = table("two-gpus", tmp_path)
    for word, cells in (("host", "0000:86:00.0"), ("guest", "0000:18:00.0"), ("group", "42 ")):
        assert rows[0].startswith(cells, header.index(word))
    assert len(rows) == 4


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    header, *rows = table("node-not-known", tmp_path)
    for word in ("class", "name", "group", "numa"):
        assert all(row[header.index(word)] == "-" for row in rows)


def test_options_and_the_hole_are_there_where_they_are_asked_for(tmp_path: Path) -> None:
    scene = replace(next(s for s in SCENES if s.name == "two-gpus"), settings=OPTIONS)
    header, first, second, *_, hole = print_table(scene.decide(tmp_path), names()).splitlines()
    assert header.split()[-2:] == ["options", "why"]
    at = header.index("options")
    assert first[at:].startswith("rom.bar=off bootOrder=1  ")
    assert second[at:].startswith("-  ")
    assert hole == "pciHole64: 64 GiB for 64-bit BARs"


def test_no_devices_are_said_to_be_none(tmp_path: Path) -> None:
    assert table("nothing", tmp_path) == ["no devices"]
