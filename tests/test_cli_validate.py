"""``launcher-hook validate`` as a user runs it."""

import json
from pathlib import Path

from commandline import run


def test_validate_names_file_line_path_fault_and_fix(tmp_path: Path) -> None:
    good = tmp_path / "good.xml"
    good.write_text(
        "<domain type='kvm'>\n<name>x</name>\n<memory>1048576</memory>\n"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os>\n<devices>\n"
        "<hostdev mode='subsystem' type='pci' managed='yes'>\n"
        "<source><address domain='0' bus='1' slot='0' function='0'/></source>\n"
        "<alias name='ua-x'/>\n</hostdev>\n</devices>\n</domain>\n"
    )
    bad = tmp_path / "bad.xml"
    bad.write_text(good.read_text().replace("slot='0'", "slot='0x40'"))
    done = run("validate", good)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith(f"{good}: valid\nchecked against ")
    done = run("validate", good, bad)
    assert done.returncode == 4
    line = next(line for line in done.stdout.decode().splitlines() if line.startswith(f"{bad}:7:"))
    assert "/domain/devices/hostdev/source/address/@slot: " in line
    assert "'0x40'" in line


def test_validate_goes_on_behind_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.xml"
    bad.write_text("<network/>")
    done = run("validate", "/nonexistent", bad)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "launcher-hook: /nonexistent: it cannot be read: No such file or directory; "
        "give the path of a readable file\n"
    )
    first, second = done.stdout.decode().splitlines()
    assert first.startswith(f"{bad}:1: /: its root is 'network', not 'domain'")
    assert second.startswith("checked against")


def test_validate_claims_to_have_checked_nothing_where_no_file_can_be_read() -> None:
    done = run("validate", "/nonexistent")
    assert (done.returncode, done.stdout) == (2, b"")
    done = run("validate", "/nonexistent", "--output", "json")
    assert (done.returncode, json.loads(done.stdout)["files"]) == (2, [])


def test_validate_prints_json_too(tmp_path: Path) -> None:
    bad = tmp_path / "bad.xml"
    bad.write_text("<domain>")
    done = run("validate", "--output", "json", bad)
    assert done.returncode == 4
    (verdict,) = json.loads(done.stdout)["files"]
    assert verdict["file"] == str(bad)
    assert "it is not well-formed XML" in verdict["faults"][0]["what"]


def test_validate_explains_by_what_the_hook_may_write(tmp_path: Path) -> None:
    file = tmp_path / "vm.xml"
    file.write_text(
        "<domain type='kvm'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices>"
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address bus='1'/></source>"
        "<alias name='ua-x'/></hostdev></devices></domain>"
    )
    assert run("validate", file).returncode == 0
    done = run("validate", "--explain", file)
    assert done.returncode == 4
    assert b"address" in done.stdout
