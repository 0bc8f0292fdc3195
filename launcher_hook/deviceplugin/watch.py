"""Wakes the plugin's one thread: files that come and go, signals, time."""

import contextlib
import logging
import math
import os
import select
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from inotify_simple import INotify, flags

log = logging.getLogger("launcher-hook")

_CHANGES = (
    flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip

Identity = tuple[int, int]


class Watch:
    """Watches directories, also those that come later.

    Without inotify (a node has few instances, and so many watches, for all its processes) it only
    waits, and ``is_blind`` says that somebody must look.
    """

    def __init__(self) -> None:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched: dict[Path, tuple[int, Identity]] = {}
        self._unwatched: set[Path] = set()
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            log.warning("inotify: %s; looking every second instead", error.strerror)
        self._poll = select.poll()
        for source in (self._wake_read, self._inotify):
            if source is not None:
                self._poll.register(source, select.POLLIN)

    @property
    def is_blind(self) -> bool:
        """Whether changes are not seen."""
        return self._inotify is None or bool(self._unwatched)

    def keep(self, directories: Iterable[Path]) -> bool:
        """See to it that these are watched, as they are now.

        Returns:
            Whether one of them is new: what is in it has not been seen.
        """
        if self._inotify is None:
            return False
        is_new = False
        for directory in directories:
            try:
                status = directory.stat()
                identity = (status.st_dev, status.st_ino)
                old = self._watched.get(directory)
                if old is not None and old[1] == identity:
                    continue
                if old is not None:
                    self._forget(directory)
                wd = self._inotify.add_watch(directory, _CHANGES)
            except (FileNotFoundError, NotADirectoryError):
                self._forget(directory)
                self._unwatched.discard(directory)
            except OSError as error:
                self._forget(directory)
                if directory not in self._unwatched:
                    log.warning(
                        "inotify: %s: %s; looking every second instead", directory, error.strerror
                    )
                self._unwatched.add(directory)
            else:
                self._unwatched.discard(directory)
                self._watched[directory] = (wd, identity)
                is_new = True
        return is_new

    def _forget(self, directory: Path) -> None:
        wd, _ = self._watched.pop(directory, (None, None))
        if wd is not None and self._inotify is not None:
            with contextlib.suppress(OSError):  # the kernel has forgotten it by itself
                self._inotify.rm_watch(wd)

    def wait(self, timeout_s: float, on_change: Callable[[Path, Collection[str]], None]) -> None:
        """Wait for a change, a wake-up or the time; say where there was one, and of which names.

        No names: anything may have changed there.
        """
        for descriptor, _ in self._poll.poll(math.ceil(max(timeout_s, 0) * 1000)):
            if descriptor == self._wake_read:
                os.read(self._wake_read, 4096)
            elif self._inotify is not None:
                self._read(self._inotify, on_change)

    def wake(self) -> None:
        """End a wait; for another thread. After ``close`` it does nothing."""
        with contextlib.suppress(OSError):  # full: it will wake anyway
            os.write(self._wake_write, b"!")

    def close(self) -> None:
        """Give the descriptors back."""
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _read(self, inotify: INotify, on_change: Callable[[Path, Collection[str]], None]) -> None:
        directories = {wd: directory for directory, (wd, _) in self._watched.items()}
        changed: dict[Path, set[str]] = {}
        for event in inotify.read(timeout=0):
            directory = directories.get(event.wd)
            if event.mask & flags.Q_OVERFLOW:
                changed.update({directory: set() for directory in directories.values()})
            elif directory is not None:
                changed.setdefault(directory, set()).add(event.name)
                if event.mask & flags.IGNORED:
                    self._watched.pop(directory, None)
        for directory, names in changed.items():
            on_change(directory, names)
