"""Interrupts a process all the time: system calls end early (EINTR) that it thought would not."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from repeating import repeating

_SIGNALS = (signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH, signal.SIGURG)


@contextmanager
def storm_of_signals(pid: int) -> Iterator[None]:
    """Stop it, let it go on, and send it what it does not mind, over and over."""

    def storm() -> None:
        for number in _SIGNALS:
            os.kill(pid, number)

    with repeating(storm):
        yield
