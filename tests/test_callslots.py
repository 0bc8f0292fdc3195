"""Calls whose message does not come make way for those whose message does."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from cases import CASES
from launcher import Sidecar, ask_info, running_sidecar
from pluginnode import GPUS, RESOURCE, seeds_node

CASE = CASES / "stock-sidecar"
DOMAIN, VMI = ((CASE / name).read_bytes() for name in ("domain.xml", "vmi.json"))
EXPECTED = (CASE / "expected.xml").read_bytes()


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    with running_sidecar("--sysfs", "/nonexistent") as running:
        yield running


def silent_calls(socket: Path, method: str, count: int, stack: ExitStack) -> list[grpc.Call]:
    """Open calls on one connection, and send no message for as long as the stack is open."""
    channel = stack.enter_context(grpc.insecure_channel(f"unix:{socket}"))
    over = threading.Event()
    stack.callback(over.set)

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    call = channel.stream_unary(f"/{method}")
    calls = [call.future(nothing()) for _ in range(count)]
    grpc.channel_ready_future(channel).result(60)
    return calls


@pytest.mark.parametrize("count", [2, 5, 20])
@pytest.mark.parametrize(
    "method", ["kubevirt.hooks.info.Info/Info", "kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain"]
)
def test_calls_without_a_message_do_not_stop_the_others(
    sidecar: Sidecar, method: str, count: int
) -> None:
    """virt-launcher panics when Info is not answered."""
    with ExitStack() as stack:
        silent_calls(sidecar.socket, method, count, stack)
        assert ask_info(sidecar.socket).name == "hook-sidecar-0"
        assert sidecar.define(DOMAIN, VMI) == EXPECTED


def test_a_call_that_makes_way_is_told_so(sidecar: Sidecar) -> None:
    with ExitStack() as stack:
        calls = silent_calls(sidecar.socket, "kubevirt.hooks.info.Info/Info", 3, stack)
        sidecar.info()
        assert grpc.StatusCode.CANCELLED in {c.code() for c in calls if c.done()}
    assert "Traceback" not in sidecar.log.read_text()


def test_a_call_that_ends_without_a_message_is_refused(sidecar: Sidecar) -> None:
    with grpc.insecure_channel(f"unix:{sidecar.socket}") as channel:
        call = channel.stream_unary("/kubevirt.hooks.info.Info/Info")
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(()), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the call ended without one" in caught.value.details()


def test_kubelets_calls_are_answered_beside_silent_ones(tmp_path: Path) -> None:
    with seeds_node(tmp_path).plugin() as plugin, ExitStack() as stack:
        endpoint = plugin.kubelet.wait_for_resource(RESOURCE, 4)
        socket = plugin.kubelet.directory / endpoint.socket
        for method in ("Allocate", "ListAndWatch", "GetPreferredAllocation"):
            silent_calls(socket, f"v1beta1.DevicePlugin/{method}", 4, stack)
        assert plugin.kubelet.allocate(endpoint, GPUS)
