"""The table: a line a device, and what is not known is a dash."""

from pathlib import Path

from plans import SCENES, names

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


def test_no_devices_are_said_to_be_none(tmp_path: Path) -> None:
    assert table("nothing", tmp_path) == ["no devices"]
