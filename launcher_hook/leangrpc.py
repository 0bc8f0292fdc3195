"""grpc, loaded without what nobody uses here: a third of its CPU and memory.

``import grpc`` ends by importing ``grpc.aio``; its core imports asyncio, which imports ssl and that
libcrypto; its server imports typing_extensions for one decorator that does nothing. Together that
is 60 ms of CPU and 9 MB, of the 250 ms and 64 MB that a hook's container has. All three are looked
up when they are used only, and a synchronous server never does. tests/test_hook_server.py sees to
it that a server has none of it.
"""

import sys
from types import ModuleType
from typing import Any


def _load_grpc() -> Any:
    """Import grpc and its server with empty modules in the place of those three; leave none."""
    empty = [ModuleType(name) for name in ("asyncio", "grpc.aio", "typing_extensions")]
    empty = [module for module in empty if module.__name__ not in sys.modules]
    for module in empty:
        sys.modules[module.__name__] = module
        module.override = _same  # type: ignore[attr-defined]
    try:
        import grpc
        import grpc._server  # which grpc.server() would import when it is called
    finally:
        for module in empty:
            del sys.modules[module.__name__]
    return grpc


def _same(method: Any) -> Any:
    return method


grpc = _load_grpc()
