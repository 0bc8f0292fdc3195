"""The memory of another process, as the kernel counts it."""

from pathlib import Path


def peak_bytes(pid: int) -> int:
    """The most that it has had resident."""
    return _read(pid, "VmHWM")


def resident_bytes(pid: int) -> int:
    """What it has resident."""
    return _read(pid, "VmRSS")


def _read(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024
