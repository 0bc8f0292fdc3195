"""Does to a device plugin what kubelet does: serve Registration, dial back, follow, allocate, die.

From kubernetes pkg/kubelet/cm/devicemanager (plugin/v1beta1/server.go, client.go, manager.go): at
start everything in the directory but directories and the checkpoint is removed, then the socket is
made; Register dials the plugin before it answers; ListAndWatch is held open; device ids go to
Allocate in the order of a Go map, which is none.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from launcher_hook.proto import deviceplugin_v1beta1 as api

COMMAND = str(Path(sys.executable).with_name("launcher-hook"))
WAIT_S = 60  # wide: a slow machine is no wrong result
CHECKPOINT = "kubelet_internal_checkpoint"


@dataclass
class Endpoint:
    """A registered plugin, and what its ListAndWatch has said last."""

    resource: str
    socket: str
    options: api.DevicePluginOptions
    channel: Any
    devices: dict[str, api.Device] = field(default_factory=dict)
    lists: int = 0
    call: Any = None

    def health(self) -> dict[str, str]:
        return {name: device.health for name, device in self.devices.items()}

    def numa(self) -> dict[str, list[int]]:
        return {
            name: [] if device.topology is None else [node.ID for node in device.topology.nodes]
            for name, device in self.devices.items()
        }


class Kubelet:
    """A kubelet's device manager on a directory; ``start`` and ``stop`` as often as wanted."""

    def __init__(self, directory: Path, seed: int = 0) -> None:
        self.directory = directory
        self.endpoints: dict[str, Endpoint] = {}
        self.registrations: list[str] = []
        self.refuse: Callable[[api.RegisterRequest], str | None] = lambda _: None
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._server: Any = None

    def start(self) -> None:
        """Remove every socket, then serve, as a kubelet that comes up."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if not path.is_dir() and path.name != CHECKPOINT:
                path.unlink(missing_ok=True)
        self.serve()

    def serve(self) -> None:
        """Make the socket and answer on it."""
        self._server = grpc.server(ThreadPoolExecutor(4, "kubelet"))
        handler = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=api.RegisterRequest.decode,
            response_serializer=api.Empty.encode,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),)
        )
        self._server.add_insecure_port(f"unix:{self.directory}/kubelet.sock")
        self._server.start()

    def stop(self) -> None:
        """Go, as a kubelet that is ended: its calls break off."""
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None
        with self._changed:
            endpoints, self.endpoints = self.endpoints, {}
        for endpoint in endpoints.values():
            endpoint.call.cancel()
            endpoint.channel.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until something is so that only our own events can change."""
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), what or "it did not come to be"

    def wait_for_resource(self, resource: str, devices: int | None = None) -> Endpoint:
        """Wait until a resource is registered and its list has come."""

        def there() -> bool:
            endpoint = self.endpoints.get(resource)
            if endpoint is None or not endpoint.lists:
                return False
            return devices is None or len(endpoint.devices) == devices

        self.wait_for(there, f"{resource} did not come")
        return self.endpoints[resource]

    def allocate(
        self, resource: "str | Endpoint", *containers: Iterable[str]
    ) -> list[api.ContainerAllocateResponse]:
        """Allocate for one pod: the ids of each container, in no order."""
        requests = []
        for ids in containers:
            shuffled = list(ids)
            self._random.shuffle(shuffled)
            requests.append(api.ContainerAllocateRequest(shuffled))
        answer = self.invoke(
            resource, "Allocate", api.AllocateRequest(requests), api.AllocateResponse
        )
        return list(answer.container_responses)

    def follow(self, endpoint: Endpoint) -> Any:
        """Open a ListAndWatch."""
        invoke = endpoint.channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=api.Empty.encode,
            response_deserializer=api.ListAndWatchResponse.decode,
        )
        return invoke(api.Empty())

    def prefer(
        self, resource: str, available: Sequence[str], must: Sequence[str], size: int
    ) -> list[str]:
        shuffled = list(available)
        self._random.shuffle(shuffled)
        request = api.PreferredAllocationRequest(
            [api.ContainerPreferredAllocationRequest(shuffled, must, size)]
        )
        answer = self.invoke(
            resource, "GetPreferredAllocation", request, api.PreferredAllocationResponse
        )
        return list(answer.container_responses[0].deviceIDs)

    def invoke(self, resource: "str | Endpoint", method: str, request: Any, answer: Any) -> Any:
        """Call a method of the plugin that serves a resource."""
        endpoint = resource if isinstance(resource, Endpoint) else self.endpoints[resource]
        call = endpoint.channel.unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=lambda message: message.encode(),
            response_deserializer=answer.decode,
        )
        return call(request, timeout=WAIT_S)

    def _register(self, request: api.RegisterRequest, context: Any) -> api.Empty:
        refusal = self.refuse(request)
        if request.version != "v1beta1":
            refusal = f"the version {request.version!r} is not supported"
        if "/" not in request.resource_name:
            refusal = f"the ResourceName {request.resource_name!r} is invalid"
        with self._changed:
            self.registrations.append(request.resource_name)
            self._changed.notify_all()
        if refusal is not None:
            context.abort(grpc.StatusCode.UNKNOWN, refusal)
        channel = grpc.insecure_channel(
            f"unix:{self.directory}/{request.endpoint}",
            options=(("grpc.use_local_subchannel_pool", 1),),
        )
        grpc.channel_ready_future(channel).result(timeout=10)
        options = request.options or api.DevicePluginOptions()
        endpoint = Endpoint(request.resource_name, request.endpoint, options, channel)
        endpoint.call = self.follow(endpoint)
        with self._changed:
            old = self.endpoints.get(request.resource_name)
            self.endpoints[request.resource_name] = endpoint
            self._changed.notify_all()
        if old is not None:
            old.call.cancel()
            old.channel.close()
        threading.Thread(target=self._follow, args=(endpoint,), daemon=True).start()
        return api.Empty()

    def _follow(self, endpoint: Endpoint) -> None:
        try:
            for message in endpoint.call:
                with self._changed:
                    endpoint.devices = {device.ID: device for device in message.devices}
                    endpoint.lists += 1
                    self._changed.notify_all()
        except (grpc.RpcError, ValueError):
            pass
        with self._changed:
            if self.endpoints.get(endpoint.resource) is endpoint:
                del self.endpoints[endpoint.resource]  # kubelet: all its devices are unhealthy
            self._changed.notify_all()


@dataclass
class Plugin:
    """A running device plugin, the node that it looks at and kubelet's directory."""

    process: "subprocess.Popen[str]"
    kubelet: Kubelet
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def sockets(self) -> list[str]:
        return sorted(p.name for p in self.kubelet.directory.iterdir() if p.name != "kubelet.sock")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def settle(self) -> None:
        """Wait until no thread or descriptor has come or gone for a while."""
        deadline, same = time.monotonic() + WAIT_S, 0
        before = None
        while same < 10 and time.monotonic() < deadline:
            now = (self.descriptors(), self.threads())
            same = same + 1 if now == before else 0
            before = now
            time.sleep(0.05)

    def wait_for_log(self, text: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{text!r} not in:\n{self.log.read_text()}"
            time.sleep(0.02)


def make_nodes(dev: Path, groups: Iterable[int] = (), cdevs: Iterable[str] = ()) -> Path:
    """A ``/dev`` with vfio's nodes in it; they need not be devices to be seen."""
    (dev / "vfio").mkdir(parents=True, exist_ok=True)
    for name in ("vfio", *map(str, groups)):
        (dev / "vfio" / name).touch()
    for name in cdevs:
        (dev / "iommu").touch()
        (dev / "vfio/devices").mkdir(exist_ok=True)
        (dev / "vfio/devices" / name).touch()
    return dev


@contextmanager
def waiting_kubelet() -> Iterator[Kubelet]:
    """One that does not run yet, and whose directory is not there."""
    scratch = Path(tempfile.mkdtemp(prefix="lh", dir="/tmp"))  # short: a socket's path
    made = Kubelet(scratch / "k")
    yield made
    made.stop()
    shutil.rmtree(scratch)


@contextmanager
def running_plugin(
    sysfs: Path,
    dev: Path | None,
    *arguments: str | Path,
    kubelet: Kubelet | None = None,
    under: Sequence[str] = (),
) -> Iterator[Plugin]:
    """Start the plugin, with a kubelet if none is given, and end it whatever happens.

    Args:
        sysfs: A node's ``/sys``, or a snapshot.
        dev: Its ``/dev``; None for the snapshot's own.
        arguments: More of ``launcher-hook device-plugin``.
        kubelet: Whose directory it is; a new one, which runs, if there is none.
        under: A command that runs ours.
    """
    scratch = Path(tempfile.mkdtemp(prefix="lh", dir="/tmp"))  # short: a socket's path
    own = kubelet is None
    kubelet = kubelet or Kubelet(scratch / "k")
    log = scratch / "log"
    try:
        if own:
            kubelet.start()
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*under, COMMAND, "device-plugin", "--kubelet-dir", str(kubelet.directory),
                 "--sysfs", str(sysfs), *(["--dev", str(dev)] if dev else []),
                 *map(str, arguments)],
                stderr=stderr, stdin=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        try:
            yield Plugin(process, kubelet, log)
        finally:
            process.kill()
            process.wait()
    finally:
        if own:
            kubelet.stop()
        shutil.rmtree(scratch, ignore_errors=True)
