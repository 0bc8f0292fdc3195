"""`make demo`: the README's case, from end to end, and each command as a user writes it.

A GPU pair is asked for, kubelet has allocated 0000:86:00.0 and 0000:af:00.0; the node has an audio
function behind each GPU. The commands stand there as they were run, in the repository.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from demo_chain import chain
from demo_sidecar import boot

REPOSITORY = Path(__file__).parent.parent
CASE = Path("fixtures/cases/readme")
NODE = CASE / "node.json"
INPUTS = ("--vmi", CASE / "vmi.json", "--env-file", CASE / "env", "--sysfs", NODE)

OUT = Path("build/demo")


def main() -> int:
    (REPOSITORY / OUT).mkdir(parents=True, exist_ok=True)
    domain, vmi = ((REPOSITORY / CASE / name).read_bytes() for name in ("domain.xml", "vmi.json"))
    variables = (REPOSITORY / CASE / "env").read_text().strip()
    given = ("--domain", CASE / "domain.xml", *INPUTS)
    rendered, again = OUT / "rendered.xml", OUT / "again.xml"
    say(f"A launcher's domain, a VMI with two GPUs, a node's snapshot ({CASE}/), and\n{variables}")
    say("1. What the hook changes in the domain")
    run("render", *given, "--diff", "-o", rendered)
    say("2. The plan: where the devices are on the node, and in the guest")
    run("plan", *given, "--output", "tree")
    say("3. The same on the root bus: bus 0x00, from slot 0x08 up")
    run("plan", *given, "--set", "layout=root-bus", "--output", "tree")
    say("4. The verdict, on a second run over the result: valid, and nothing changes")
    run("render", "--domain", rendered, *INPUTS, "-v", "-o", again)
    if (REPOSITORY / again).read_bytes() != (REPOSITORY / rendered).read_bytes():
        print("a second run changed the domain")
        return 1
    say("5. For comparison, 'validate' on the whole document: the launcher's own fault")
    run("validate", rendered, expected=4)
    say("6. The same by the sidecar: start, Info, three passes, Shutdown")
    passes = boot(NODE, domain, vmi, "--env", variables, show=show)
    if any(devices != passes[0] for devices in passes):
        print("the three passes do not agree")
        return 1
    print("all three passes agree")
    say("7. The whole chain: node, device plugin, Allocate, variables, sidecar, domain")
    if not chain(NODE, domain, vmi, variables, show=show):
        print("the chain broke")
        return 1
    return 0


def say(text: str) -> None:
    print(f"\n== {text}\n", flush=True)


def show(*arguments: str | Path) -> None:
    """Print a command as a shell takes it, in lines that end behind an option and its value."""
    options: list[str] = []
    for word in map(shlex.quote, map(str, arguments)):
        if options and options[-1].startswith("-") and not word.startswith("-"):
            options[-1] += f" {word}"
        else:
            options.append(word)
    lines = ["$ .venv/bin/launcher-hook"]
    for option in options:
        if len(lines[-1]) + len(option) > 90:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {option}"
    print("\n".join(lines) + "\n", flush=True)


def run(*arguments: str | Path, expected: int = 0) -> None:
    """Run the command as a user does; any exit status but the expected one ends the demo."""
    show(*arguments)
    command = [str(Path(sys.executable).with_name("launcher-hook")), *map(str, arguments)]
    status = subprocess.run(command, check=False, cwd=REPOSITORY).returncode
    if status != expected:
        sys.exit(f"{' '.join(command)}: exit status {status}")


if __name__ == "__main__":
    sys.exit(main())
