"""The port holder: one process that keeps the sockets of all published ports and serves what arrives there.

Nearly nothing does: the firewall leads packets to the containers before any socket sees them. What it can't
lead are connections to ::1 and to link-local addresses, IPv6 clients of a container that has IPv4 only, and,
with ``published_ports: host-policy``, what comes from other machines (so that the host's input rules decide).
Those containers see a connection from the host.

Forked like a shim, and like a shim it goes on when the daemon ends. It listens on a unix socket for the
packets of ``shim.messages``; requests carry ``"n"``, which the answer repeats:

    {"op": "hold", "id": …, "protocol": …, "targets": [[ip, port], …], "record": {…}}   with the bound sockets
    {"op": "aim", "id": …, "targets": …}    the container has other addresses now
    {"op": "release", "id": …}
    {"op": "list", "after": …}      the answer has "ports", {id: record}, of the next ``PAGE`` after that id

It ends when it holds nothing for ``IDLE_S``, or when the daemon ends and it holds nothing. Standard library only.
"""

import contextlib
import gc
import os
import resource
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from minid.kernel import process
from minid.network.relay import TcpListener, UdpListener
from minid.shim import messages
from minid.shim.loop import READ, Loop

IDLE_S = 10.0
PAGE = 100  # records an answer, which is one packet

Target = tuple[str, int]


def serve(request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """A job that goes on: be the port holder, listening at ``request["socket"]``, a path that is taken from
    whoever had it. ``fds[0]``, a socket, is told when it does.
    """
    path = request["socket"]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.bind(path)
    os.chmod(path, 0o600)
    control.listen()
    with socket.socket(fileno=fds[0]) as ready:
        ready.send(b"ready")
    _detach(control)
    gc.enable()  # the forkserver does without, for its children's sake
    Holder(control, path).run()
    os._exit(0)  # whoever asked has not waited for an answer


def _detach(control: socket.socket) -> None:
    os.setsid()
    process.set_name("minid-ports")
    process.set_title("minid: published ports")
    process.set_dumpable(False)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    keep = control.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Holder:
    """The process's whole state: control connections, and the listeners of each port."""

    def __init__(self, control: socket.socket, path: str) -> None:
        self._loop = Loop()
        self._control = control
        self._path = path
        self._inode = os.stat(path).st_ino
        self._clients: dict[int, socket.socket] = {}
        self._listeners: dict[str, list[TcpListener | UdpListener]] = {}
        self._records: dict[str, Any] = {}

    def run(self) -> None:
        self._control.setblocking(False)
        self._loop.watch(self._control.fileno(), READ, self._accept)
        self._end_when_idle()
        self._loop.run()
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    def _end_when_idle(self) -> None:
        self._loop.set_deadline("idle", IDLE_S, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if not self._records:
            self._loop.stop()

    def _accept(self, events: int) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._control.accept()
            client.setblocking(False)
            number = client.fileno()
            self._clients[number] = client
            self._loop.watch(number, READ, lambda events: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            message, fds = messages.receive(client)
        except BlockingIOError:
            return
        except (OSError, messages.MessageError):
            message, fds = None, []
        if message is None:
            self._loop.forget(client.fileno())
            del self._clients[client.fileno()]
            client.close()
            if not self._clients:
                self._end_if_idle()  # the daemon has ended
            return
        answer: dict[str, Any] = {"n": message.get("n", 0)}
        try:
            answer |= self._do(message, fds)
        except Exception as error:
            answer |= {
                "error": str(error),
                "kind": type(error).__name__,
                "errno": getattr(error, "errno", None),
            }
        with contextlib.suppress(OSError):
            messages.send(client, answer)

    def _do(self, message: messages.Message, fds: list[int]) -> dict[str, Any]:
        op = message["op"]
        if op == "hold":
            self._hold(message, fds)
        elif op == "aim":
            targets = _targets(message)
            for listener in self._listeners[message["id"]]:
                listener.aim(_target_of(listener.family, targets))
        elif op == "release":
            self._release(message["id"])
        elif op == "list":
            names = sorted(name for name in self._records if name > message["after"])
            return {"ports": {name: self._records[name] for name in names[:PAGE]}}
        else:
            raise ValueError(f"unknown request {op!r}")
        return {}

    def _hold(self, message: messages.Message, fds: list[int]) -> None:
        number = message["id"]
        self._release(number)
        sockets = [socket.socket(fileno=fd) for fd in fds]
        targets = _targets(message)
        self._records[number] = message["record"]
        kind = UdpListener if message["protocol"] == "udp" else TcpListener
        self._listeners[number] = [kind(self._loop, one, _target_of(one.family, targets)) for one in sockets]

    def _release(self, number: str) -> None:
        self._records.pop(number, None)
        for listener in self._listeners.pop(number, []):
            listener.close()
        if not self._records:
            self._end_when_idle()


def _targets(message: messages.Message) -> list[Target]:
    if message.get("protocol") == "sctp":
        return []  # only kept
    return [(ip, port) for ip, port in message["targets"]]


def _target_of(family: int, targets: Sequence[Target]) -> Target | None:
    """The container's address to serve a listener of ``family`` with: of the same family if there is one.

    ``None``: the socket is only kept.
    """
    for ip, port in targets:
        if (":" in ip) == (family == socket.AF_INET6):
            return ip, port
    return targets[0] if targets else None
