"""On level 1: goes through the cases, one after the other, and writes down what is observed."""

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from e2e import node
from e2e.vm import Libvirt

OUT = Path("/out")


class Agent:
    def __init__(self) -> None:
        self._events = (OUT / "events.jsonl").open("a", buffering=1)
        self.start = time.monotonic()

    def say(self, kind: str, **more: object) -> None:
        line = {"at": round(time.monotonic() - self.start, 1), "kind": kind, **more}
        self._events.write(json.dumps(line) + "\n")
        print(line, flush=True)


def main() -> int:
    agent = Agent()
    from e2e import chain

    agent.say("step", text="imported")
    subprocess.run(["modprobe", "-a", "vfio-pci", "vfio_iommu_type1", *("e1000e", "bochs", "snd_hda_intel", "nvme")], check=True)
    roles = node.make_functions()
    agent.say("roles", roles=roles, groups={r: node.group(b) for r, b in roles.items()}, numa={r: node.numa_node(b) for r, b in roles.items()}, drivers={r: node.driver(b) for r, b in roles.items()})
    node.bind(roles["gpu-a"], "vfio-pci")
    node.bind(roles["gpu-a-audio"], "vfio-pci")
    libvirt = Libvirt()
    libvirt.start()
    agent.say("step", text="libvirt")
    pod = chain.Pod("vm", "q35", {"gpu0": "e2e.example/gpu"}, {"PCI_RESOURCE_E2E_EXAMPLE_GPU": roles["gpu-a"]})
    with chain.sidecar(pod) as launcher:
        agent.say("step", text="sidecar")
        xml = chain.define(pod, launcher, libvirt, lambda t: agent.say("step", text=t))
        (OUT / "vm.xml").write_bytes(xml)
        agent.say("step", text="defined")
        libvirt.begin(pod.domain_name)
        agent.say("step", text="begun")
        found = libvirt.functions(pod.domain_name, {"ua-gpu-gpu0"})
        agent.say("step", text="info pci", found={k: [v.path, v.device] for k, v in found.items()})
        libvirt.end(pod.domain_name)
    agent.say("step", text="end")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BaseException:
        (OUT / "agent-error.txt").write_text(traceback.format_exc())
        raise
