"""``/metrics`` for Prometheus and ``/healthz`` for kubelet's probes. Loaded with --metrics only."""

import re
import threading
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from launcher_hook.deviceplugin.httpserver import BoundedHandler, listen
from launcher_hook.deviceplugin.metrics import SECONDS, Tally
from launcher_hook.errors import InputError

_ADDRESS = re.compile(
    r"(\[(?P<v6>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})"
)

_PREFIX = "launcher_hook_device_plugin"


class MetricsEndpoint:
    """An HTTP server in a thread of its own.

    Args:
        address: ``HOST:PORT``; without a host (``:9100``) on every address.
        tally: What ``/metrics`` shows.
        is_alive: What ``/healthz`` asks.
    """

    def __init__(self, address: str, tally: Tally, is_alive: Callable[[], bool]) -> None:
        registry = CollectorRegistry()
        registry.register(_TallyCollector(tally))

        class Handler(BoundedHandler):
            def do_GET(self) -> None:  # noqa: N802 - the base class calls it so
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self.answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path == "/healthz":
                    alive = is_alive()
                    self.answer(*((200, "text/plain", b"ok\n") if alive else _STUCK))
                else:
                    self.answer(404, "text/plain", b"there are /metrics and /healthz\n")

        host, port = parse_address(address)
        try:
            self._server = listen(host, port, Handler)
        except OSError as error:
            raise InputError(
                f"--metrics {address}",
                f"it cannot be listened on: {error.strerror}",
                "give a free HOST:PORT",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics")
        self._thread.start()

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_STUCK = (503, "text/plain", b"the plugin has not looked at the node for too long\n")


def parse_address(address: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``[IPv6]:PORT`` or ``:PORT``.

    Raises:
        InputError: It is none of these.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 0xFFFF:
        raise InputError(
            f"--metrics {address}",
            f"{address!r} is not HOST:PORT",
            "write e.g. :9100, 127.0.0.1:9100 or [::]:9100",
        )
    return match["v6"] or match["host"] or "", int(match["port"])


class _TallyCollector(Collector):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        tally = self._tally
        devices = GaugeMetricFamily(
            f"{_PREFIX}_devices", "Devices offered.", labels=("resource", "health")
        )
        allocations = CounterMetricFamily(
            f"{_PREFIX}_allocations", "Allocate calls.", labels=("resource", "result")
        )
        durations = HistogramMetricFamily(
            f"{_PREFIX}_allocation_seconds", "Duration of an Allocate.", labels=("resource",)
        )
        registrations = CounterMetricFamily(
            f"{_PREFIX}_registrations", "Registrations.", labels=("resource", "result")
        )
        rescans = CounterMetricFamily(
            f"{_PREFIX}_rescans", "Looks at the whole node.", labels=("result",)
        )
        bounds = [*map(str, SECONDS), "+Inf"]
        with tally.lock:
            for family, counts in (
                (devices, tally.devices),
                (allocations, tally.allocations),
                (registrations, tally.registrations),
            ):
                for labels, count in counts.items():
                    family.add_metric(labels, count)
            for resource, taken in tally.durations.items():
                buckets = list(zip(bounds, accumulate(taken.counts), strict=True))
                durations.add_metric((resource,), buckets, taken.sum_s)
            for result, count in tally.rescans.items():
                rescans.add_metric((result,), count)
        return (devices, allocations, durations, registrations, rescans)
