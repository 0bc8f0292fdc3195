"""The two real libvirts that the conformance tests ask."""

import os
from collections.abc import Iterator

import chroot
import pytest
from libvirt_driver import LibvirtDriver


@pytest.fixture(scope="module", params=["machine", chroot.SUITE])
def driver(request: pytest.FixtureRequest) -> Iterator[LibvirtDriver]:
    """This machine's libvirt, then the one of a newer Debian."""
    if request.param == "machine":
        yield request.getfixturevalue("libvirt")
        return
    if os.geteuid() != 0 or not chroot.is_there():
        reason = "the second libvirt is not here (root: make conformance)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with LibvirtDriver(prefix=chroot.enter(), base=chroot.ROOT) as second:
        yield second
