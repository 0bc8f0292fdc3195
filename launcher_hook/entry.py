"""Where the program begins: a server that is PID 1 keeps its signals before it loads anything.

The kernel drops a signal that PID 1 has no handler for, but not one that it has blocked
(kernel/signal.c, sig_ignored). Loading takes a tenth of a second of CPU, half a second in a pod
with 0.2 cores, and a SIGTERM that is lost in it costs the pod's whole grace period.
"""

import os
import signal
import sys

_SERVERS = {"serve", "device-plugin"}

if os.getpid() == 1 and _SERVERS.intersection(sys.argv):
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))


def main() -> int:
    """Run one command; give its exit status."""
    from launcher_hook.cli import main as run

    return run()
