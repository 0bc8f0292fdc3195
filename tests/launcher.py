"""Does to a hook sidecar what virt-launcher does: scan, Info, a dial for each call, Shutdown."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from launcher_hook.proto import hooks_info, hooks_plugins_v1alpha1, hooks_v1alpha3

COMMAND = str(Path(sys.executable).with_name("launcher-hook"))
START_S = 60  # wide: a slow machine is no wrong result


@dataclass
class Sidecar:
    """A running hook process and the directory that the launcher scans."""

    process: subprocess.Popen[str]
    directory: Path
    log: Path

    @property
    def socket(self) -> Path:
        return self.directory / "hook-sidecar-0.sock"

    def info(self) -> Any:
        return call(self.socket, "kubevirt.hooks.info.Info/Info", hooks_info.InfoParams(),
                    hooks_info.InfoResult)  # fmt: skip

    def define(self, domain: bytes, vmi: bytes = b"", version: str = "v1alpha3") -> bytes:
        request = hooks_v1alpha3.OnDefineDomainParams(domainXML=domain, vmi=vmi)
        method = f"kubevirt.hooks.{version}.Callbacks/OnDefineDomain"
        answer = call(self.socket, method, request, hooks_v1alpha3.OnDefineDomainResult)
        return bytes(answer.domainXML)

    def shut_down(self) -> None:
        call(self.socket, "kubevirt.hooks.v1alpha3.Callbacks/Shutdown",
             hooks_v1alpha3.ShutdownParams(), hooks_v1alpha3.ShutdownResult)  # fmt: skip

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait_for_socket(self, stale: int | None = None) -> None:
        deadline = time.monotonic() + START_S
        while not self.socket.exists() or self.socket.stat().st_mtime_ns == stale:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "no socket"
            time.sleep(0.02)


def call(socket: Path, method: str, request: Any, answer: Any, timeout_s: float = 60) -> Any:
    """Dial anew, as the launcher does for every call."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        invoke = channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.encode(),
            response_deserializer=answer.decode,
        )
        return invoke(request, timeout=timeout_s)


def mutate(socket: Path, domain: bytes, vmi: bytes, context: str = "Boot") -> bytes:
    """The plugin API's one call."""
    messages = hooks_plugins_v1alpha1
    request = messages.MutateDomainRequest(
        domain_type="Domain",
        domain=domain,
        vmi=vmi,
        sidecar_context=messages.SidecarContext(invocation_context=context),
    )
    method = "kubevirt.hooks.plugins.v1alpha1.DomainHookService/MutateDomain"
    return bytes(call(socket, method, request, messages.MutateDomainResponse).domain)


@contextmanager
def running_sidecar(
    *arguments: str | Path, directory: Path | None = None, stale: int | None = None
) -> Iterator[Sidecar]:
    """Start the hook, wait for its socket as Collect does, and end it whatever happens.

    Args:
        arguments: Of ``launcher-hook serve``.
        directory: The socket's; a new one if there is none.
        stale: Time (st_mtime_ns) of a socket that a predecessor has left there.
    """
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        hooks = directory or Path(scratch) / "hooks"
        hooks.mkdir(exist_ok=True)
        log = Path(scratch) / "log"
        environ = {k: v for k, v in os.environ.items() if "PCI_RESOURCE" not in k}
        environ["CONTAINER_NAME"] = "hook-sidecar-0"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [COMMAND, "serve", "--socket-dir", str(hooks), *map(str, arguments)],
                stderr=stderr, stdin=subprocess.DEVNULL, env=environ, text=True,
            )  # fmt: skip
        sidecar = Sidecar(process, hooks, log)
        try:
            sidecar.wait_for_socket(stale)
            yield sidecar
        finally:
            process.kill()
            process.wait()
