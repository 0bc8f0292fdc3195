"""The services that a launcher calls, as gRPC handlers."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from launcher_hook.callslots import CallSlots
from launcher_hook.hook.call import DomainHook, log
from launcher_hook.leangrpc import grpc
from launcher_hook.proto import (
    hooks_info,
    hooks_plugins_v1alpha1,
    hooks_v1alpha1,
    hooks_v1alpha2,
    hooks_v1alpha3,
)
from launcher_hook.proto.wire import Message
from launcher_hook.rpc import Answer, Methods, rpc_service

VERSIONS: dict[str, ModuleType] = {
    "v1alpha1": hooks_v1alpha1,
    "v1alpha2": hooks_v1alpha2,
    "v1alpha3": hooks_v1alpha3,
}

CALLS = 2
"""A launcher makes one call at a time; the other has an answer for who asks meanwhile.
(Domains are done one after the other: with two of them in work, Info waits too.)"""


@dataclass(frozen=True, slots=True)
class PluginApi:
    """The names by which a KubeVirt calls a plugin with a VM's domain.

    Attributes:
        service: Full name, with its package.
        request: Has domain, vmi and sidecar_context.
        response: Has domain.
    """

    service: str
    method: str
    request: type[Message]
    response: Callable[..., Message]


PLUGIN_APIS = (
    # KubeVirt 1.9.0, pkg/hooks/plugins/v1alpha1/api.proto; its main of 2026-08-22 (d923fdb815)
    # has no other names.
    PluginApi(
        "kubevirt.hooks.plugins.v1alpha1.DomainHookService",
        "MutateDomain",
        hooks_plugins_v1alpha1.MutateDomainRequest,
        hooks_plugins_v1alpha1.MutateDomainResponse,
    ),
    # KubeVirt PR 19160, open when last seen, renames them for 1.10: LauncherHookService and
    # GuestDefinition. A row with its messages goes here when it is merged.
)
"""Each of them is served on the plugin's socket: which KubeVirt calls does not matter."""


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
    slots = CallSlots(CALLS)
    answers: Methods = {"Info": (hooks_info.InfoParams, lambda _: info)}
    handlers = [_service("kubevirt.hooks.info.Info", answers, slots)]
    for version in versions:
        messages = VERSIONS[version]
        methods: Methods = {
            "OnDefineDomain": (messages.OnDefineDomainParams, _define(hook, messages))
        }
        if version != "v1alpha1":
            methods["PreCloudInitIso"] = (messages.PreCloudInitIsoParams, _same_iso(messages))
        if version == "v1alpha3":
            methods["Shutdown"] = (messages.ShutdownParams, _shutdown(messages, shut_down))
        handlers.append(_service(f"kubevirt.hooks.{version}.Callbacks", methods, slots))
    return handlers


def plugin_handlers(hook: DomainHook) -> list[grpc.GenericRpcHandler]:
    """Give the service of a KubeVirt plugin, under each of its names."""
    slots = CallSlots(CALLS)
    return [
        _service(api.service, {api.method: (api.request, _mutate(hook, api))}, slots)
        for api in PLUGIN_APIS
    ]


def _mutate(hook: DomainHook, api: PluginApi) -> Answer:
    def mutate(request: Any) -> Message:
        sidecar = request.sidecar_context
        context = "" if sidecar is None else sidecar.invocation_context
        return api.response(domain=hook.define(request.domain, request.vmi, context))

    return mutate


def _define(hook: DomainHook, messages: ModuleType) -> Answer:
    def define(request: Any) -> Message:
        domain = hook.define(request.domainXML, request.vmi)
        return _made(messages.OnDefineDomainResult(domainXML=domain))

    return define


def _same_iso(messages: ModuleType) -> Answer:
    def pre_cloud_init_iso(request: Any) -> Message:
        return _made(
            messages.PreCloudInitIsoResult(
                cloudInitNoCloudSource=request.cloudInitNoCloudSource,
                cloudInitData=request.cloudInitData,
            )
        )

    return pre_cloud_init_iso


def _shutdown(messages: ModuleType, shut_down: Callable[[], None]) -> Answer:
    def shutdown(_: Any) -> Message:
        log.info("the launcher says Shutdown")
        shut_down()
        return _made(messages.ShutdownResult())

    return shutdown


def _made(message: Any) -> Message:
    """A message of one of the three versions, which differ in their package only."""
    assert isinstance(message, Message)
    return message


def _service(name: str, methods: Methods, slots: CallSlots) -> grpc.GenericRpcHandler:
    """Make a service after whose calls garbage is looked for.

    That costs 10 µs. Left to itself, the process grows by a megabyte before it stays as it is.
    """
    return rpc_service(name, methods, slots, after_call=gc.collect)
