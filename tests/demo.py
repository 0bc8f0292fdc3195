"""`make demo`: the README's case on a domain that a launcher writes, from end to end.

A GPU pair is asked for, kubelet has allocated 0000:86:00.0 and 0000:af:00.0; the node has an audio
function behind each GPU. Everything is shown by the commands that a user has.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from cases import CASES, SHARED_DOMAINS
from demo_chain import chain
from demo_sidecar import boot
from hosttree import bridge, build_host_tree, gpu

VARIABLE = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A=0000:86:00.0,0000:af:00.0"

VMI = CASES / "readme" / "vmi.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        node = build_host_tree(
            directory / "sys",
            [
                bridge("0000:80:01.0", group=30),
                bridge("0000:ae:01.0", group=31),
                *gpu("0000:86:00.0", group=42, numa=0, parent="0000:80:01.0")[:2],
                *gpu("0000:af:00.0", group=71, numa=1, parent="0000:ae:01.0")[:2],
            ],
        )
        domain = launcher_domain()
        rendered = directory / "rendered.xml"
        inputs = ["--domain", str(domain), "--vmi", str(VMI), "--env", VARIABLE]
        here = ["--sysfs", str(node)]
        say(f"A launcher's domain ({domain.name}), a VMI with two GPUs, and\n{VARIABLE}")
        say("1. What the hook changes in the domain")
        run("render", *inputs, *here, "--diff", "-o", str(rendered))
        say("2. The plan")
        run("plan", *inputs, *here)
        say("3. The guest's PCI tree")
        run("plan", *inputs, *here, "--output", "tree")
        say("4. The same on the root bus: bus 0x00, from slot 0x08 up")
        run("plan", *inputs, "--set", "layout=root-bus", "--output", "tree")
        say("5. The verdict, on a second run over the result: valid, and nothing changes")
        again = directory / "again.xml"
        run("render", "--domain", str(rendered), *inputs[2:], *here, "-v", "-o", str(again))
        if again.read_bytes() != rendered.read_bytes():
            print("a second run changed the domain")
            return 1
        say("6. For comparison, 'validate' on the whole document: the launcher's own faults")
        run("validate", str(rendered), expected=4 if domain.parent == SHARED_DOMAINS else None)
        say("7. The same by the sidecar: start, Info, three passes, Shutdown")
        passes = boot(node, domain.read_bytes(), VMI.read_bytes(), "--env", VARIABLE)
        if any(devices != passes[0] for devices in passes):
            print("the three passes do not agree")
            return 1
        print("all three passes agree")
        say("8. The whole chain: node, device plugin, Allocate, variables, sidecar, domain")
        if not chain(domain.read_bytes(), VMI.read_bytes()):
            print("the chain broke")
            return 1
    return 0


def launcher_domain() -> Path:
    """A domain of KubeVirt 1.9's own converter where it is at hand, else our own of that form."""
    real = SHARED_DOMAINS / "v-plain.xml"
    return real if real.exists() else CASES / "readme" / "domain.xml"


def say(text: str) -> None:
    print(f"\n== {text}\n", flush=True)


def run(*arguments: str, expected: int | None = 0) -> None:
    """Run the command as a user does; any exit status but the expected one ends the demo."""
    command = [str(Path(sys.executable).with_name("launcher-hook")), *arguments]
    status = subprocess.run(command, check=False).returncode
    if expected is not None and status != expected:
        sys.exit(f"{' '.join(command)}: exit status {status}")


if __name__ == "__main__":
    sys.exit(main())
