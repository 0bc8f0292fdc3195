"""Which files and directories are opened, by Python's own audit events: nothing is replaced."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_watchers: list[Callable[[str, str], None]] = []


@contextmanager
def watched(watcher: Callable[[str, str], None]) -> Iterator[None]:
    """Tell ``watcher`` the event and path of each file opened and each directory listed."""
    if not _installed:
        sys.addaudithook(_tell)  # cannot be removed again
        _installed.append(True)
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


_installed: list[bool] = []


def _tell(event: str, arguments: tuple[object, ...]) -> None:
    if _watchers and event in ("open", "os.listdir", "os.scandir"):
        for watcher in _watchers:
            watcher(event, str(arguments[0]))
