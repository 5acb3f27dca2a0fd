"""Network namespaces for tests, joined by bridges and veth pairs. Nothing outside of them is touched.

A namespace lives as long as a descriptor of it, has no name and leaves nothing behind. Code runs inside in a
thread that has entered it; sockets that it makes stay in the namespace and can be used from anywhere.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from minid.kernel import syscall

T = TypeVar("T")
TIMEOUT_S = 3.0
REFUSED_S = 0.4  # how long a packet that must not arrive is waited for


def _in_thread(function: Callable[[], T]) -> T:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    fine, result = outcome[0]
    if not fine:
        raise result
    return cast("T", result)


class Namespace:
    """``close()`` lets the kernel take it away, with all its devices."""

    def __init__(self) -> None:
        def make() -> int:
            syscall.unshare(syscall.CLONE_NEWNET)
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        self.fd = _in_thread(make)
        self._sockets: list[socket.socket] = []
        self.sh("ip link set lo up")

    def close(self) -> None:
        self.close_sockets()
        os.close(self.fd)

    def close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def inside(self, function: Callable[[], T]) -> T:
        """Run ``function`` in a thread that is in this namespace."""

        def run() -> T:
            syscall.setns(self.fd, syscall.CLONE_NEWNET)
            return function()

        return _in_thread(run)

    def sh(self, *commands: str) -> str:
        """Each command's output; raises AssertionError with what it said if one fails."""

        def run() -> str:
            output = ""
            for command in commands:
                done = subprocess.run(command.split(), capture_output=True, text=True)
                assert done.returncode == 0, f"{command}: {done.stderr}"
                output += done.stdout
            return output

        return self.inside(run)

    def write(self, path: str, text: str) -> None:
        def run() -> None:
            with open(path, "w") as file:
                file.write(text)

        self.inside(run)

    def nft(self, rules: str) -> str:
        """Load rules as another program would."""

        def run() -> str:
            done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return self.inside(run)

    def _keep(self, one: socket.socket) -> socket.socket:
        self._sockets.append(one)
        return one

    def listen(self, ip: str, port: int) -> socket.socket:
        return self._keep(self.inside(lambda: _bound(socket.SOCK_STREAM, ip, port)))

    def udp(self, ip: str, port: int) -> socket.socket:
        return self._keep(self.inside(lambda: _bound(socket.SOCK_DGRAM, ip, port)))

    def connect(self, ip: str, port: int, timeout_s: float = TIMEOUT_S, source: str = "") -> socket.socket:
        """A TCP connection; raises OSError (TimeoutError when nothing answers)."""
        here = (source, 0) if source else None
        return self._keep(
            self.inside(lambda: socket.create_connection((ip, port), timeout=timeout_s, source_address=here))
        )

    def reaches(self, ip: str, port: int) -> bool:
        """Whether a connection is accepted; False when nothing answers for ``REFUSED_S``."""
        try:
            self.connect(ip, port, timeout_s=REFUSED_S)
        except OSError:
            return False
        return True

    def join(self, other: "Namespace", bridge: str, device: str, *addresses: str) -> None:
        """A veth pair: ``eth0`` here with ``addresses``, ``device`` on ``other``'s bridge ("" for none)."""
        other.sh(f"ip link add {device} type veth peer name eth0 netns {self.path}")
        if bridge:
            other.sh(f"ip link set {device} master {bridge}")
        other.sh(f"ip link set {device} up")
        for address in addresses:
            self.sh(f"ip addr add {address} dev eth0" + (" nodad" if ":" in address else ""))
        self.sh("ip link set eth0 up")


def _bound(kind: int, ip: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    bound = socket.socket(family, kind)
    bound.settimeout(TIMEOUT_S)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((ip, port))
    if kind == socket.SOCK_STREAM:
        bound.listen()
    return bound


def peer_of(listener: socket.socket, client: socket.socket) -> str:
    """Accept ``client``'s connection and pass a few bytes each way; the address it is seen to come from."""
    accepted, address = listener.accept()
    with accepted:
        accepted.settimeout(TIMEOUT_S)
        client.sendall(b"ping")
        assert accepted.recv(4) == b"ping"
        accepted.sendall(b"pong")
        assert client.recv(4) == b"pong"
    return str(address[0])
