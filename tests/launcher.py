"""Does to a hook sidecar what virt-launcher does: scan, Info, a dial for each call, Shutdown."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from launcher_hook.proto import hooks_info, hooks_plugins_v1alpha1, hooks_v1alpha3

COMMAND = str(Path(sys.executable).with_name("launcher-hook"))
START_S = 60  # wide: a slow machine is no wrong result


@dataclass(frozen=True)
class Hook:
    """A sidecar as a launcher knows it after Collect."""

    socket: Path
    version: str
    points: frozenset[str]


class Launcher:
    """Goes through a boot as virt-launcher does (kubevirt pkg/hooks/manager.go).

    Args:
        root: ``/var/run/kubevirt-hooks`` of the compute container, a directory a sidecar.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.hooks: list[Hook] = []

    def collect(self, count: int, timeout_s: float = START_S, info_timeout_s: float = 1) -> None:
        """Scan every 300 ms until there are sockets of as many names, and ask each for its Info.

        One that is there and does not answer within a second is the end of a launcher; here a
        slow machine gets a second try.

        Args:
            count: Sidecars to wait for.
            timeout_s: Until all of them have a socket.
            info_timeout_s: For the Info of one; an emulated machine has a launcher's second no use.
        """
        deadline = time.monotonic() + timeout_s
        found: dict[str, Path] = {}
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} sidecars are there"
            found = {path.name: path for path in self._root.glob("*/*")}
            time.sleep(0.3)
        for path in found.values():
            info = _twice(lambda path=path: ask_info(path, info_timeout_s))
            known = [version for version in info.versions if version.startswith("v1alpha")]
            points = frozenset(point.name for point in info.hookPoints)
            self.hooks.append(Hook(path, max(known), points))

    def on_define_domain(self, domain: bytes, vmi: bytes) -> bytes:
        """Hand the domain from sidecar to sidecar."""
        for hook in self.hooks:
            if "OnDefineDomain" in hook.points:
                domain = ask_define(hook.socket, domain, vmi, hook.version)
        return domain

    def shut_down(self) -> None:
        """Tell the sidecars that QEMU has ended."""
        for hook in self.hooks:
            if hook.version == "v1alpha3" and "Shutdown" in hook.points:
                ask_shutdown(hook.socket)


def _twice(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
        return ask()


def ask_info(path: Path, timeout_s: float = 60) -> Any:
    # A launcher waits for the connection: between bind and listen there is one that is refused.
    return call(path, "kubevirt.hooks.info.Info/Info", hooks_info.InfoParams(),
                hooks_info.InfoResult, timeout_s, wait_for_ready=True)  # fmt: skip


def ask_define(
    path: Path, domain: bytes, vmi: bytes, version: str = "v1alpha3", timeout_s: float = 60
) -> bytes:
    request = hooks_v1alpha3.OnDefineDomainParams(domainXML=domain, vmi=vmi)
    method = f"kubevirt.hooks.{version}.Callbacks/OnDefineDomain"
    answer = call(path, method, request, hooks_v1alpha3.OnDefineDomainResult, timeout_s)
    return bytes(answer.domainXML)


def ask_shutdown(path: Path) -> None:
    call(path, "kubevirt.hooks.v1alpha3.Callbacks/Shutdown",
         hooks_v1alpha3.ShutdownParams(), hooks_v1alpha3.ShutdownResult)  # fmt: skip


@dataclass
class Sidecar:
    """A running hook process and the directory that the launcher scans."""

    process: subprocess.Popen[str]
    directory: Path
    log: Path
    container: str = "hook-sidecar-0"

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.container}.sock"

    def info(self) -> Any:
        return ask_info(self.socket)

    def define(self, domain: bytes, vmi: bytes = b"", version: str = "v1alpha3") -> bytes:
        return ask_define(self.socket, domain, vmi, version)

    def shut_down(self) -> None:
        ask_shutdown(self.socket)

    def terminate(self) -> int:
        """Send SIGTERM and give the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def pid(self) -> int:
        """The server's own, also where a command such as ``unshare`` stands above it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0]) if children else self.process.pid

    def kill(self) -> int | None:
        """kill -9; when its socket was made, if it was."""
        self.process.kill()
        self.process.wait()
        return self._made_at()

    def _made_at(self) -> int | None:
        """When its socket was made; None without one. It may go at any moment: a stale one does."""
        try:
            return self.socket.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def wait_for_socket(self, stale: int | None = None, poll_s: float = 0.02) -> None:
        deadline = time.monotonic() + START_S
        while self._made_at() in (None, stale):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "no socket"
            time.sleep(poll_s)
        while not _is_heard(self.socket):
            assert self.process.poll() is None, self.log.read_text()


def _is_heard(path: Path) -> bool:
    """Whether somebody listens on a socket that has just been bound."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def call(
    path: Path,
    method: str,
    request: Any,
    answer: Any,
    timeout_s: float = 60,
    wait_for_ready: bool = False,
) -> Any:
    """Dial anew, as the launcher does for every call."""
    with grpc.insecure_channel(f"unix:{path}") as channel:
        invoke = channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.encode(),
            response_deserializer=answer.decode,
        )
        return invoke(request, timeout=timeout_s, wait_for_ready=wait_for_ready)


@dataclass(frozen=True)
class PluginCall:
    """How a KubeVirt calls a plugin, spelt out here once more: the wire is what counts."""

    method: str
    request: Any
    response: Any
    context: Any


PLUGIN_CALLS = {
    "1.9": PluginCall(
        "kubevirt.hooks.plugins.v1alpha1.DomainHookService/MutateDomain",
        hooks_plugins_v1alpha1.MutateDomainRequest,
        hooks_plugins_v1alpha1.MutateDomainResponse,
        hooks_plugins_v1alpha1.SidecarContext,
    ),
}


def mutate(
    path: Path, domain: bytes, vmi: bytes, context: str = "Boot", version: str = "1.9"
) -> bytes:
    """The plugin API's one call, as that KubeVirt makes it."""
    names = PLUGIN_CALLS[version]
    request = names.request(
        domain_type="libvirt",
        domain=domain,
        vmi=vmi,
        sidecar_context=names.context(invocation_context=context),
    )
    return bytes(call(path, names.method, request, names.response).domain)


@contextmanager
def running_sidecar(
    *arguments: str | Path,
    directory: Path | None = None,
    stale: int | None = None,
    container: str = "hook-sidecar-0",
    prefix: Sequence[str] = (),
    wait: bool = True,
    poll_s: float = 0.02,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Sidecar]:
    """Start the hook, wait for its socket as Collect does, and end it whatever happens.

    Args:
        arguments: Of ``launcher-hook serve``.
        directory: The socket's; a new one if there is none.
        container: Its name, which is the socket's.
        prefix: What stands before the command, such as ``unshare``.
        wait: Whether the socket is there before this returns.
        poll_s: How often it is looked for.
        variables: More of its environment.
        stale: Time (st_mtime_ns) of a socket that a predecessor has left there.
    """
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        hooks = directory or Path(scratch) / "hooks"
        hooks.mkdir(exist_ok=True)
        log = Path(scratch) / "log"
        environ = {k: v for k, v in os.environ.items() if "PCI_RESOURCE" not in k}
        environ |= {"CONTAINER_NAME": container, **(variables or {})}
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*prefix, COMMAND, "serve", "--socket-dir", str(hooks), *map(str, arguments)],
                stderr=stderr, stdin=subprocess.DEVNULL, env=environ, text=True,
            )  # fmt: skip
        sidecar = Sidecar(process, hooks, log, container)
        try:
            if wait:
                sidecar.wait_for_socket(stale, poll_s)
            yield sidecar
        finally:
            process.kill()
            process.wait()
