"""`make bench`: the hook sidecar against its budgets, under the limits of its container.

A launcher gives a hook 64,000,000 bytes and 0.2 CPUs where the VM has dedicated CPUs or Guaranteed
QoS (../shared/kubevirt-contract.md, section 1). Each figure says under which limit it was taken.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parent.parent))

from cases import CASES, SHARED_DOMAINS
from cgroup import limited
from launcher import ask_define, running_sidecar
from nodes import hgx
from processmemory import peak_bytes, resident_bytes
from repeating import repeating
from topology_trials import two_cells

POD_BYTES, POD_CPUS = 64_000_000, 0.2
NO_SYSFS = ("--sysfs", "/nonexistent")
_VMI = b'{"kind": "VirtualMachineInstance", "metadata": {"name": "vm"}, "spec": {"domain": {}}}'
ROUNDS = float(os.environ.get("BENCH_ROUNDS", "1"))  # 0.05 for a look, 1 for the README


def image_environment() -> dict[str, str]:
    """What the image sets for malloc."""
    containerfile = Path(__file__).parents[2] / "sidecar-image" / "Containerfile"
    (line,) = re.findall(r"^ENV (PATH=.*)", containerfile.read_text(), re.MULTILINE)
    pairs = dict(word.split("=", 1) for word in line.split())
    return {name: value for name, value in pairs.items() if name.startswith("MALLOC_")}


def main() -> int:
    os.environ |= image_environment()
    one, eight = one_gpu(), eight_gpus()
    print("The hook sidecar, a real process on a real socket; limits by cgroup where we may")
    print(f"{'figure':58} {'measured':>12} {'must':>8} {'goal':>8}")
    start_up()
    memory(eight)
    mirrored()
    under_quota(eight)
    latency(one)
    return 0


def one_gpu() -> tuple[bytes, bytes]:
    file = SHARED_DOMAINS / "v-gpu-1.xml"
    if file.exists():
        return file.read_bytes(), file.with_name("v-gpu-1.vmi.json").read_bytes()
    case = CASES / "stock-sidecar"
    return (case / "domain.xml").read_bytes(), (case / "vmi.json").read_bytes()


def eight_gpus() -> tuple[bytes, bytes]:
    """The same domain and VMI with eight of them, as the launcher writes them in pass 1."""
    domain, vmi = one_gpu()
    hostdev = re.search(rb"[ \t]*<hostdev.*?</hostdev>\n?", domain, re.DOTALL)
    assert hostdev is not None
    name = re.search(rb'alias name="ua-gpu-([^"]+)"', hostdev[0])
    assert name is not None
    more = [
        re.sub(rb'bus="0x[0-9a-f]+"', b'bus="0x%x"' % (0xA0 + n), hostdev[0]).replace(
            b"ua-gpu-" + name[1], b"ua-gpu-g%d" % n
        )
        for n in range(8)
    ]
    first, last = domain.index(b"<hostdev"), domain.rindex(b"</hostdev>") + len(b"</hostdev>")
    manifest = json.loads(vmi)
    devices = manifest["spec"]["domain"]["devices"]
    gpu = devices["gpus"][0]
    devices["gpus"] = [{**gpu, "name": f"g{n}"} for n in range(8)]
    return domain[:first] + b"".join(more) + domain[last:], json.dumps(manifest).encode()


def show(figure: str, value: float | None, unit: str, must: str, goal: str) -> None:
    text = "not to be had" if value is None else f"{value:.4g} {unit}".strip()
    print(f"{figure:58} {text:>12} {must:>8} {goal:>8}", flush=True)


def start_up() -> None:
    """From exec to Info answered."""
    cpu, wall = start_ups(int(10 * ROUNDS) or 3, None)
    show("CPU from exec to Info answered", cpu, "s", "0.25", "0.12")
    show("wall from exec to Info answered, no limit", wall, "s", "0.5", "0.3")
    cpu, wall = start_ups(int(5 * ROUNDS) or 2, POD_CPUS)
    show("wall from exec to Info answered, 200m", None if cpu is None else wall, "s", "1.5", "0.7")


def start_ups(count: int, cpus: float | None) -> tuple[float | None, float]:
    used, walls = [], []
    for _ in range(count):
        with limited(POD_BYTES, cpus) as limits:
            start = time.perf_counter()
            with running_sidecar(*NO_SYSFS, prefix=limits.prefix, poll_s=0.002) as sidecar:
                sidecar.info()
                walls.append(time.perf_counter() - start)
                used.append(limits.cpu_seconds)
    return median(used) if None not in used else None, median(walls)  # type: ignore[type-var]


def memory(eight: tuple[bytes, bytes]) -> None:
    """RSS over many calls of the eight-GPU domain, inside 64,000,000 bytes."""
    calls = int(5000 * ROUNDS) or 250
    with limited(POD_BYTES) as limits, running_sidecar(*NO_SYSFS, prefix=limits.prefix) as sidecar:
        resident = {}
        peak = 0
        for number in range(1, calls + 1):
            sidecar.define(*eight)
            if number in (100, calls):
                resident[number] = resident_bytes(sidecar.pid)
            if number == min(1000, calls):
                peak = peak_bytes(sidecar.pid)
        show("peak RSS after 1,000 calls of 8 GPUs", peak / 1e6, "MB", "56", "42")
        growth = (resident[calls] - resident[100]) / 1e6
        show(f"growth of RSS from call 100 to call {calls:,}", growth, "MB", "1", "0")
        show("times at the memory limit", limits.limit_hits, "", "-", "0")
        show("OOM kills", limits.oom_kills, "", "0", "0")
    with (
        limited(POD_BYTES) as limits,
        running_sidecar(*NO_SYSFS, "--set", "companions=ignore", prefix=limits.prefix) as sidecar,
    ):
        for _ in range(min(calls, 1000)):
            sidecar.define(*eight)
        peak = peak_bytes(sidecar.pid)
        show("the same peak with a configuration", peak / 1e6, "MB", "56", "-")


def mirrored() -> None:
    """An HGX node's 16 functions, its tree repeated in the guest; the node's /sys is read."""
    node = hgx()
    with tempfile.TemporaryDirectory() as directory, limited(POD_BYTES) as limits:
        root = node.build(Path(directory) / "sys")
        options = ("--sysfs", str(root), "--env", f"PCI_RESOURCE_X={node.allocated}",
                   "--set", "layout=mirror")  # fmt: skip
        with running_sidecar(*options, prefix=limits.prefix) as sidecar:
            times = timed(lambda: sidecar.define(two_cells(), _VMI), int(1000 * ROUNDS) or 50)
            peak = peak_bytes(sidecar.pid)
        show("peak RSS with 16 functions of a mirrored HGX node", peak / 1e6, "MB", "56", "-")
        show("OnDefineDomain of these: median", median(times), "ms", "-", "-")


def under_quota(eight: tuple[bytes, bytes]) -> None:
    """Info while calls are running, with 0.2 CPUs."""
    with (
        limited(POD_BYTES, POD_CPUS) as limits,
        running_sidecar(*NO_SYSFS, prefix=limits.prefix) as sidecar,
        repeating(lambda: sidecar.define(*eight)),
    ):
        times = timed(sidecar.info, int(100 * ROUNDS) or 10)
    slowest = max(times) / 1000 if limits.directories else None
    show("Info under 200m, slowest of 100 with calls running", slowest, "s", "0.5", "0.1")


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return times


def latency(one: tuple[bytes, bytes]) -> None:
    """OnDefineDomain of one GPU, a dial for each call, beside a server that returns its input."""
    with running_sidecar(*NO_SYSFS) as sidecar, echoing() as echo:
        ours: list[float] = []
        floor: list[float] = []
        for _ in range(int(300 * ROUNDS) or 50):
            ours += timed(lambda: sidecar.define(*one), 1)
            floor += timed(lambda: ask_define(echo, *one), 1)
    size = f"OnDefineDomain, {len(one[0]) / 1000:.1f} kB, 1 GPU"
    show(f"{size}: median", median(ours), "ms", "5", "1.8")
    show(f"{size}: p95", p95(ours), "ms", "8", "3")
    show("  a grpcio server that returns its input: median", median(floor), "ms", "", "")
    show("  the same: p95", p95(floor), "ms", "", "")
    show("the ratio of the medians", median(ours) / median(floor), "", "2.5", "1.5")


@contextmanager
def echoing() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        socket = Path(scratch) / "echo.sock"
        script = Path(__file__).with_name("echo_server.py")
        process = subprocess.Popen([sys.executable, str(script), str(socket)])
        try:
            while not socket.exists():
                time.sleep(0.02)
            yield socket
        finally:
            process.kill()
            process.wait()


def p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


if __name__ == "__main__":
    sys.exit(main())
