"""Runs level 1 under plain emulation and gives what its agent says, line by line."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.machine import Image
from e2e.topology import NVME_TEXT, qemu_devices

MEMORY_MIB = 3072
EVENTS = "events.jsonl"

_KERNEL_LINE = (
    "console=ttyS0 panic=-1 intel_iommu=on iommu=pt mitigations=off tsc=reliable nokaslr "
    "cryptomgr.notests no_timer_check quiet loglevel=4"
)


class TooSlowError(Exception):
    """Level 1 did not end within its time."""


class QemuFailedError(Exception):
    """QEMU would not run level 1; its own words."""


class QemuDiedError(Exception):
    """A signal ended QEMU: a defect of its own, whatever its guest did; its last words.

    QEMU 7.2's TCG has such ones: "msix_table_mmio_read: Assertion ... failed" while one processor
    reads a function that another resets, once in some dozens of runs.
    """


def boot(image: Image, initramfs: Path, out: Path, limit_s: float) -> Iterator[dict[str, Any]]:
    """Boot level 1, follow its events, wait for its end.

    Args:
        out: Level 1 sees it as ``/out``, and writes there; the consoles' texts are there too.

    Raises:
        TooSlowError: It has been ended, after ``limit_s``.
        QemuDiedError: A signal has ended it.
        QemuFailedError: It did not end as it should.
    """
    disk = out / "nvme.img"
    with disk.open("wb") as file:
        file.write(NVME_TEXT.encode())
        file.truncate(16 << 20)
    deadline = time.monotonic() + limit_s
    with (out / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            _command(image, initramfs, out, disk), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield from _follow(process, out / EVENTS, deadline)
        finally:
            process.kill()
            process.wait()
            disk.unlink()
    words = (out / "qemu.log").read_text().strip()
    if process.returncode < 0:
        raise QemuDiedError(f"{signal.Signals(-process.returncode).name}: {words}")
    if process.returncode > 0:
        raise QemuFailedError(words)


def _follow(
    process: "subprocess.Popen[bytes]", events: Path, deadline: float
) -> Iterator[dict[str, Any]]:
    events.touch()
    with events.open() as lines:
        rest = ""
        while True:
            ended = process.poll() is not None
            for part in iter(lines.readline, ""):
                rest += part
                if rest.endswith("\n"):
                    yield json.loads(rest)
                    rest = ""
            if ended:
                return
            if time.monotonic() > deadline:
                raise TooSlowError
            time.sleep(0.2)


def _command(image: Image, initramfs: Path, out: Path, disk: Path) -> list[str]:
    half = MEMORY_MIB // 2
    return [
        shutil.which("qemu-system-x86_64") or "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi", "-machine", "q35,kernel-irqchip=split"),
        *("-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"),
        *("-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB)),
        *("-object", f"memory-backend-ram,id=m0,size={half}M"),
        *("-object", f"memory-backend-ram,id=m1,size={half}M"),
        *("-numa", "node,nodeid=0,cpus=0,memdev=m0", "-numa", "node,nodeid=1,cpus=1,memdev=m1"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-serial", f"file:{out / 'level1.log'}"),
        *("-virtfs", f"local,path={out},mount_tag=out,security_model=none"),
        *("-kernel", str(image.kernel), "-initrd", str(initramfs), "-append", _KERNEL_LINE),
        *qemu_devices(disk),
    ]
