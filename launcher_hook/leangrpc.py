"""grpc, loaded without asyncio: a third of its CPU and memory, for an API that nobody uses here.

``import grpc`` ends by importing ``grpc.aio``, and its core imports asyncio, which imports ssl and
that libcrypto: 45 ms and 9 MB of the 250 ms and 64 MB of a hook's container. Names that are looked
up when they are used only do not miss it. tests/test_hook_server.py sees to it that a server has
none of it.
"""

import sys
from types import ModuleType
from typing import Any


def _load_grpc() -> Any:
    """Import grpc with an empty module wherever it asks for asyncio; leave none behind."""
    empty = [ModuleType(name) for name in ("asyncio", "grpc.aio") if name not in sys.modules]
    for module in empty:
        sys.modules[module.__name__] = module
    try:
        import grpc
    finally:
        for module in empty:
            del sys.modules[module.__name__]
    return grpc


grpc = _load_grpc()
