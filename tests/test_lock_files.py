"""The image's lock files pin what everybody's does."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


def read_pins(name: str) -> dict[str, str]:
    """Version by package."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M))


@pytest.mark.parametrize("name", ["sidecar-image/runtime.lock", "sidecar-image/build.lock"])
def test_the_image_has_the_versions_that_the_tests_run_with(name: str) -> None:
    pins = read_pins(name)
    assert pins
    assert pins.items() <= read_pins("requirements.lock").items(), "run make lock"


def test_the_image_has_every_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=!\[ ]", text)[0].lower() for text in project["dependencies"]}
    assert wanted <= read_pins("sidecar-image/runtime.lock").keys(), "run make lock"
