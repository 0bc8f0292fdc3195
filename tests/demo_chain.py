"""The whole chain of `make demo`: node, device plugin, kubelet, variables, sidecar, domain.

Every part is a process of its own that speaks its real protocol; kubelet and virt-launcher are
played by tests/kubelet.py and tests/launcher.py.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo_sidecar import boot
from kubelet import COMMAND
from pluginnode import GPUS, RESOURCE, VARIABLE, seeds_node


def chain(domain: bytes, vmi: bytes) -> bool:
    """Go through it and print it; whether the domain got what kubelet was given."""
    with tempfile.TemporaryDirectory() as scratch:
        node = seeds_node(Path(scratch))
        print("what the node has, as `launcher-hook discover` says it:")
        discovered = subprocess.run(
            [COMMAND, "discover", "--sysfs", node.sysfs, "--dev", node.dev,
             "--pci-ids", node.names],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        print("\n".join(discovered.stdout.splitlines()[:6]))
        start = time.monotonic()
        with node.plugin() as plugin:
            endpoint = plugin.kubelet.wait_for_resource(RESOURCE, len(GPUS))
            took_s = time.monotonic() - start
            print(f"\n{took_s:.2f} s after its start, kubelet has from {endpoint.socket}:")
            print(f"  capacity {len(endpoint.devices)} of {RESOURCE}")
            chosen = plugin.kubelet.prefer(RESOURCE, GPUS, [], 2)
            print(f"a pod asks for 2; preferred, on one NUMA node: {', '.join(chosen)}")
            (container,) = plugin.kubelet.allocate(RESOURCE, chosen)
            given = [f"{name}={value}" for name, value in container.envs.items()]
            print("Allocate gives its compute container:")
            print("\n".join(f"  {line}" for line in given))
            print("\n".join(f"  {spec.host_path} {spec.permissions}" for spec in container.devices))
            print("\nthe sidecar of that pod, with that variable:")
            passes = boot(node.sysfs, domain, vmi, "--env", given[0])
            plugin.process.terminate()
            print(f"the plugin's exit status is {plugin.process.wait(60)}, "
                  f"{len(plugin.sockets())} sockets are left")  # fmt: skip
    return (
        container.envs == {VARIABLE: "0000:86:00.0,0000:af:00.0"}
        and len(passes[0]) == 8
        and all(devices == passes[0] for devices in passes)
    )


def main() -> int:
    from cases import CASES

    case = CASES / "readme"
    return 0 if chain((case / "domain.xml").read_bytes(), (case / "vmi.json").read_bytes()) else 1


if __name__ == "__main__":
    sys.exit(main())
