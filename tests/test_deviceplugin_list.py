"""The list that ListAndWatch follows, as many times as kubelet asks."""

from collections.abc import Callable, Generator
from random import Random

from launcher_hook.deviceplugin.service import MOST_STREAMS, DeviceList


class Call:
    """As much of a gRPC call as following a list takes."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.end = callback
        return True


def test_kubelet_may_reconnect_ten_thousand_times() -> None:
    """Two open calls look alike; the end of one must not take the other off the books."""
    devices = DeviceList()
    devices.publish([])
    open_calls: list[tuple[Call, Generator[bytes]]] = []
    random = Random(1)
    opened = 0
    while opened < 10_000:
        if len(open_calls) <= random.randrange(2 * MOST_STREAMS):
            call = Call()
            stream = devices.follow(call)
            assert next(stream) == b""
            open_calls.append((call, stream))
            opened += 1
        else:  # any may go first
            call, stream = open_calls.pop(random.randrange(len(open_calls)))
            if random.randrange(2):
                call.end()  # the client has cancelled it
                assert list(stream) == []
            else:
                stream.close()  # the connection has broken while the list was sent
        assert devices.followers == len(open_calls)
    for call, stream in open_calls:
        call.end()
        assert list(stream) == []
    assert devices.followers == 0
