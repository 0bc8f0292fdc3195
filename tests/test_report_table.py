"""The table: a line a device, and what is not known is a dash."""

from dataclasses import replace
from pathlib import Path

from plans import OPTIONS, SCENES, names

from launcher_hook.report.table import print_table


def table(name: str, scratch: Path, columns: int = 0) -> list[str]:
    scene = next(scene for scene in SCENES if scene.name == name)
    return print_table(scene.decide(scratch), names(), columns).splitlines()


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


def test_where_a_terminal_has_room_for_it_a_reason_goes_on_below_its_beginning(
    tmp_path: Path,
) -> None:
    header, *rows = table("two-gpus", tmp_path, columns=170)
    why = header.index("why")
    assert max(map(len, (header, *rows))) <= 170
    assert rows[0][why - 2 :] == "  spec.domain.devices.gpus[0],"
    assert rows[1][: why - 1].strip() == ""
    one_line = table("two-gpus", tmp_path / "again")[1]
    assert " ".join([rows[0], rows[1].strip(), rows[2].strip()]) == one_line


def test_in_a_narrow_terminal_it_stands_below_its_device(tmp_path: Path) -> None:
    header, first, reason, *_ = table("two-gpus", tmp_path, columns=120)
    assert "why" not in header
    assert first.endswith("0000:18:00.0")
    assert reason.startswith("    spec.domain.devices.gpus[0], ")
