"""Interrupts a process all the time: system calls end early (EINTR) that it thought would not."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH, signal.SIGURG)


@contextmanager
def storm_of_signals(pid: int) -> Iterator[None]:
    """Stop it, let it go on, and send it what it does not mind, over and over."""
    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            for number in _SIGNALS:
                os.kill(pid, number)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
