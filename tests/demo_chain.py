"""The whole chain of `make demo`: node, device plugin, kubelet, variables, sidecar, domain.

Every part is a process of its own that speaks its real protocol; kubelet and virt-launcher are
played by tests/kubelet.py and tests/launcher.py.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from demo_sidecar import boot
from kubelet import COMMAND, running_plugin
from pluginnode import RESOURCE

REPOSITORY = Path(__file__).parent.parent
CONFIG = Path("sidecar-image/manifests/device-plugin/config.yaml")


def chain(node: Path, domain: bytes, vmi: bytes, variables: str, show: Callable[..., None]) -> bool:
    """Go through it and print it; whether the domain got what kubelet was given.

    Args:
        node: A snapshot of a node with two GPUs, below the repository.
        domain: A launcher's.
        vmi: It asks for the two.
        variables: What Allocate must answer.
        show: Prints a command.
    """
    options = ["--sysfs", node, "--config", CONFIG]
    print("what the node has for kubelet:")
    show("discover", *options)
    subprocess.run([COMMAND, "discover", *map(str, options)], check=True, cwd=REPOSITORY)
    print("\nthe device plugin, with a kubelet that tests/kubelet.py plays:")
    show("device-plugin", *options, "--kubelet-dir", "DIR")
    start = time.monotonic()
    with running_plugin(REPOSITORY / node, None, "--config", REPOSITORY / CONFIG) as plugin:
        endpoint = plugin.kubelet.wait_for_resource(RESOURCE, 2)
        took_s = time.monotonic() - start
        print(f"{took_s:.2f} s after its start, kubelet has from {endpoint.socket}:")
        print(f"  capacity {len(endpoint.devices)} of {RESOURCE}")
        chosen = plugin.kubelet.prefer(RESOURCE, list(endpoint.devices), [], 2)
        print(f"a pod asks for 2; preferred: {', '.join(chosen)}")
        (container,) = plugin.kubelet.allocate(RESOURCE, chosen)
        given = [f"{name}={value}" for name, value in container.envs.items()]
        print("Allocate gives its compute container:")
        print("\n".join(f"  {line}" for line in given))
        print("\n".join(f"  {spec.host_path} {spec.permissions}" for spec in container.devices))
        print("\nthe sidecar of that pod, with that variable:")
        passes = boot(node, domain, vmi, "--env", given[0], show=show)
        plugin.process.terminate()
        print(f"the plugin's exit status is {plugin.process.wait(60)}, "
              f"{len(plugin.sockets())} sockets are left")  # fmt: skip
    return (
        given == [variables]
        and len(passes[0]) == 4
        and all(devices == passes[0] for devices in passes)
    )
