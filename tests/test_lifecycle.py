"""How a server is told to end."""

import signal
import subprocess
import sys

import pytest

# Between two looks the lock of the event is held about half of the time.
WAITS = """
from launcher_hook.lifecycle import end_on_signals
ended = end_on_signals()
print("ready", flush=True)
while not ended.wait(1e-6):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_whatever_the_server_is_doing(number: signal.Signals) -> None:
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            try:
                assert process.wait(30) == 0
            finally:
                process.kill()
