"""What a hook's container has is enough, whatever it is sent: 64 MB, and time."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from fuzz.server import (
    DOMAIN,
    MOST_BYTES,
    VMI,
    Calls,
    Facts,
    giants,
    image_environment,
)
from launcher import ask_define, running_sidecar


@contextmanager
def watched_sidecar() -> Iterator[Calls]:
    """A sidecar as in the image, each call to which must be a matter of less than a second."""
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        plugin = Path(scratch) / "x.sock"
        options = ("--sysfs", "/nonexistent", "--plugin-socket", plugin)
        with running_sidecar(*options, variables=image_environment()) as sidecar:
            calls = Calls(sidecar, plugin, Facts())
            yield calls
            calls.check_health()
            assert calls.facts.findings == []


def test_the_largest_of_everything_in_one_sidecar_stays_below_its_memory_and_a_second() -> None:
    with watched_sidecar() as calls:
        answered = {name: calls.define(domain, vmi) for name, domain, vmi in giants()}
        assert calls.peak_bytes() < MOST_BYTES
    # They go to the limits and not beyond.
    refused = {name for name, code in answered.items() if code is not grpc.StatusCode.OK}
    assert refused == {
        "hostdevs", "controllers", "VMI of GPUs", "annotation", "annotation of lists",
        "annotation of wide characters", "annotation of wide characters, with all of it", "YAML",
        "too much", "just not too much", "wide resource", "wide resource, with all of it",
        "wide index",
    }  # fmt: skip


def test_names_that_no_other_call_had_are_not_remembered() -> None:
    def odd(call: int) -> bytes:
        elements = b"".join(b"<a%x/>" % (call * 20_000 + n) for n in range(19_000))
        return DOMAIN.replace(b"<devices>", b"<devices>" + elements)

    with watched_sidecar() as calls:
        for call in range(5):
            calls.define(odd(call), VMI)
        before = calls.peak_bytes()
        for call in range(5, 20):
            calls.define(odd(call), VMI)
        assert calls.peak_bytes() - before < 3_000_000  # 10 MB where they are


def test_two_of_the_largest_at_once_take_no_more_than_one() -> None:
    with watched_sidecar() as calls:
        domain, vmi = next((d, v) for name, d, v in giants() if name == "all of it")
        with ThreadPoolExecutor(2) as pool:
            socket = calls.sidecar.socket
            answers = list(pool.map(lambda _: ask_define(socket, domain, vmi), range(6)))
        assert len(set(answers)) == 1
        assert calls.peak_bytes() < MOST_BYTES
