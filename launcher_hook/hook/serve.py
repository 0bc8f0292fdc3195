"""Start-up and end of the hook sidecar: everything is loaded and tried before the socket is there.

virt-launcher looks for sockets every 300 ms, and panics when one that it sees does not answer
within a second (kubevirt pkg/hooks/manager.go, Collect).
"""

import gc
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher_hook.callslots import SPARE_THREADS
from launcher_hook.domain.document import MAX_DOMAIN_BYTES
from launcher_hook.errors import InputError
from launcher_hook.hook.call import DomainHook, HookOptions, log
from launcher_hook.hook.services import CALLS, VERSIONS, hook_handlers, plugin_handlers
from launcher_hook.hook.workers import OneCallThreads
from launcher_hook.schema import SchemaSet, load_schemas
from launcher_hook.unixserver import UnixServer, serving
from launcher_hook.vmi import MAX_VMI_BYTES

GRACE_S = 1.5
"""For a call under way at the end: the pod is gone two seconds after it was told."""

_WORKERS = CALLS + SPARE_THREADS

# A domain and a VMI as large as are taken, and what a message has besides.
_MOST_REQUEST_BYTES = MAX_DOMAIN_BYTES + MAX_VMI_BYTES + 64 * 1024

_QEMU = (107, 107)
"""User and group of virt-launcher and of every hook sidecar."""

_WARM_UP = b"""<domain type='kvm'><name>warm-up</name><memory>1</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<hostdev type='pci' managed='no'><source><address type='pci' domain='0x0000' bus='0x01' slot='0x00'
function='0x0'/></source><alias name='ua-gpu-warm-up'/></hostdev></devices></domain>"""


def serve_hook(
    socket_dir: Path | None,
    versions: Sequence[str],
    options: HookOptions,
    ended: threading.Event,
    plugin_socket: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Serve until the launcher says Shutdown or ``ended`` is set.

    Args:
        socket_dir: Where the launcher looks for this container's socket; None for no such socket.
        versions: Hook protocol versions to offer.
        options: For each call.
        ended: Set when the process is told to go.
        plugin_socket: Serve KubeVirt 1.9's plugin API here.
        environ: Has ``CONTAINER_NAME``, which names the socket.

    Raises:
        HookError: It cannot start; no socket is left behind.
    """
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise InputError(
            "--versions", f"{', '.join(unknown) or 'nothing'!r} is not known",
            f"write some of {','.join(VERSIONS)}",
        )  # fmt: skip
    schemas = load_schemas()
    hook = DomainHook(options, schemas)
    _warm_up(schemas)
    # The collector stays off: its looks in the middle of a call are a tenth of it, and after each
    # call there is one of ours.
    gc.freeze()
    name = environ.get("CONTAINER_NAME") or "launcher-hook"
    services = {}
    if plugin_socket is not None:
        services[plugin_socket] = plugin_handlers(hook)
    if socket_dir is not None:  # the launcher waits for hook sockets first: theirs is the last
        services[socket_dir / f"{name}.sock"] = hook_handlers(name, hook, versions, ended.set)
    servers = [
        UnixServer(socket, handlers, OneCallThreads(_WORKERS), _MOST_REQUEST_BYTES, _QEMU)
        for socket, handlers in services.items()
    ]
    if ended.is_set():
        return  # told to go while it was loading
    with serving(servers, GRACE_S):
        log.info("serving %s, checked against %s", " and ".join(map(str, services)), schemas.name)
        while not ended.wait(60):
            gc.collect()
    log.info("ended")


def _warm_up(schemas: SchemaSet) -> None:
    """Do one whole call, so that the first real one finds everything loaded."""
    quiet = DomainHook(HookOptions(sysfs=Path("/nonexistent")), schemas, dict)
    logging.disable()  # each logger's: the made-up device is nobody's
    try:
        quiet.define(_WARM_UP, b"")
    finally:
        logging.disable(logging.NOTSET)
