"""The daemons that a shim talks to: the one that started it, and those that find it later by its socket."""

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from minid.shim import messages
from minid.shim.loop import READ, Loop

Handler = Callable[[messages.Message, list[int], socket.socket], messages.Message | None]


class Daemons:
    """Connections and the socket to connect to.

    ``handle`` is called with each request, its descriptors (it takes out what it keeps) and its connection, and
    returns the answer, or None if that comes later (``tell``); what it raises is answered as an error.
    ``on_gone`` is called when a connection has ended.
    """

    def __init__(self, loop: Loop, handle: Handler, on_gone: Callable[[], None]) -> None:
        self._loop = loop
        self._handle = handle
        self._on_gone = on_gone
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._path = ""
        self._identity: tuple[int, ...] = ()

    def add(self, connection: socket.socket) -> None:
        self._connections.append(connection)
        self._loop.watch(connection.fileno(), READ, lambda events: self._on_request(connection))

    def listen(self, path: str) -> None:
        """Let later daemons connect at ``path``. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(path)  # 0700, by the umask
            listener.listen(4)
            self._identity = _identity(path)
        except OSError:
            listener.close()
            raise
        self._path = path
        self._serve(listener)

    def _serve(self, listener: socket.socket) -> None:
        self._listener = listener
        self._loop.watch(listener.fileno(), READ, self._on_connection)

    def stop_listening(self) -> None:
        """No daemon has to find us any more; idempotent. By now the path may be that of the next run's shim."""
        if self._listener is None:
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            if _identity(self._path) == self._identity:
                os.unlink(self._path)
        except FileNotFoundError:
            pass

    def tell(self, connection: socket.socket, message: messages.Message) -> None:
        try:
            messages.send(connection, message)
        except OSError:
            pass  # its end of stream will be read next

    def publish(self, event: messages.Message) -> None:
        """Tell all of them."""
        for connection in self._connections:
            self.tell(connection, event)

    def notes(self) -> dict[str, Any]:
        """For ``resume``."""
        return {
            "connections": [each.fileno() for each in self._connections],
            "listener": -1 if self._listener is None else self._listener.fileno(),
            "path": self._path,
            "identity": self._identity,
        }

    def resume(self, notes: dict[str, Any]) -> None:
        for fd in notes["connections"]:
            self.add(socket.socket(fileno=fd))
        self._path, self._identity = notes["path"], tuple(notes["identity"])
        if notes["listener"] >= 0:
            self._serve(socket.socket(fileno=notes["listener"]))

    def _on_connection(self, events: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again, or there are no descriptors left
            return
        self.add(connection)

    def _on_request(self, connection: socket.socket) -> None:
        try:
            message, fds = messages.receive(connection)
        except (OSError, messages.MessageError):
            message, fds = None, []
        if message is None:
            self._loop.forget(connection.fileno())
            self._connections.remove(connection)
            connection.close()
            self._on_gone()
            return
        try:
            answer = self._handle(message, fds, connection)
        except OSError as error:
            answer = {"error": str(error), "kind": type(error).__name__, "errno": error.errno}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__}
        finally:
            _close(fds)  # which nobody has taken
        if answer is not None:
            self.tell(connection, {**answer, "n": message["n"]})


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _identity(path: str) -> tuple[int, ...]:
    """What tells a file from another one that got its name and even its inode number."""
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_ctime_ns
