"""Holds up whoever opens a file: a file system that is slow for exactly as long as a test wants.

fanotify(7) asks us before each opening in a directory; as root, as CI is.
"""

import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# linux/fanotify.h
_CLASS_CONTENT, _CLOEXEC = 0x4, 0x1
_MARK_ADD = 0x1
_OPEN_PERM, _ON_DIRECTORY, _ON_CHILD = 0x10000, 0x40000000, 0x08000000
_EVENT = struct.Struct("=IBBHQii")
_ALLOW = 1

WAIT_S = 60


class Held:
    """What opens something in the directories waits; ``asked`` says that something does."""

    def __init__(self, pid: int | None, fanotify: int) -> None:
        self._pid = pid
        self._fanotify = fanotify
        self._end = os.eventfd(0)
        self._lock = threading.Lock()
        self._waiting: list[int] | None = []
        self.asked = threading.Event()
        self.count = 0

    def release(self) -> None:
        """Let all of them go on, and whoever comes later."""
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
        for file in waiting:
            self._allow(file)

    def wait(self) -> None:
        """Wait until somebody waits."""
        assert self.asked.wait(WAIT_S), "nobody has opened anything"

    def watch(self) -> None:
        """Answer the kernel until ``end``; the thread's."""
        while self._end not in select.select([self._fanotify, self._end], [], [])[0]:
            data = os.read(self._fanotify, 4096)
            for start in range(0, len(data), _EVENT.size):
                *_, file, pid = _EVENT.unpack_from(data, start)
                self._take(file, pid)

    def end(self, watcher: threading.Thread) -> None:
        """Let all go on and stop watching.

        Only then is the number of the descriptor free: who still read it would take the bytes of
        whatever the process opens next.
        """
        self.release()
        os.eventfd_write(self._end, 1)
        watcher.join()
        os.close(self._end)
        os.close(self._fanotify)  # the kernel lets everybody go

    def _take(self, file: int, pid: int) -> None:
        with self._lock:
            ours = pid != os.getpid() and self._pid in (None, pid)
            if ours and self._waiting is not None:
                self._waiting.append(file)
                self.count += 1
                self.asked.set()
                return
        self._allow(file)

    def _allow(self, file: int) -> None:
        with suppress(OSError):  # who waited has been killed
            os.write(self._fanotify, struct.pack("=iI", file, _ALLOW))
        os.close(file)


@contextmanager
def holding(*directories: Path, pid: int | None = None) -> Iterator[Held]:
    """Hold up every opening of these directories and of what is right in them.

    Args:
        directories: Real ones, not links to them.
        pid: Only of this process; of every one but ours if it is None.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fanotify = libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC, os.O_RDONLY)
    if fanotify < 0:
        raise OSError(ctypes.get_errno(), "fanotify_init: only root may")
    held = Held(pid, fanotify)
    mask = ctypes.c_uint64(_OPEN_PERM | _ON_DIRECTORY | _ON_CHILD)
    thread = threading.Thread(target=held.watch, daemon=True)
    thread.start()
    try:
        for directory in directories:
            path = os.fsencode(directory.resolve())
            if libc.fanotify_mark(fanotify, _MARK_ADD, mask, -100, path) < 0:
                raise OSError(ctypes.get_errno(), f"fanotify_mark: {directory}")
        yield held
    finally:
        held.end(thread)
