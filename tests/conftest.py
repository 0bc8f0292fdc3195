"""Options and fixtures that every test module may use."""

import os

import pytest
from doctored import doctor  # noqa: F401 - a fixture
from hypothesis import HealthCheck, Phase, settings
from libvirt_driver import libvirt  # noqa: F401 - a fixture

from launcher_hook.schema import find_versions

# One profile everywhere: property tests always run, and a slow machine is no wrong result.
settings.register_profile(
    "everywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("everywhere")
# `make mutate` runs them a thousand times, and a counterexample need not be small there.
settings.register_profile(
    "mutation",
    settings.get_profile("everywhere"),
    max_examples=10,
    phases=(Phase.explicit, Phase.generate),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="write what is rendered as the expectation; look at the diff before you commit it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-expected") and os.environ.get("CI"):
        raise pytest.UsageError("--update-expected is refused in CI: expectations are committed")


@pytest.fixture
def update_expected(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-expected"))


@pytest.fixture(scope="session")
def libvirt_schemas() -> None:
    """libvirt's schemas of both pinned versions must be there: `make setup` brings them."""
    missing = {"9.0.0", "11.3.0"} - set(find_versions())
    if missing and os.environ.get("CI"):
        pytest.fail(f"schemas of libvirt {', '.join(sorted(missing))} are missing: make setup")
    if missing:
        pytest.skip(f"schemas of libvirt {', '.join(sorted(missing))} are missing: make setup")
