"""`make demo`: a reader can repeat what it shows."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shown() -> str:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tests/demo.py"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_section_has_its_command_and_the_files_that_it_names(shown: str) -> None:
    introduction, *sections = shown.split("\n== ")[1:]
    assert "PCI_RESOURCE_" in introduction
    for number, section in enumerate(sections, start=1):
        assert section.startswith(f"{number}. ")
        command = shlex.split(section.partition("\n$ ")[2].partition("\n\n")[0])
        assert command[0] == ".venv/bin/launcher-hook"
        files = [word for word in command if "/" in word and "=" not in word]
        assert all((REPOSITORY / file).exists() for file in files)


def test_it_is_one_node_and_no_place_of_this_machine(shown: str) -> None:
    assert str(REPOSITORY) not in shown
    assert "/tmp/" not in shown
    assert "Nothing is known of the node" not in shown
    assert len({line for line in shown.splitlines() if "-[af]-" in line}) == 1


def test_a_plan_fits_into_a_terminal(shown: str) -> None:
    plans = [section for section in shown.split("\n== ") if section.startswith(("2.", "3."))]
    assert max(len(line) for plan in plans for line in plan.splitlines()) <= 110
