"""The sidecar's part of `make demo`: a launcher's boot against a real process and socket.

Between the passes stands what KubeVirt keeps of a domain; what libvirt adds is in the tests, which
have a libvirt.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher import Launcher, running_sidecar
from launcher_passes import next_pass
from lxml import etree

REPOSITORY = Path(__file__).parent.parent


def boot(
    node: Path, domain: bytes, vmi: bytes, *arguments: str, show: Callable[..., None]
) -> list[dict[str, str]]:
    """Go through a boot and print it; give the devices of each pass, alias to guest address."""
    show("serve", "--socket-dir", "DIR", "--sysfs", node, *arguments)
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        directory = Path(scratch) / "hook-sidecar-0"
        directory.mkdir()
        start = time.monotonic()
        with running_sidecar(
            "--sysfs", REPOSITORY / node, *arguments, directory=directory
        ) as sidecar:
            launcher = Launcher(Path(scratch))
            launcher.collect(1)
            for hook in launcher.hooks:
                print(f"{time.monotonic() - start:.2f} s after its start, Info: {hook.socket.name} "
                      f"speaks {hook.version}, hooks {', '.join(sorted(hook.points))}")  # fmt: skip
            passes = []
            for number, spare_ports in enumerate((0, 3, 3), start=1):
                begun = time.monotonic()
                answer = launcher.on_define_domain(domain, vmi)
                took_ms = (time.monotonic() - begun) * 1000
                passes.append(devices_of(answer))
                print(f"pass {number}: {len(domain)} bytes in, {len(answer)} out, {took_ms:.1f} ms")
                domain = next_pass(answer, answer, spare_ports)
            launcher.shut_down()
            print(f"Shutdown: exit status {sidecar.process.wait(60)}, "
                  f"{len(list(directory.iterdir()))} files left in its directory")  # fmt: skip
            print("one line of its log:")
            line = next(event for event in sidecar.events() if event["msg"] == "domain defined")
            print(json.dumps(line, indent=1))
    return passes


def devices_of(domain: bytes) -> dict[str, str]:
    devices = {}
    for hostdev in etree.fromstring(domain).iterfind("devices/hostdev"):
        place = hostdev.find("address")
        alias = hostdev.find("alias")
        assert place is not None
        assert alias is not None
        devices[alias.get("name", "")] = str(dict(sorted(place.attrib.items())))
    return devices
