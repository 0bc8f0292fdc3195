"""``/metrics`` and ``/healthz``, over HTTP from a running plugin."""

import re
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
from kubelet import Plugin
from pluginnode import GPUS, RESOURCE, seeds_node
from processmemory import peak_bytes

from launcher_hook.deviceplugin.endpoint import parse_address
from launcher_hook.deviceplugin.httpserver import MAX_REQUEST_BYTES
from launcher_hook.sizes import MIB


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    node = seeds_node(tmp_path_factory.mktemp("node"))
    (node.dev / "vfio/40").unlink()
    with node.plugin("--metrics", "127.0.0.1:0") as running:
        running.kubelet.wait_for_resource(RESOURCE, 4)
        yield running


def port_of(plugin: Plugin) -> int:
    plugin.wait_for_log("metrics on port")
    match = re.search(r"metrics on port (\d+)", plugin.log.read_text())
    assert match is not None
    return int(match[1])


def get(plugin: Plugin, path: str) -> str:
    url = f"http://127.0.0.1:{port_of(plugin)}{path}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("launcher_hook_device_plugin_"): float(v) for name, _, v in lines}


@pytest.mark.parametrize(
    ("address", "host"), [(":0", "127.0.0.1"), (":0", "[::1]"), ("[::1]:0", "[::1]")]
)
def test_probes_come_by_ipv6_too(address: str, host: str, tmp_path: Path) -> None:
    """kubelet's go to the pod's address, which on some clusters is IPv6 alone."""
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    node = seeds_node(tmp_path)
    with node.plugin("--metrics", address) as running:
        url = f"http://{host}:{port_of(running)}/healthz"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read() == b"ok\n"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_what_the_plugin_did_can_be_counted(plugin: Plugin) -> None:
    plugin.kubelet.allocate(RESOURCE, GPUS[1:])
    with pytest.raises(grpc.RpcError):
        plugin.kubelet.allocate(RESOURCE, GPUS)
    of = f'resource="{RESOURCE}"'
    plugin.wait_for_log("registered with kubelet")  # which kubelet knows a moment before
    found = samples(get(plugin, "/metrics"))
    assert found[f'devices{{health="healthy",{of}}}'] == 3
    assert found[f'devices{{health="unhealthy",{of}}}'] == 1
    assert found[f'allocations_total{{{of},result="given"}}'] == 1
    assert found[f'allocations_total{{{of},result="refused"}}'] == 1
    assert found[f"allocation_seconds_count{{{of}}}"] == 2
    assert found[f'allocation_seconds_bucket{{le="+Inf",{of}}}'] == 2
    assert 0 < found[f"allocation_seconds_sum{{{of}}}"] < 60
    assert found[f'registrations_total{{{of},result="accepted"}}'] == 1
    assert found['rescans_total{result="done"}'] >= 1


def test_a_probe_is_answered(plugin: Plugin) -> None:
    assert get(plugin, "/healthz") == "ok\n"
    assert get(plugin, "/healthz?verbose") == "ok\n"


def test_a_client_that_asks_nothing_is_hung_up_on(plugin: Plugin) -> None:
    with socket.create_connection(("127.0.0.1", port_of(plugin)), timeout=60) as client:
        client.sendall(b"GET /metr")
        assert client.recv(1) == b""


def test_a_client_that_drips_is_hung_up_on(plugin: Plugin) -> None:
    """A byte now and then renews no time: there is one clock for the whole request."""
    with socket.create_connection(("127.0.0.1", port_of(plugin)), timeout=0.05) as client:
        sent = 0
        while is_open(client):
            sent += 1
    assert 0 < sent < MAX_REQUEST_BYTES


def is_open(client: socket.socket) -> bool:
    """Send a byte, and see for a moment whether the server has hung up."""
    try:
        client.sendall(b"G")
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_headers_without_end_are_not_kept_in_memory(plugin: Plugin) -> None:
    header = b"X: " + b"a" * 65_000 + b"\r\n"

    def send() -> None:
        address = ("127.0.0.1", port_of(plugin))
        with suppress(OSError), socket.create_connection(address, timeout=60) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n")
            for _ in range(98):
                client.sendall(header)
            client.recv(1)

    before = peak_bytes(plugin.pid)
    clients = [threading.Thread(target=send) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert peak_bytes(plugin.pid) < before + 4 * MIB
    assert get(plugin, "/healthz") == "ok\n"


def test_a_probe_gets_through_a_crowd(plugin: Plugin) -> None:
    """Who holds connections open without asking has a thread each; the oldest is hung up on."""
    with ExitStack() as stack:
        for _ in range(100):
            client = socket.create_connection(("127.0.0.1", port_of(plugin)), timeout=60)
            stack.enter_context(client)
        assert get(plugin, "/healthz") == "ok\n"
        assert plugin.threads() < 40
        assert plugin.descriptors() < 60


def test_a_client_that_goes_away_leaves_no_traceback_in_the_log(plugin: Plugin) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", port_of(plugin)), timeout=60) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert get(plugin, "/healthz") == "ok\n"
    assert all(line.startswith("{") for line in plugin.log.read_text().splitlines())


def test_another_path_is_told_what_there_is(plugin: Plugin) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(plugin, "/")
    with caught.value as answer:
        assert answer.code == 404
        assert answer.read() == b"there are /metrics and /healthz\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [(":9100", ("", 9100)), ("10.0.0.1:0", ("10.0.0.1", 0)), ("[::1]:9100", ("::1", 9100)),
     ("localhost:80", ("localhost", 80))],
)  # fmt: skip
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
