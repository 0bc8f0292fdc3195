"""A small HTTP server that a hostile client cannot fill: few connections, short requests, a clock.

Anybody on the pod network can connect. A connection has one request, 8 KiB for it, and five seconds
for all of it, however it drips in. At most eight connections are open: the oldest makes room for a
new one, so that a scrape or a probe always gets through.
"""

import logging
import sys
import threading
import time
from errno import EADDRNOTAVAIL, EAFNOSUPPORT, EMFILE, ENFILE
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, RawIOBase
from socket import AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, SHUT_RDWR, socket
from typing import Any

log = logging.getLogger("launcher-hook")

MAX_REQUEST_BYTES = 8 * 1024
"""Request line and headers: Prometheus sends some hundred bytes."""

MAX_CONNECTIONS = 8
"""Prometheus and kubelet have one each, and for a moment the one before it."""

REQUEST_S = 5.0
"""For a request and its answer, from the connection on."""

_FULL_S = 0.1
"""How long to wait where the process has no descriptor for a connection."""


class BoundedHandler(BaseHTTPRequestHandler):
    """Answers one request of bounded size within a bounded time."""

    def setup(self) -> None:
        """Read through a count of bytes and a clock."""
        super().setup()
        self._request = _Request(self.connection)
        self.rfile = BufferedReader(self._request, 1024)

    def handle_one_request(self) -> None:
        """Answer one request; one that is too large or too slow is hung up on."""
        super().handle_one_request()
        self.close_connection = True

    def answer(self, status: int, content_type: str, body: bytes) -> None:
        """Send an answer, in the time that is left."""
        self.connection.settimeout(self._request.seconds_left())
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep probes out of the log."""


class _Request(RawIOBase):
    """What a client sends, up to the most that is read and for as long as it may take."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._left = MAX_REQUEST_BYTES
        self._ends_at = time.monotonic() + REQUEST_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise ConnectionAbortedError("the request is too large")
        self._connection.settimeout(self.seconds_left())
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count

    def seconds_left(self) -> float:
        """What is left of the time for this request.

        Raises:
            TimeoutError: Nothing.
        """
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request takes too long")
        return left


class BoundedServer(ThreadingHTTPServer):
    """Serves so many connections at once that neither threads nor descriptors run out."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._open: dict[socket, None] = {}  # the oldest first
        self._changed = threading.Condition()
        super().__init__(*args)

    def get_request(self) -> tuple[socket, Any]:
        """Take a connection; without a descriptor for it, the oldest gives back its own."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (EMFILE, ENFILE):
                with self._changed:
                    self._hang_up_on_oldest()
                    self._changed.wait(_FULL_S)  # or accept is tried again and again
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, once there is room for one more."""
        with self._changed:
            if len(self._open) >= MAX_CONNECTIONS:
                self._hang_up_on_oldest()
                self._changed.wait_for(lambda: len(self._open) < MAX_CONNECTIONS)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and make room for another."""
        super().shutdown_request(request)
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()

    def _hang_up_on_oldest(self) -> None:
        oldest = next(iter(self._open), None)
        if oldest is not None:
            try:
                oldest.shutdown(SHUT_RDWR)  # its thread finds that the client has gone
            except OSError:
                return  # it has gone by itself

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what the base class prints; a client that goes away is no event."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        log.log(level, "metrics for %s failed", client_address, exc_info=True)


class _Server6(BoundedServer):
    address_family = AF_INET6

    def server_bind(self) -> None:
        """``::`` is every address, of IPv4 too, whatever net.ipv6.bindv6only says."""
        self.socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        super().server_bind()


def listen(host: str, port: int, handler: type[BoundedHandler]) -> BoundedServer:
    """Listen; without a host on ``::``, or on 0.0.0.0 where the node has no IPv6.

    Raises:
        OSError: The address cannot be listened on.
    """
    if host:
        return (_Server6 if ":" in host else BoundedServer)((host, port), handler)
    try:
        return _Server6(("::", port), handler)
    except OSError as error:
        if error.errno not in (EAFNOSUPPORT, EADDRNOTAVAIL):
            raise
        return BoundedServer(("", port), handler)
