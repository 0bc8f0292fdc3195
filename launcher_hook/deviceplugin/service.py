"""The service that kubelet calls, for one resource."""

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher_hook.callslots import SPARE_THREADS, CallSlots
from launcher_hook.deviceplugin.allocation import ContainerDevices, allocate
from launcher_hook.deviceplugin.devices import Device
from launcher_hook.deviceplugin.metrics import Tally
from launcher_hook.deviceplugin.preference import prefer
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.errors import HookError
from launcher_hook.leangrpc import grpc
from launcher_hook.model import HostSource
from launcher_hook.proto import deviceplugin_v1beta1 as api
from launcher_hook.rpc import log, rpc_service

SERVICE = "v1beta1.DevicePlugin"

OPTIONS = api.DevicePluginOptions(get_preferred_allocation_available=True)

MOST_STREAMS = 2
"""ListAndWatch calls kept open: kubelet has one, and for a moment the one before it. Each holds a
thread of the server, which Allocate needs; an older one is ended."""

CALLS = 3
"""Answered at once."""

WORKERS = MOST_STREAMS + CALLS + SPARE_THREADS


@dataclass(slots=True, eq=False)
class _Stream:
    """One open ListAndWatch call; two are never equal, or one would be taken off for another."""

    ended: bool = False


class DeviceList:
    """A resource's devices, for Allocate and for whoever follows them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._devices: Mapping[str, Device] = {}
        self._shown: list[tuple[HostSource, bool, int | None]] | None = None
        self._message: bytes | None = None
        self._version = 0
        self._streams: list[_Stream] = []

    @property
    def devices(self) -> Mapping[str, Device]:
        """By id, in order."""
        return self._devices

    @property
    def followers(self) -> int:
        """How many ListAndWatch calls are open."""
        return len(self._streams)

    def publish(self, devices: Sequence[Device]) -> None:
        """Replace the list; who follows it is told only if kubelet would see a difference."""
        shown = [(d.source, d.trouble is None, d.numa_node) for d in devices]
        by_id = {device.id: device for device in devices}
        with self._changed:
            self._devices = by_id
            if shown != self._shown:
                self._shown, self._message = shown, None
                self._version += 1
                self._changed.notify_all()

    def follow(self, context: grpc.ServicerContext) -> Generator[bytes, None, None]:
        """Give the list now and whenever it changes, until the call or the server ends."""
        stream = _Stream()
        with self._changed:
            self._streams.append(stream)
            for old in self._streams[:-MOST_STREAMS]:
                old.ended = True
            self._changed.notify_all()
        try:
            if not context.add_callback(lambda: self._end(stream)):
                return
            sent = 0
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: stream.ended or self._version != sent)  # noqa: B023
                    # One that has to make way is given the list first, which it has asked for.
                    if stream.ended and (sent or not self._version):
                        return
                    sent, message = self._version, self._encoded()
                yield message
        finally:
            with self._changed:
                self._streams.remove(stream)

    def end_streams(self) -> None:
        """End every call that follows the list."""
        with self._changed:
            for stream in self._streams:
                stream.ended = True
            self._changed.notify_all()

    def _encoded(self) -> bytes:
        """The list for the wire: made when it is asked for, 0.1 s for 4,096 devices."""
        if self._message is None:
            self._message = _message(list(self._devices.values()))
        return self._message

    def _end(self, stream: _Stream) -> None:
        with self._changed:
            stream.ended = True
            self._changed.notify_all()


def _message(devices: Sequence[Device]) -> bytes:
    return api.ListAndWatchResponse(devices=map(_describe, devices)).encode()


def _describe(device: Device) -> api.Device:
    numa_node = device.numa_node
    return api.Device(
        ID=device.id,
        health="Healthy" if device.trouble is None else "Unhealthy",
        topology=None if numa_node is None else api.TopologyInfo([api.NUMANode(ID=numa_node)]),
    )


def plugin_handlers(
    resource: str, devices: DeviceList, node: Node, tally: Tally
) -> list[grpc.GenericRpcHandler]:
    """Give the service of one resource."""

    def allocate_devices(request: api.AllocateRequest) -> api.AllocateResponse:
        start = time.monotonic()
        asked = [container.devices_ids for container in request.container_requests]
        try:
            given = allocate(asked, resource, devices.devices, node.present, node.nodes.exists)
        except HookError as error:
            tally.allocated(resource, time.monotonic() - start, "refused")
            log.error("%s", error, extra={"resource": resource, "devices": _flat(asked)})
            raise
        duration_s = time.monotonic() - start
        tally.allocated(resource, duration_s, "given")
        log.info(
            "allocated",
            extra={
                "resource": resource,
                "devices": [f"{k}={v}" for c in given for k, v in c.variables.items()],
                "duration_ms": round(duration_s * 1000, 2),
            },
        )
        return api.AllocateResponse(map(_container, given))

    def prefer_devices(
        request: api.PreferredAllocationRequest,
    ) -> api.PreferredAllocationResponse:
        return api.PreferredAllocationResponse(
            api.ContainerPreferredAllocationResponse(
                prefer(
                    container.available_deviceIDs,
                    container.must_include_deviceIDs,
                    container.allocation_size,
                    devices.devices,
                )
            )
            for container in request.container_requests
        )

    answers: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "GetDevicePluginOptions": (api.Empty, lambda _: OPTIONS),
        "GetPreferredAllocation": (api.PreferredAllocationRequest, prefer_devices),
        "Allocate": (api.AllocateRequest, allocate_devices),
        "PreStartContainer": (
            api.PreStartContainerRequest,
            lambda _: api.PreStartContainerResponse(),
        ),
    }
    slots = CallSlots(CALLS)
    return [rpc_service(SERVICE, answers, slots, {"ListAndWatch": devices.follow})]


def _container(given: ContainerDevices) -> api.ContainerAllocateResponse:
    return api.ContainerAllocateResponse(
        envs=given.variables,
        devices=[api.DeviceSpec(f"/dev/{path}", f"/dev/{path}", "mrw") for path in given.nodes],
    )


def _flat(asked: Sequence[Sequence[str]]) -> list[str]:
    return [device_id for ids in asked for device_id in ids]
