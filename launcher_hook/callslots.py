"""How many calls a server has in work, and what becomes of one that never sends its message.

A client can open a call and send no message. gRPC for Python waits for the message in the thread
that would answer, so that as many such calls as there are threads end all service. Here a call that
waits for its message makes way for the next one.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from launcher_hook.leangrpc import grpc

PATIENCE_S = 0.2
"""For a message, once another call waits for the place. A client sends both in one go."""

SPARE_THREADS = 2
"""Beside one for each slot: for the calls that wait for a slot and so see who must make way."""


@dataclass(slots=True, eq=False)
class _Call:
    context: grpc.ServicerContext
    since_s: float
    has_message: bool = False


class CallSlots:
    """Places for calls in work.

    Args:
        count: How many calls may have their message in memory and be answered at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._changed = threading.Condition()
        self._calls: list[_Call] = []

    @contextmanager
    def message_of(
        self, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes | None]:
        """Read a call's message once there is a place for the call, and keep the place.

        Yields:
            The message; None where the client has ended the call without one.

        Raises:
            grpc.RpcError: The call has ended, or had to make way.
        """
        call = self._enter(context)
        try:
            data = next(requests, None)
            with self._changed:
                call.has_message = True
            yield data
        finally:
            with self._changed:
                self._calls.remove(call)
                self._changed.notify_all()

    def _enter(self, context: grpc.ServicerContext) -> _Call:
        with self._changed:
            while len(self._calls) >= self._count:
                self._changed.wait(self._make_way())
            call = _Call(context, time.monotonic())
            self._calls.append(call)
            return call

    def _make_way(self) -> float | None:
        """End the call that has waited longest for its message; say when to look again."""
        waiting = next((call for call in self._calls if not call.has_message), None)
        if waiting is None:
            return None
        left = waiting.since_s + PATIENCE_S - time.monotonic()
        if left <= 0:
            waiting.context.cancel()
        return max(left, PATIENCE_S / 10)
