"""A gRPC server on a unix socket: bound last, replaced when stale, gone when it ends."""

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from launcher_hook.errors import HostError, InputError
from launcher_hook.leangrpc import grpc

# sys/un.h: sun_path has 108 bytes with the closing NUL.
MAX_PATH_BYTES = 107


class UnixServer:
    """Serves some gRPC services on one socket.

    Args:
        path: The socket's final name; nothing else is ever written into its directory.
        handlers: The services.
        workers: Threads for calls; one that lasts has one for as long.
        most_request_bytes: A larger request is refused before it is read whole.
        owner: User and group that must be able to connect, where we may give it to them.
    """

    def __init__(
        self,
        path: Path,
        handlers: Iterable[grpc.GenericRpcHandler],
        workers: Executor,
        most_request_bytes: int,
        owner: tuple[int, int] | None = None,
    ) -> None:
        self._path = path
        self._owner = owner
        self._identity: tuple[int, int, int] | None = None
        self._directory: int | None = None
        self._server = grpc.server(
            workers,
            handlers=tuple(handlers),
            options=(
                ("grpc.max_receive_message_length", most_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ),
        )

    def start(self) -> None:
        """Take the socket's name and serve; whoever sees the name gets an answer.

        Raises:
            InputError: The path is too long, or its directory cannot be written.
            HostError: Another server is alive on it, or something that is no socket is there.
        """
        _check_path(self._path)
        _make_way(self._path)
        # gRPC removes what has this path when it stops, whoever's it is by then; so it is given one
        # that `stop` makes lead nowhere.
        self._directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{self._directory}/{self._path.name}"
        # Whoever sees the name may connect from the first moment on; closed to others just after.
        umask = os.umask(0)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise InputError(
                str(self._path), f"it cannot be bound: {error}", "give a directory that is writable"
            ) from None
        finally:
            os.umask(umask)
        self._identity = _identify(self._path)
        self._path.chmod(0o660 if self._owner is None or self._give_away(self._owner) else 0o666)
        self._server.start()

    def _give_away(self, owner: tuple[int, int]) -> bool:
        """Give the socket to who must be able to connect, where we may.

        Root may not without capabilities, nor in a user namespace that has no such user.
        """
        try:
            os.chown(self._path, *owner)
        except OSError:
            return False
        return True

    def stop(self, grace_s: float) -> Callable[[], None]:
        """Take no new call from now on, and take the name away; a successor's of that name stays.

        Returns:
            What waits until the calls under way are finished, or cut off after ``grace_s``.
        """
        with contextlib.suppress(OSError):
            if self.is_there:
                self._path.unlink()
        if self._directory is not None:
            nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._directory, inheritable=False)
            os.close(nowhere)
        stopped = self._server.stop(grace_s)

        def finish() -> None:
            stopped.wait()
            if self._directory is not None:
                os.close(self._directory)
                self._directory = None

        return finish

    @property
    def is_there(self) -> bool:
        """Whether the socket still has its name: somebody may have removed or replaced it."""
        return self._identity is not None and _identify(self._path) == self._identity


def _identify(path: Path) -> tuple[int, int, int] | None:
    """Tell a socket from a later one of the same name, which may have its inode number."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns)


@contextlib.contextmanager
def serving(servers: Sequence[UnixServer], grace_s: float) -> Iterator[None]:
    """Start servers in this order; at the end stop those that started, all at once.

    Raises:
        HookError: One cannot start; the others are gone again.
    """
    started: list[UnixServer] = []
    try:
        for server in servers:
            started.append(server)  # also one that fails half-way has a socket to take away
            server.start()
        yield
    finally:
        for finish in [server.stop(grace_s) for server in started]:
            finish()


def _check_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise InputError(
            str(path), f"it has {length} bytes", f"give a path of at most {MAX_PATH_BYTES} bytes"
        )
    if not path.parent.is_dir():
        raise InputError(
            str(path.parent), "there is no such directory", "mount it, or give another one"
        )


def _make_way(path: Path) -> None:
    """Remove the socket of a predecessor that has crashed; a live one stays."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise HostError(str(path), "it is there and is no socket", "take it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise HostError(
                str(path), f"it cannot be looked at: {error.strerror}", "take it away"
            ) from None
    raise HostError(
        str(path), "another server is alive on it", "stop that one, or serve on another path"
    )
