"""Kubelet as its plugin sees it: a socket that may be remade at any time, and one call."""

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from launcher_hook.deviceplugin.service import OPTIONS, SERVICE
from launcher_hook.errors import HostError
from launcher_hook.leangrpc import grpc
from launcher_hook.proto import deviceplugin_v1beta1 as api
from launcher_hook.proto.wire import Message

# kubernetes pkg/kubelet/cm/devicemanager and deviceplugin/v1beta1/constants.go.
KUBELET_SOCKET = "kubelet.sock"
VERSION = "v1beta1"

CALL_S = 12
"""For one call: kubelet dials us for 10 s before it answers Register."""

_LOOK_S = 0.1

# A channel of its own each time. Channels to one address share a connection otherwise, and with it
# the second that gRPC waits after a failed attempt.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))

Identity = tuple[int, int, int]


def identify(path: str | Path) -> Identity | None:
    """Tell a socket from another one of the same name; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns)


def greet(socket: Path, ended: Event) -> None:
    """Dial our own socket: kubelet will do so as soon as it has been told of it.

    Raises:
        HostError: It does not answer.
    """
    _call(socket, f"{SERVICE}/GetDevicePluginOptions", api.Empty(), ended)


def register(directory: Path, resource: str, endpoint: str, ended: Event) -> None:
    """Tell kubelet of a resource and the socket that serves it.

    Raises:
        HostError: Kubelet does not answer, or refuses.
    """
    request = api.RegisterRequest(VERSION, endpoint, resource, OPTIONS)
    _call(directory / KUBELET_SOCKET, "v1beta1.Registration/Register", request, ended)


def _call(socket: Path, method: str, request: Message, ended: Event) -> None:
    with grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        invoke: Any = channel.unary_unary(
            f"/{method}", request_serializer=lambda message: message.encode()
        )
        call = invoke.future(request, timeout=CALL_S)
        done = Event()
        call.add_done_callback(lambda _: done.set())
        while not done.wait(_LOOK_S):
            if ended.is_set():
                call.cancel()
                raise HostError(str(socket), f"{method} was not waited for", "nothing: we end")
        error = call.exception()
    if error is not None:
        code = error.code().name if isinstance(error, grpc.RpcError) else type(error).__name__
        details = error.details() if isinstance(error, grpc.RpcError) else str(error)
        raise HostError(
            str(socket), f"{method}: {code}: {details}", "see what kubelet's log says of it"
        )


@dataclass
class BackOff:
    """When to try again: soon at first, seldom after that."""

    first_s: float = 0.01
    most_s: float = 30.0
    _next_s: float = 0.0

    def reset(self) -> None:
        """Begin anew."""
        self._next_s = 0.0

    def next_s(self) -> float:
        """How long to wait after one more failure."""
        self._next_s = min(max(self._next_s * 2, self.first_s), self.most_s)
        return self._next_s
