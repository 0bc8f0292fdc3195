"""The plugin's life: look at the node, serve each resource, tell kubelet; again on each change.

One thread does all of it, level-triggered: whatever woke it, it compares what is with what should
be, for each resource apart, and mends the difference. So nothing depends on an event that was
missed, and a resource with trouble waits for its own next try while the others go on.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from launcher_hook.deviceplugin.devices import Device, Inventory
from launcher_hook.deviceplugin.metrics import Tally
from launcher_hook.deviceplugin.names import name_socket
from launcher_hook.deviceplugin.registration import KUBELET_SOCKET, Identity, identify
from launcher_hook.deviceplugin.resourceserver import ResourceServer
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.watch import Watch
from launcher_hook.devnodes import DIRECTORIES, NodeTree
from launcher_hook.errors import HookError, HostError

log = logging.getLogger("launcher-hook")

GRACE_S = 1.0
"""For calls under way at the end: we are gone two seconds after we were told."""

_SETTLE_S = 0.05
"""After a change below /dev: a group's nodes come one by one."""

_BLIND_S = 1.0
"""How often to look where nothing can be watched."""

_MOST_LINES = 20
"""Devices named one by one in the log, a rescan; `discover` names them all."""


class DevicePlugin:
    """Serves all that a node has; ``run`` is its one thread."""

    def __init__(
        self, node: Node, kubelet_dir: Path, rescan_s: float, tally: Tally, ended: threading.Event
    ) -> None:
        self.beat = time.monotonic()
        self._node = node
        self._kubelet_dir = kubelet_dir
        self._rescan_s = rescan_s
        self._tally = tally
        self._watch = Watch()
        self._ended = ended
        self._inventory = Inventory()
        self._servers: dict[str, ResourceServer] = {}
        self._next_scan = 0.0
        self._kubelet: Identity | None = None
        self._complaint = ""

    def is_alive(self) -> bool:
        """Whether the loop goes round: it does at each rescan, and a call to kubelet ends."""
        return time.monotonic() - self.beat < 2 * self._rescan_s + 60

    def run(self) -> None:
        """Serve until the event is set; then no socket is left."""
        waker = threading.Thread(target=self._wake_at_end, name="end", daemon=True)
        waker.start()
        try:
            while not self._ended.is_set():
                if self._watch.keep(self._directories()):
                    # Nobody has seen what is in a new directory.
                    self._begin_anew()
                    self._next_scan = min(self._next_scan, time.monotonic())
                if time.monotonic() >= self._next_scan:
                    self._rescan()
                self._tend()
                self.beat = time.monotonic()
                self._watch.wait(self._until_next() - self.beat, self._note_change)
        finally:
            for finish in [server.stop(GRACE_S) for server in self._servers.values()]:
                finish()
            if self._ended.is_set():
                waker.join()  # not to write into a descriptor that is somebody else's by then
            self._watch.close()
            log.info("ended")

    def _wake_at_end(self) -> None:
        self._ended.wait()
        self._watch.wake()

    def _directories(self) -> list[Path]:
        directories = [self._kubelet_dir]
        if isinstance(self._node.nodes, NodeTree):
            root = self._node.nodes.root
            directories += [root, *(root / name for name in DIRECTORIES)]
        return directories

    def _note_change(self, directory: Path, names: Collection[str]) -> None:
        if directory == self._kubelet_dir:
            for server in self._servers.values():
                if not names or server.endpoint in names:
                    server.begin_anew()  # ours has gone, or the one that was in its way
            return
        root = isinstance(self._node.nodes, NodeTree) and directory == self._node.nodes.root
        if not root or not names or {"vfio", "iommu"} & set(names):
            self._next_scan = min(self._next_scan, time.monotonic() + _SETTLE_S)

    def _until_next(self) -> float:
        times = [self._next_scan]
        times += [s.retry_at for s in self._servers.values() if s.retry_at is not None]
        if self._watch.is_blind or not self._kubelet_dir.is_dir():
            times.append(self.beat + _BLIND_S)
        return min(times)

    def _begin_anew(self) -> None:
        for server in self._servers.values():
            server.begin_anew()

    def _tend(self) -> None:
        kubelet = identify(self._kubelet_dir / KUBELET_SOCKET)
        if kubelet != self._kubelet:
            self._kubelet = kubelet
            log.info("kubelet is there" if kubelet else "kubelet's socket is gone")
            self._begin_anew()
        for server in self._servers.values():
            if self._ended.is_set():
                return
            server.tend(kubelet, self._ended)
            self.beat = time.monotonic()

    def _rescan(self) -> None:
        start = time.monotonic()
        try:
            inventory = self._look()
        except HookError as error:
            self._tally.rescanned("failed")
            if str(error) != self._complaint:
                log.error("%s", error)
            self._complaint = str(error)
        else:
            self._tally.rescanned("done")
            self._complaint = ""
            self._take(inventory)
        for server in self._servers.values():
            if server.is_forgotten(self._rescan_s):
                server.tell_again()
        self._next_scan = start + self._rescan_s

    def _look(self) -> Inventory:
        host = self._node.host
        if not host.known:
            raise HostError(
                "the node", "there is no bus/pci/devices below its /sys", "give it by --sysfs"
            )
        return self._node.take_inventory(self._inventory)

    def _take(self, inventory: Inventory) -> None:
        before, self._inventory = self._inventory, inventory
        for resource in inventory.resources:
            if resource not in self._servers:
                taken = {server.endpoint for server in self._servers.values()}
                endpoint = name_socket(resource, self._kubelet_dir, taken)
                self._servers[resource] = ResourceServer(
                    resource, self._kubelet_dir, endpoint, self._node, self._tally
                )
        for resource, server in self._servers.items():
            server.devices.publish(inventory.resources.get(resource, ()))
        report_changes(before, inventory)
        self._tally.count_devices(inventory)


def report_changes(before: Inventory, after: Inventory) -> None:
    """Log what is new: resources with their numbers, devices that came, went or changed."""
    old = {device.source: device.trouble for device in before.devices()}
    for resource in sorted(before.resources.keys() | after.resources.keys()):
        devices = after.resources.get(resource, ())
        sources = [device.source for device in devices]
        if sources != [device.source for device in before.resources.get(resource, ())]:
            healthy = sum(device.trouble is None for device in devices)
            extra = {"resource": resource, "devices": [d.id for d in devices[:_MOST_LINES]]}
            log.info("offering %d, %d of them healthy", len(devices), healthy, extra=extra)
    lines: list[Callable[[], None]] = []
    for device in after.devices():
        if device.trouble != old.get(device.source):
            lines.append(lambda d=device: _report_health(d))  # type: ignore[misc]
    whys = {unoffered.source: unoffered.why for unoffered in before.unoffered}
    for unoffered in after.unoffered:
        if unoffered.selected and whys.get(unoffered.source) != unoffered.why:
            lines.append(lambda u=unoffered: log.warning("%s is not offered: %s", u.source, u.why))  # type: ignore[misc]
    for warning in after.warnings:
        if warning not in before.warnings:
            lines.append(lambda w=warning: log.warning("%s", w))  # type: ignore[misc]
    for line in lines[:_MOST_LINES]:
        line()
    if len(lines) > _MOST_LINES:
        log.warning("and %d more; `launcher-hook discover` has them", len(lines) - _MOST_LINES)


def _report_health(device: Device) -> None:
    if device.trouble is None:
        log.info("%s is healthy", device.id, extra={"resource": device.resource})
    else:
        log.warning("%s: %s", device.id, device.trouble, extra={"resource": device.resource})


def serve_device_plugin(
    node: Node,
    kubelet_dir: Path,
    rescan_s: float,
    ended: threading.Event,
    metrics: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        node: What to offer.
        kubelet_dir: Kubelet's plugin directory.
        rescan_s: Seconds between two looks at everything.
        ended: What the signals set.
        metrics: Address for ``/metrics`` and ``/healthz``, ``HOST:PORT``; None for none.

    Raises:
        HookError: It cannot start.
    """
    for where, resource in node.selection.left_to_kubevirt():
        log.info(
            "%s has no 'externalResourceProvider: true': left to KubeVirt's virt-handler",
            where,
            extra={"resource": resource},
        )
    tally = Tally()
    plugin = DevicePlugin(node, kubelet_dir, rescan_s, tally, ended)
    if metrics is None:
        plugin.run()
        return
    from launcher_hook.deviceplugin.endpoint import MetricsEndpoint

    endpoint = MetricsEndpoint(metrics, tally, plugin.is_alive)
    log.info("metrics on port %d", endpoint.port)
    try:
        plugin.run()
    finally:
        endpoint.close()
