"""Level 1's ``/sys``: functions by role, and which driver has them."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from e2e.topology import FUNCTIONS, VF_COUNT

DEVICES = Path("/sys/bus/pci/devices")
VFIO = "vfio-pci"

QEMU_USER = 107
"""virt-launcher's user and group, and every hook sidecar's."""

# Wide: on a slow machine it is the limit of the whole run that is met, which is no wrong result.
WAIT_S = 900

Result = TypeVar("Result")


def wait_until(
    condition: Callable[[], Result | None], what: str, limit_s: float = WAIT_S, poll_s: float = 0.1
) -> Result:
    """Wait for what only the kernel or another process can bring; give what it was."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s} s")
        time.sleep(poll_s)
    return found


def make_functions() -> dict[str, str]:
    """Make the VFs and find every function; bdf by role."""
    found = {role: _find(*way) for role, way in FUNCTIONS.items()}
    physical = DEVICES / found["nvme-sriov"]
    wait_until(lambda: driver(found["nvme-sriov"]) == "nvme", "the nvme driver")
    (physical / "sriov_numvfs").write_text(str(VF_COUNT))
    for number in range(VF_COUNT):
        found[f"vf-{number}"] = (physical / f"virtfn{number}").resolve().name
    return found


def _find(expander: int, way: tuple[str, ...]) -> str:
    place = Path(f"/sys/devices/pci0000:{expander:02x}")
    for step in way:
        (place,) = place.glob(f"????:??:{step}")
    return place.name


def driver(bdf: str) -> str:
    link = DEVICES / bdf / "driver"
    return link.resolve().name if link.exists() else ""


def group(bdf: str) -> int:
    return int((DEVICES / bdf / "iommu_group").resolve().name)


def numa_node(bdf: str) -> int:
    return int((DEVICES / bdf / "numa_node").read_text())


def bind(bdf: str, name: str) -> None:
    """Bind a function to vfio-pci, to "native" (whatever driver claims it), or to none ("")."""
    if name != VFIO or driver(bdf) != VFIO:
        unbind(bdf)
    if name == "":
        return
    (DEVICES / bdf / "driver_override").write_text(f"{VFIO if name == VFIO else ''}\n")
    if driver(bdf) != VFIO or name != VFIO:
        Path("/sys/bus/pci/drivers_probe").write_text(bdf)
    bound = driver(bdf)
    if not bound or (bound == VFIO) != (name == VFIO):
        raise RuntimeError(f"{bdf} is bound to {bound!r}, not to {name}")


def unbind(bdf: str) -> None:
    if driver(bdf):
        (DEVICES / bdf / "driver/unbind").write_text(bdf)


def remove(bdf: str) -> None:
    (DEVICES / bdf / "remove").write_text("1")


def rescan() -> None:
    Path("/sys/bus/pci/rescan").write_text("1")


def by_role(text: str, roles: dict[str, str]) -> str:
    """Say roles instead of what changes from kernel to kernel: addresses and group numbers."""
    for role, bdf in roles.items():
        text = text.replace(bdf, role)
    return re.sub(r"(group )\d+", r"\1N", text)
