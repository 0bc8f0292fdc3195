"""`make bench`, second part: the device plugin, beside NVIDIA's.

On a generated ``/sys`` with symlinked devices, as a real one has. NVIDIA's figures are those of
kubevirt-gpu-device-plugin (Go), measured once on another day. The machine's speed on this day
shows in two lines: what reading three attributes and two links of each function costs in Python
alone, and an empty call between a client and a server in Python.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from hosttree import HostDevice, build_host_tree, many_devices, quick_directory
from kubelet import Kubelet, Plugin, make_nodes, running_plugin
from processmemory import peak_bytes

from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import select_by_vendor
from launcher_hook.devnodes import NodeTree
from launcher_hook.pciids import load_names
from launcher_hook.proto import deviceplugin_v1beta1 as api
from launcher_hook.sysfs import HostTree

SIZES = (8, 512, 4096)
PCI_IDS = "10de  NVIDIA Corporation\n\t2330  GH100 [H100 SXM5 80GB]\n"
RESOURCE = "nvidia.com/GH100_H100_SXM5_80GB"
ROUNDS = float(os.environ.get("BENCH_ROUNDS", "1"))  # 0.05 for a look, 1 for the README
RESTARTS, CALLS = max(int(1000 * ROUNDS), 10), max(int(5000 * ROUNDS), 50)


def main() -> int:
    print(f"{'device plugin':44} {'here':>9} {'NVIDIA':>9} {'goal':>9}")
    with quick_directory() as directory:
        nodes = {size: make_node(directory / str(size), many_devices(size)) for size in SIZES}
        few = [
            d if n % 8 == 0 else replace(d, vendor=0x8086) for n, d in enumerate(many_devices(4096))
        ]
        eighth = make_node(directory / "eighth", few)
        show("bare reads, N = 4096, ms", milliseconds(lambda: bare_reads(nodes[4096]), 5), "", "")
        for size, theirs, goal in zip(
            SIZES, ("0.13", "11.5", "96"), ("0.5", "11", "90"), strict=True
        ):
            show(f"discovery, N = {size}, ms", discovery(nodes[size]), theirs, goal)
        show("discovery, 1 of 8 matches, N = 4096, ms", discovery(eighth), "43", "43")
        for size, theirs, goal in zip(
            SIZES, ("21", "123", "580"), ("120", "140", "350"), strict=True
        ):
            show(f"exec to Register, N = {size}, ms", start_up(nodes[size]), theirs, goal)
        with running(nodes[8]) as plugin:
            plugin.kubelet.wait_for_resource(RESOURCE, 8)
            plugin.settle()
            before = holdings(plugin)
            show("kubelet restart to registered, ms", restart(plugin), "1.2", "50")
            show("an empty call over gRPC, ms", empty_call(plugin), "", "")
            show("Allocate over gRPC, 1 device, ms", allocate(plugin, 1), "0.12", "0.4")
            show("Allocate over gRPC, 8 devices, ms", allocate(plugin, 8), "0.18", "0.6")
            plugin.settle()
            print(
                f"descriptors, threads, sockets: {before} before and {holdings(plugin)} after "
                f"{RESTARTS} kubelet restarts and {2 * CALLS} Allocates"
            )
        with running(nodes[4096]) as plugin:
            plugin.kubelet.wait_for_resource(RESOURCE, 4096)
            show("peak RSS, N = 4096, MB", peak_bytes(plugin.pid) / 1e6, "21-23", "60")
    return 0


def show(what: str, value: float, theirs: str, goal: str) -> None:
    print(f"{what:44} {value:9.2f} {theirs:>9} {goal:>9}", flush=True)


def make_node(directory: Path, devices: "list[HostDevice] | tuple[HostDevice, ...]") -> Path:
    build_host_tree(directory / "sys", devices)
    make_nodes(directory / "dev", range(len(devices)))
    (directory / "pci.ids").write_text(PCI_IDS)
    return directory


def running(node: Path, kubelet: Kubelet | None = None):  # type: ignore[no-untyped-def]
    return running_plugin(
        node / "sys", node / "dev", "--pci-ids", node / "pci.ids", kubelet=kubelet
    )


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    times = []
    run()
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def bare_reads(node: Path) -> None:
    devices = f"{node}/sys/bus/pci/devices"
    for name in os.listdir(devices):  # noqa: PTH208 - no Path each
        directory = os.open(f"{devices}/{name}", os.O_RDONLY | os.O_DIRECTORY)
        for attribute in ("vendor", "device", "numa_node"):
            file = os.open(attribute, os.O_RDONLY, dir_fd=directory)
            os.read(file, 64)
            os.close(file)
        for link in ("driver", "iommu_group"):
            os.readlink(link, dir_fd=directory)
        os.close(directory)


def discovery(node: Path) -> float:
    names = load_names(node / "pci.ids")
    selection = select_by_vendor({0x10DE: "nvidia.com"}, ("03",))
    tree = Node(HostTree(node / "sys"), NodeTree(node / "dev"), selection, names.device_name)
    return milliseconds(tree.take_inventory, 9)


def start_up(node: Path) -> float:
    """From exec to the call of Register, with a kubelet that is there."""
    times = []
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        kubelet = Kubelet(Path(scratch) / "k")
        kubelet.start()
        for _ in range(7):
            kubelet.registrations.clear()
            start = time.perf_counter()
            with running(node, kubelet) as plugin:
                kubelet.wait_for(lambda: kubelet.registrations)
                times.append((time.perf_counter() - start) * 1000)
                plugin.process.send_signal(signal.SIGTERM)
                plugin.process.wait()
        kubelet.stop()
    return median(times)


def holdings(plugin: Plugin) -> tuple[int, int, int]:
    return (plugin.descriptors(), plugin.threads(), len(plugin.sockets()))


def restart(plugin: Plugin) -> float:
    """From a kubelet that listens to its having been told."""
    times = []
    kubelet = plugin.kubelet
    for _ in range(RESTARTS):
        kubelet.stop()
        kubelet.registrations.clear()
        kubelet.start()
        start = time.perf_counter()
        kubelet.wait_for(lambda: kubelet.registrations)
        times.append((time.perf_counter() - start) * 1000)
        kubelet.wait_for_resource(RESOURCE, 8)
    return median(times)


def empty_call(plugin: Plugin) -> float:
    """What client and server take in Python before anything is done."""
    options = api.DevicePluginOptions
    return milliseconds(
        lambda: plugin.kubelet.invoke(RESOURCE, "GetDevicePluginOptions", api.Empty(), options),
        CALLS,
    )


def allocate(plugin: Plugin, count: int) -> float:
    ids = sorted(plugin.kubelet.endpoints[RESOURCE].devices)[:count]
    return milliseconds(lambda: plugin.kubelet.allocate(RESOURCE, ids), CALLS)


if __name__ == "__main__":
    sys.exit(main())
