"""gRPC services from plain functions: decode, answer, and say a refusal as a status.

The branch of the error tree is the status; its message, which says what to do, is the details.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from launcher_hook import __version__
from launcher_hook.callslots import CallSlots
from launcher_hook.errors import (
    HookError,
    HostError,
    InputError,
    PlanError,
    SchemaError,
    one_line,
)
from launcher_hook.leangrpc import grpc
from launcher_hook.proto.wire import DecodeError, Message

log = logging.getLogger("launcher-hook")

Answer = Callable[[Any], Message]
Methods = dict[str, tuple[type[Message], Answer]]
Follow = Callable[[grpc.ServicerContext], Iterator[bytes]]
"""Gives encoded messages for as long as the call is open."""

_STATUS: tuple[tuple[type[HookError], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (HostError, grpc.StatusCode.FAILED_PRECONDITION),
    (PlanError, grpc.StatusCode.FAILED_PRECONDITION),
    (SchemaError, grpc.StatusCode.INTERNAL),
)


_MOST_CHARACTERS = 4000
"""Of a status's text: the name or value that it quotes may be a megabyte of somebody's."""


def status_of(error: Exception) -> grpc.StatusCode:
    """Give an error's status; one that is none of ours is INTERNAL."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL


def rpc_service(
    name: str,
    methods: Methods,
    slots: CallSlots,
    streams: Mapping[str, Follow] | None = None,
    after_call: Callable[[], object] = lambda: None,
) -> grpc.GenericRpcHandler:
    """Make a service.

    Each method is registered as one that takes a stream of requests, which is the same on the wire:
    so the message is read here, and not before a thread is ours.

    Args:
        methods: By name, the request's class and what answers it.
        slots: Of the server.
        streams: Methods that answer with a stream; what their request says does not matter.
        after_call: Called after each of ``methods``, when the client has its answer.
    """
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.stream_stream_rpc_method_handler(_following(follow))
            for method, follow in (streams or {}).items()
        }
        | {
            method: grpc.stream_unary_rpc_method_handler(
                _guarded(method, request, answer, slots, after_call),
                response_serializer=lambda made: made.encode(),
            )
            for method, (request, answer) in methods.items()
        },
    )


def _following(
    follow: Follow,
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    return lambda _, context: follow(context)


def _guarded(
    method: str,
    request: type[Message],
    answer: Answer,
    slots: CallSlots,
    after_call: Callable[[], object],
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Message]:
    """Turn what an answer raises into a status whose message says what to do."""

    def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Message:
        context.add_callback(after_call)  # when the client has its answer
        try:
            with slots.message_of(requests, context) as data:
                return answer(_decode(method, request, data))
        except grpc.RpcError:
            raise  # the call has ended
        except HookError as error:
            context.abort(status_of(error), _details(str(error)))
        except Exception as error:
            log.exception("a call failed")  # with where it happened
            context.abort(
                status_of(error),
                _details(
                    f"{type(error).__name__}: {error}; this is a defect: report it with this log"
                ),
            )
        raise AssertionError("abort() raises")

    return guarded


def _details(message: str) -> str:
    """A status's text, as a launcher or kubelet puts it into an object's status."""
    text = one_line(f"launcher-hook {__version__}: {message}")
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"  # what to do stands at the end


def _decode(method: str, request: type[Message], data: bytes | None) -> Message:
    try:
        if data is None:
            raise DecodeError("the call ended without one")
        return request.decode(data)
    except DecodeError as error:
        raise InputError(
            f"the call of {method}",
            f"its message cannot be read: {error}",
            "call it with the protocol's own messages",
        ) from None
