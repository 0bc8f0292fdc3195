"""How a server of ours comes to its end, as PID 1 of a container too."""

import logging
import os
import signal
import sys
import threading
from typing import NoReturn


def end_on_signals() -> threading.Event:
    """Give the event that SIGTERM and SIGINT set; they do nothing else from now on.

    To be called first of all; what came before and was blocked (see ``entry``) comes now.
    """
    ended = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    # A handler runs in the thread that waits for the event: while that holds the event's lock, a
    # handler that sets it would wait for itself. So C writes down the signal, and a thread sets it.
    signal.set_wakeup_fd(writer)

    def tell() -> None:
        os.read(reader, 1)
        ended.set()

    threading.Thread(target=tell, name="signals", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    return ended


def leave(status: int) -> NoReturn:
    """End the process now, with what it has logged written out.

    Without the interpreter's own end: it waits for every worker thread, also for one whose call
    has outlived its grace, and takes a tenth of a second of CPU, half a second in a pod.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)
