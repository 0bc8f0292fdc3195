"""Files in and out: bounded when read, whole or not at all when written."""

import contextlib
import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from launcher_hook.errors import HostError, InputError, UnreadableError

_EXHAUSTED = {
    errno.EMFILE: "see what holds so many files open in this process",
    errno.ENFILE: "see what holds so many files open on the node",
    errno.ENOMEM: "see what takes the node's or the container's memory",
}


def check_absence(error: OSError, where: str) -> None:
    """Let pass that something is not there or is not for us; anything else says nothing of it.

    Raises:
        HostError: The process or the node is out of descriptors or memory.
        UnreadableError: The device itself failed to answer (EIO).
    """
    if error.errno in _EXHAUSTED:
        raise HostError(
            where, f"cannot be read: {error.strerror}", _EXHAUSTED[error.errno]
        ) from error
    if error.errno == errno.EIO:
        raise UnreadableError(
            where, f"cannot be read: {error.strerror}", "see the kernel's log; reset or replace it"
        ) from error


def check_stdin(files: Mapping[str, str | None]) -> None:
    """Refuse that two options read stdin: the second would find it empty.

    Args:
        files: The file of each option, ``-`` for stdin, in the order of the message.

    Raises:
        InputError: Two are stdin.
    """
    readers = [option for option, name in files.items() if name == "-"]
    if len(readers) > 1:
        raise InputError(
            f"{readers[1]} -",
            f"stdin is {readers[0]} already",
            "give one of the two as a file",
        )


def read_file(name: str, most_bytes: int) -> bytes:
    """Read a file, or stdin for ``-``; one byte more than allowed is enough to refuse it.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    try:
        if name == "-" and sys.stdin is None:
            raise OSError(0, "stdin is closed")
        if name == "-":
            data = sys.stdin.buffer.read(most_bytes + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            name, f"it cannot be read: {reason}", "give the path of a readable file"
        ) from None
    if len(data) > most_bytes:
        raise InputError(
            name, f"it is larger than {most_bytes} bytes", "see whether it is the right file"
        )
    return data


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content in one step; on any failure the old file stays whole.

    Raises:
        InputError: It cannot be written.
    """
    import tempfile  # here: 5 ms that a server's start does not have to spend

    temporary = None
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing to replace
            path.write_bytes(data)
            return
        target = path.resolve()
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(target)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            f"-o {path}", f"it cannot be written: {reason}", "give a path in a writable directory"
        ) from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
