"""Which files may stand for a device's option ROM.

The path comes from the VM's owner (the VMI's annotation), and QEMU gives what the file holds to the
guest: so a directory must be allowed by the deployment, and nothing in a path may lead out of it.
The file is in the compute container's file system, which a sidecar does not see: a symbolic link
there is followed by QEMU. Allow directories only into which no VM's owner can write.
"""

import os
import posixpath
from collections.abc import Sequence

from launcher_hook.errors import InputError, shorten

_LONGEST = 4095  # PATH_MAX less its NUL


def check_directories(directories: Sequence[str]) -> tuple[str, ...]:
    """Check what ``--rom-dir`` allows; give it.

    Raises:
        InputError: A directory is not absolute, not plain, or all there is.
    """
    for directory in directories:
        if not _is_plain(directory) or directory == "/":
            raise InputError(
                f"--rom-dir {directory}",
                f"{shorten(directory)} is no directory to be allowed",
                "write an absolute path without . and .., e.g. /var/run/roms",
            )
    return tuple(directories)


def check_rom_file(path: str, allowed: Sequence[str], where: str) -> None:
    """Refuse a file that is in none of the allowed directories, or whose path is not plain.

    Raises:
        InputError: It is not to be read.
    """
    if not _is_plain(path):
        raise InputError(
            where,
            f"{shorten(path)} is not a plain path",
            "write an absolute path without ., .., doubled slashes and unprintable characters",
        )
    inside = [directory for directory in allowed if path.startswith(f"{directory}/")]
    if not inside:
        there = ", ".join(allowed) or "none"
        raise InputError(
            where,
            f"{shorten(path)} is in no directory that this deployment allows ({there})",
            "add --rom-dir DIRECTORY to the hook's arguments, or put the file where it is allowed",
        )
    # Where the file is here too, its links can be seen.
    real = os.path.realpath(path)
    if not any(real.startswith(f"{os.path.realpath(directory)}/") for directory in inside):
        raise InputError(
            where,
            f"{shorten(path)} is a link that leads to {shorten(real)}",
            "put the file itself into the directory",
        )


def _is_plain(path: str) -> bool:
    return (
        path.startswith("/")
        and not path.startswith("//")  # which normpath keeps
        and len(os.fsencode(path)) <= _LONGEST
        and path.isprintable()
        and posixpath.normpath(path) == path
    )
