"""The services that a launcher calls, as gRPC handlers."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from launcher_hook import __version__
from launcher_hook.errors import HookError
from launcher_hook.hook.call import DomainHook, log
from launcher_hook.hook.status import status_of
from launcher_hook.proto import (
    hooks_info_pb2,
    hooks_plugins_v1alpha1_pb2,
    hooks_v1alpha1_pb2,
    hooks_v1alpha2_pb2,
    hooks_v1alpha3_pb2,
)

VERSIONS = {
    "v1alpha1": hooks_v1alpha1_pb2,
    "v1alpha2": hooks_v1alpha2_pb2,
    "v1alpha3": hooks_v1alpha3_pb2,
}

# KubeVirt 1.9's names; 1.10 renames them (launcherHooks), and then they change here only.
PLUGIN_SERVICE = "kubevirt.hooks.plugins.v1alpha1.DomainHookService"
PLUGIN_METHOD = "MutateDomain"

_Answer = Callable[[Any], Any]


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
    points = [hooks_info_pb2.HookPoint(name="OnDefineDomain", priority=0)]
    if "v1alpha3" in versions:
        points.append(hooks_info_pb2.HookPoint(name="Shutdown", priority=0))
    info = hooks_info_pb2.InfoResult(name=name, versions=versions, hookPoints=points)
    handlers = [
        _service("kubevirt.hooks.info.Info", {"Info": (hooks_info_pb2.InfoParams, lambda _: info)})
    ]
    for version in versions:
        messages = VERSIONS[version]
        methods = {"OnDefineDomain": (messages.OnDefineDomainParams, _define(hook, messages))}
        if version != "v1alpha1":
            methods["PreCloudInitIso"] = (messages.PreCloudInitIsoParams, _same_iso(messages))
        if version == "v1alpha3":
            methods["Shutdown"] = (messages.ShutdownParams, _shutdown(messages, shut_down))
        handlers.append(_service(f"kubevirt.hooks.{version}.Callbacks", methods))
    return handlers


def plugin_handlers(hook: DomainHook) -> list[grpc.GenericRpcHandler]:
    """Give the service of a KubeVirt 1.9 plugin."""
    messages = hooks_plugins_v1alpha1_pb2

    def mutate(request: Any) -> Any:
        context = request.sidecar_context.invocation_context
        domain = hook.define(request.domain, request.vmi, context)
        return messages.MutateDomainResponse(domain=domain)

    return [_service(PLUGIN_SERVICE, {PLUGIN_METHOD: (messages.MutateDomainRequest, mutate)})]


def _define(hook: DomainHook, messages: Any) -> _Answer:
    def define(request: Any) -> Any:
        domain = hook.define(request.domainXML, request.vmi)
        return messages.OnDefineDomainResult(domainXML=domain)

    return define


def _same_iso(messages: Any) -> _Answer:
    def pre_cloud_init_iso(request: Any) -> Any:
        return messages.PreCloudInitIsoResult(
            cloudInitNoCloudSource=request.cloudInitNoCloudSource,
            cloudInitData=request.cloudInitData,
        )

    return pre_cloud_init_iso


def _shutdown(messages: Any, shut_down: Callable[[], None]) -> _Answer:
    def shutdown(_: Any) -> Any:
        log.info("the launcher says Shutdown")
        shut_down()
        return messages.ShutdownResult()

    return shutdown


def _service(name: str, methods: dict[str, tuple[Any, _Answer]]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(
                _guarded(answer),
                request_deserializer=request.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for method, (request, answer) in methods.items()
        },
    )


def _guarded(answer: _Answer) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Turn what an answer raises into a status whose message says what to do."""

    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return answer(request)
        except HookError as error:
            context.abort(status_of(error), f"launcher-hook {__version__}: {error}")
        except Exception as error:
            log.exception("a call failed")
            context.abort(
                status_of(error),
                f"launcher-hook {__version__}: {type(error).__name__}: {error}; this is a defect: "
                "report it with the sidecar's log",
            )

    return guarded
