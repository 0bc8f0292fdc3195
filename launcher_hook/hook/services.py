"""The services that a launcher calls, as gRPC handlers."""

import gc
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from launcher_hook import __version__
from launcher_hook.errors import HookError, InputError
from launcher_hook.hook.call import DomainHook, log
from launcher_hook.hook.status import status_of
from launcher_hook.leangrpc import grpc
from launcher_hook.proto import (
    hooks_info,
    hooks_plugins_v1alpha1,
    hooks_v1alpha1,
    hooks_v1alpha2,
    hooks_v1alpha3,
)
from launcher_hook.proto.wire import DecodeError, Message

VERSIONS: dict[str, ModuleType] = {
    "v1alpha1": hooks_v1alpha1,
    "v1alpha2": hooks_v1alpha2,
    "v1alpha3": hooks_v1alpha3,
}

# KubeVirt 1.9's names; 1.10 renames them (launcherHooks), and then they change here only.
PLUGIN_SERVICE = "kubevirt.hooks.plugins.v1alpha1.DomainHookService"
PLUGIN_METHOD = "MutateDomain"

_Answer = Callable[[Any], Message]
_Methods = dict[str, tuple[type[Message], _Answer]]


def hook_handlers(
    name: str, hook: DomainHook, versions: Sequence[str], shut_down: Callable[[], None]
) -> list[grpc.GenericRpcHandler]:
    """Give the services of a hook sidecar: Info, and Callbacks in each version.

    Args:
        name: What the sidecar calls itself, for the launcher's log.
        hook: Answers OnDefineDomain.
        versions: Protocol versions to offer.
        shut_down: Called when the launcher says Shutdown, after it has its answer.
    """
    points = [hooks_info.HookPoint(name="OnDefineDomain", priority=0)]
    if "v1alpha3" in versions:
        points.append(hooks_info.HookPoint(name="Shutdown", priority=0))
    info = hooks_info.InfoResult(name=name, versions=versions, hookPoints=points)
    handlers = [
        _service("kubevirt.hooks.info.Info", {"Info": (hooks_info.InfoParams, lambda _: info)})
    ]
    for version in versions:
        messages = VERSIONS[version]
        methods: _Methods = {
            "OnDefineDomain": (messages.OnDefineDomainParams, _define(hook, messages))
        }
        if version != "v1alpha1":
            methods["PreCloudInitIso"] = (messages.PreCloudInitIsoParams, _same_iso(messages))
        if version == "v1alpha3":
            methods["Shutdown"] = (messages.ShutdownParams, _shutdown(messages, shut_down))
        handlers.append(_service(f"kubevirt.hooks.{version}.Callbacks", methods))
    return handlers


def plugin_handlers(hook: DomainHook) -> list[grpc.GenericRpcHandler]:
    """Give the service of a KubeVirt 1.9 plugin."""
    messages = hooks_plugins_v1alpha1

    def mutate(request: hooks_plugins_v1alpha1.MutateDomainRequest) -> Message:
        sidecar = request.sidecar_context
        context = "" if sidecar is None else sidecar.invocation_context
        domain = hook.define(request.domain, request.vmi, context)
        return messages.MutateDomainResponse(domain=domain)

    return [_service(PLUGIN_SERVICE, {PLUGIN_METHOD: (messages.MutateDomainRequest, mutate)})]


def _define(hook: DomainHook, messages: ModuleType) -> _Answer:
    def define(request: Any) -> Message:
        domain = hook.define(request.domainXML, request.vmi)
        return _made(messages.OnDefineDomainResult(domainXML=domain))

    return define


def _same_iso(messages: ModuleType) -> _Answer:
    def pre_cloud_init_iso(request: Any) -> Message:
        return _made(
            messages.PreCloudInitIsoResult(
                cloudInitNoCloudSource=request.cloudInitNoCloudSource,
                cloudInitData=request.cloudInitData,
            )
        )

    return pre_cloud_init_iso


def _shutdown(messages: ModuleType, shut_down: Callable[[], None]) -> _Answer:
    def shutdown(_: Any) -> Message:
        log.info("the launcher says Shutdown")
        shut_down()
        return _made(messages.ShutdownResult())

    return shutdown


def _made(message: Any) -> Message:
    """A message of one of the three versions, which differ in their package only."""
    assert isinstance(message, Message)
    return message


def _service(name: str, methods: _Methods) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(
                _guarded(method, request, answer), response_serializer=lambda made: made.encode()
            )
            for method, (request, answer) in methods.items()
        },
    )


def _guarded(
    method: str, request: type[Message], answer: _Answer
) -> Callable[[bytes, grpc.ServicerContext], Message]:
    """Turn what an answer raises into a status whose message says what to do."""

    def guarded(data: bytes, context: grpc.ServicerContext) -> Message:
        try:
            return answer(_decode(method, request, data))
        except HookError as error:
            context.abort(status_of(error), f"launcher-hook {__version__}: {error}")
        except Exception as error:
            context.abort(
                status_of(error),
                f"launcher-hook {__version__}: {type(error).__name__}: {error}; this is a defect: "
                "report it with the sidecar's log",
            )
        finally:
            # 10 µs. Left to itself, the process grows by a megabyte before it stays as it is.
            gc.collect()
        raise AssertionError("abort() raises")

    return guarded


def _decode(method: str, request: type[Message], data: bytes) -> Message:
    try:
        return request.decode(data)
    except DecodeError as error:
        raise InputError(
            f"the call of {method}",
            f"its message cannot be read: {error}",
            "call it with KubeVirt's own protocol",
        ) from None
