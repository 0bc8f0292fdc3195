"""Any bytes as a gRPC message: every message class, then every method of both servers."""

from pathlib import Path
from typing import Any

import grpc
from fuzz.domain import SCHEMAS
from fuzz.target import CASES, Target

from launcher_hook.deviceplugin.devices import Device
from launcher_hook.deviceplugin.metrics import Tally
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import select_by_vendor
from launcher_hook.deviceplugin.service import DeviceList
from launcher_hook.deviceplugin.service import plugin_handlers as device_handlers
from launcher_hook.devnodes import NodeList
from launcher_hook.hook.call import DomainHook, HookOptions
from launcher_hook.hook.services import VERSIONS, hook_handlers, plugin_handlers
from launcher_hook.proto import deviceplugin_v1beta1 as api
from launcher_hook.proto import hooks_info, hooks_plugins_v1alpha1, hooks_v1alpha3
from launcher_hook.proto.wire import DecodeError, Message
from launcher_hook.snapshot import FORMAT, parse_snapshot

GPUS = ("0000:04:00.0", "0000:05:00.0", "0000:86:00.0", "0000:86:00.1")


class RefusedError(Exception):
    """How a call that is refused ends, as grpc does it."""


class Call:
    """What a handler sees of one call that grpc has taken in; grpc itself is in ``server``."""

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        assert code is not grpc.StatusCode.INTERNAL, details
        assert details.isprintable(), details
        assert len(details) < 5000, len(details)
        raise RefusedError

    def add_callback(self, _: Any) -> bool:
        return True


class Details:
    """Of which method."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def _handlers() -> list[tuple[str, Any]]:
    """Every method that answers one message with one."""
    hook = DomainHook(HookOptions(sysfs=Path("/nonexistent")), SCHEMAS, dict)
    services = [*hook_handlers("x", hook, tuple(VERSIONS), lambda: None), *plugin_handlers(hook)]
    functions = ",".join(
        f'{{"address": "{bdf}", "vendor": "10de", "device": "1f08", "class": "030000",'
        f'"iommuGroup": {40 + n}, "driver": "vfio-pci", "bridges": []}}'
        for n, bdf in enumerate(GPUS)
    )
    snapshot = parse_snapshot(
        f'{{"format": "{FORMAT}", "functions": [{functions}], "mediatedDevices": null,'
        '"deviceNodes": []}'.encode(),
        "snapshot",
    )
    nodes = NodeList(frozenset(["vfio", "vfio/vfio", *(f"vfio/{n}" for n in range(40, 44))]))
    node = Node(
        snapshot, nodes, select_by_vendor({0x10DE: "nvidia.com"}, ("03",)), lambda *_: "GPU"
    )
    devices = DeviceList()
    ((resource, offered),) = node.take_inventory().resources.items()
    assert all(isinstance(device, Device) for device in offered)
    devices.publish(offered)
    services += device_handlers(resource, devices, node, Tally())
    names = {
        "kubevirt.hooks.info.Info": ("Info",),
        **{
            f"kubevirt.hooks.{version}.Callbacks": ("OnDefineDomain", "PreCloudInitIso")
            for version in VERSIONS
        },
        "kubevirt.hooks.plugins.v1alpha1.DomainHookService": ("MutateDomain",),
        "v1beta1.DevicePlugin": (
            "GetDevicePluginOptions",
            "GetPreferredAllocation",
            "Allocate",
            "PreStartContainer",
        ),
    }
    found = []
    for service in services:
        for method in names[service.service_name()]:
            handler = service.service(Details(f"/{service.service_name()}/{method}"))
            if handler is not None:
                found.append((method, handler))
    return found


HANDLERS = _handlers()
CLASSES = [
    kind
    for module in (hooks_info, hooks_v1alpha3, hooks_plugins_v1alpha1, api)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
]


def check(data: bytes) -> None:
    """Read or refused; what is read is written and read again the same; no call is a defect."""
    number, content = data[:1] or b"\0", data[1:]
    kind = CLASSES[number[0] % len(CLASSES)]
    try:
        message = kind.decode(content)
    except DecodeError:
        pass
    else:
        wire = message.encode()
        assert kind.decode(wire) == message
        assert kind.decode(wire).encode() == wire
    _, handler = HANDLERS[number[0] % len(HANDLERS)]
    try:
        answer = handler.stream_unary(iter([content]), Call())
    except RefusedError:
        return
    assert isinstance(handler.response_serializer(answer), bytes)


def seeds() -> list[bytes]:
    """A good message for every method."""
    domain = (CASES / "stock-sidecar" / "domain.xml").read_bytes()
    vmi = (CASES / "stock-sidecar" / "vmi.json").read_bytes()
    container = api.ContainerAllocateRequest(GPUS[:2])
    wanted = api.ContainerPreferredAllocationRequest(GPUS, GPUS[:1], 2)
    sidecar = hooks_plugins_v1alpha1.SidecarContext(invocation_context="Boot")
    messages: dict[str, Message] = {
        "OnDefineDomain": hooks_v1alpha3.OnDefineDomainParams(domainXML=domain, vmi=vmi),
        "PreCloudInitIso": hooks_v1alpha3.PreCloudInitIsoParams(cloudInitData=b"{}", vmi=vmi),
        "MutateDomain": hooks_plugins_v1alpha1.MutateDomainRequest(
            domain_type="libvirt", domain=domain, vmi=vmi, sidecar_context=sidecar
        ),
        "Allocate": api.AllocateRequest([container, container]),
        "GetPreferredAllocation": api.PreferredAllocationRequest([wanted]),
    }
    return [
        bytes([number]) + messages.get(method, api.Empty()).encode()
        for number, (method, _) in enumerate(HANDLERS)
    ] + [bytes([n]) for n in range(len(CLASSES))]


WORDS = [
    *(bytes([number << 3 | kind]) for number in (1, 2, 3, 4) for kind in range(6)),
    b"\xff" * 9 + b"\x01",
    b"\x80" * 9 + b"\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x0b\x0c",
    b"\x0a\x00",
    b"\0",
    *(bdf.encode() for bdf in GPUS),
    b"Boot",
    b"MigrationTarget",
    b"\x0a\x0c0000:86:00.0",
    b"\x18\x7f",
    b"<domain/>",
    b"{}",
]

TARGET = Target(
    "messages",
    check,
    seeds,
    WORDS,
    (
        "proto",
        "rpc",
        "hook.call",
        "hook.services",
        "deviceplugin.service",
        "deviceplugin.allocation",
        "deviceplugin.preference",
    ),
)
