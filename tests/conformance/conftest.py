"""The real libvirts that the conformance tests ask."""

import os
from collections.abc import Generator, Iterator

import pluggy
import pytest
from chroot import CHROOTS, Chroot
from libvirt_driver import LibvirtDriver

LIBVIRTS = (None, *CHROOTS)
"""This machine's, then those of other Debian suites."""

IDS = ["machine", *(chroot.suite for chroot in CHROOTS)]


_MAX_SHOWN = 1_000
"""Of a failure that is none; one over a thousand domains names each."""


def need(chroot: Chroot) -> None:
    """Skip a test whose libvirt is not here; in CI fail, unless it is there on best effort."""
    if os.geteuid() == 0 and chroot.is_there():
        return
    reason = f"libvirt of Debian {chroot.suite} is not here (root: make conformance)"
    if os.environ.get("CI") == "true" and not chroot.best_effort:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module", params=LIBVIRTS, ids=IDS)
def driver(request: pytest.FixtureRequest) -> Iterator[LibvirtDriver]:
    """Each libvirt's qemu driver."""
    chroot: Chroot | None = request.param
    if chroot is None:
        yield request.getfixturevalue("libvirt")
        return
    need(chroot)
    with LibvirtDriver(prefix=chroot.enter(), base=chroot.root) as other:
        yield other


@pytest.fixture(params=LIBVIRTS, ids=IDS)
def chroot(request: pytest.FixtureRequest) -> Chroot | None:
    """Where each libvirt is; None is the machine itself."""
    chosen: Chroot | None = request.param
    if chosen is not None:
        need(chosen)
    return chosen


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Report a failure on a libvirt that is best effort as a skip, and print what it was."""
    report = (yield).get_result()
    parameters = getattr(item, "callspec", None)
    if not report.failed or parameters is None:
        return
    used = [value for value in parameters.params.values() if isinstance(value, Chroot)]
    if any(chroot.best_effort for chroot in used):
        text = str(call.excinfo.value)[:_MAX_SHOWN] if call.excinfo else "no reason"
        print(f"\nbest effort, no failure: {item.nodeid}: {text}")
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, line or 0, f"best effort: {text}")
