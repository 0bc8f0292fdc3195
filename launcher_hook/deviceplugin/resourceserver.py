"""One resource's server: its socket, and what kubelet has been told of it."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher_hook.deviceplugin.metrics import Tally
from launcher_hook.deviceplugin.registration import BackOff, Identity, greet, register
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.service import WORKERS, DeviceList, plugin_handlers
from launcher_hook.errors import HookError, HostError
from launcher_hook.unixserver import UnixServer

log = logging.getLogger("launcher-hook")

_MOST_REQUEST_BYTES = 1024 * 1024
"""All ids twice, of 13,000 mediated devices; an id that is read takes ten times its bytes."""


class ResourceServer:
    """Serves one resource on its socket, and keeps kubelet told of it.

    Attributes:
        retry_at: When to try again what has failed, by the monotonic clock, which may be over
            by the time that it is looked at; None if nothing has.
    """

    def __init__(
        self, resource: str, directory: Path, endpoint: str, node: Node, tally: Tally
    ) -> None:
        self.resource = resource
        self.endpoint = endpoint
        self.devices = DeviceList()
        self.retry_at: float | None = None
        self._directory = directory
        self._node = node
        self._tally = tally
        self._server: UnixServer | None = None
        self._told: Identity | None = None
        self._told_at = 0.0
        self._back_off = BackOff()
        self._complaint = ""

    def tend(self, kubelet: Identity | None, ended: threading.Event) -> None:
        """Serve if we do not, register if this kubelet does not know it; at the time for it."""
        if self.retry_at is not None and time.monotonic() < self.retry_at:
            return
        self.retry_at = None
        try:
            self._ensure_served()
            if kubelet is not None and kubelet != self._told:
                self._tell(kubelet, ended)
        except HookError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(f"{self.endpoint}: {error.strerror}; see whether kubelet's directory is "
                       "writable and has room")  # fmt: skip

    def begin_anew(self) -> None:
        """Try at once: something has changed."""
        self._back_off.reset()
        self.retry_at = None

    def is_forgotten(self, after_s: float) -> bool:
        """Whether kubelet was told and does not follow the list."""
        told_s = time.monotonic() - self._told_at
        return self._told is not None and self.devices.followers == 0 and told_s > after_s

    def tell_again(self) -> None:
        """Register once more with the same kubelet."""
        self._told = None

    def stop(self, grace_s: float) -> Callable[[], None]:
        """End the calls; what is given back waits for that and removes the socket."""
        self._told = None
        self.devices.end_streams()
        server, self._server = self._server, None
        return server.stop(grace_s) if server is not None else lambda: None

    def _ensure_served(self) -> None:
        if self._server is not None and self._server.is_there:
            return
        if self._server is not None:
            log.info("socket is gone", extra=self._of())
            self.stop(0)()
        handlers = plugin_handlers(self.resource, self.devices, self._node, self._tally)
        path = self._directory / self.endpoint
        server = UnixServer(
            path,
            handlers,
            ThreadPoolExecutor(WORKERS, thread_name_prefix="call"),
            _MOST_REQUEST_BYTES,
        )
        try:
            server.start()
        except BaseException:
            server.stop(0)()
            raise
        self._server = server

    def _tell(self, kubelet: Identity, ended: threading.Event) -> None:
        try:
            greet(self._directory / self.endpoint, ended)
            register(self._directory, self.resource, self.endpoint, ended)
        except HostError:
            self._tally.registered(self.resource, "failed")
            raise
        self._told = kubelet
        self._told_at = time.monotonic()
        self._back_off.reset()
        self._complaint = ""
        self._tally.registered(self.resource, "accepted")
        log.info("registered with kubelet", extra=self._of())

    def _fail(self, message: str) -> None:
        self.retry_at = time.monotonic() + self._back_off.next_s()
        level = logging.DEBUG if message == self._complaint else logging.ERROR
        log.log(level, "%s", message, extra=self._of())
        self._complaint = message

    def _of(self) -> dict[str, str]:
        return {"resource": self.resource, "socket": self.endpoint}
