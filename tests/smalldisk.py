"""A file system that a test can fill or make read-only; as root, as CI is."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(options: str) -> Iterator[Path]:
    """A tmpfs of its own."""
    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", scratch], check=True)
        try:
            yield Path(scratch)
        finally:
            subprocess.run(["umount", "-l", scratch], check=True)
