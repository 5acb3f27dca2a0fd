"""The nameserver of one container: sockets in its network namespace, served by the daemon's event loop.

A container can send what it wants, as fast as it wants: whatever one costs the loop is bounded.
"""

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from minid.kernel import netns
from minid.kernel.nftables.transaction import Connection
from minid.network import dns, forwarder, redirect
from minid.network.forwarder import Server
from minid.network.zone import View

QUERIES_A_TURN = 16
REST_S = 0.002  # after so many
FORWARDED_MAX = 64  # at a time, of one container
CONNECTIONS_MAX = 32
IDLE_S = 10.0
DEAF_S = 0.5
SETTLE_S = 1.0
BACKLOG = 64

log = logging.getLogger(__name__)


class Sockets:
    """In a container's namespace, bound and led to; made by a thread that visits it, and later ``settle``d."""

    def __init__(
        self, namespace: int, udp: socket.socket, tcp: socket.socket, nftables: Connection | None
    ) -> None:
        self.namespace = namespace
        self.udp = udp
        self.tcp = tcp
        self._nftables = nftables

    @classmethod
    def open(cls, pid: int, start_ticks: int) -> "Sockets":
        """Blocking. Raises ProcessLookupError if the process has ended, OSError."""
        namespace = netns.open_of(pid, start_ticks)
        try:
            return cls._open(namespace)
        except BaseException:
            netns.close(namespace)
            raise

    @classmethod
    def _open(cls, namespace: int) -> "Sockets":
        with netns.inside(namespace):
            udp, tcp = _bound(0)
            connection = _find_nftables()
        try:
            if connection is None:
                raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
            redirect.ensure(connection, udp.getsockname()[1], tcp.getsockname()[1])
        except OSError as error:
            log.warning("no nftables for a container: its nameserver takes port 53", extra={"error": error})
            udp.close()
            tcp.close()
            with netns.inside(namespace):
                udp, tcp = _bound(redirect.PORT)
        return cls(namespace, udp, tcp, connection)

    def settle(self) -> None:
        """Blocking, up to 20 ms: closing a netlink socket of nftables waits for the kernel to free rules that
        were removed here (by older kernels: anywhere). Nobody should wait for it. Idempotent.
        """
        if self._nftables is not None:
            self._nftables.close()
            self._nftables = None

    def make(self, family: int, kind: int) -> socket.socket:
        """A new socket in the namespace."""
        with netns.inside(self.namespace):
            return socket.socket(family, kind)

    def close(self) -> None:
        if self.namespace >= 0:
            self.udp.close()
            self.tcp.close()
            netns.close(self.namespace)
            self.namespace = -1


def _find_nftables() -> Connection | None:
    """None if the kernel has none."""
    try:
        return Connection()
    except OSError:
        return None


def _bound(port: int) -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for one in (udp, tcp):
            one.setblocking(False)
            one.bind((redirect.ADDRESS, port))
        tcp.listen(BACKLOG)
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


class Nameserver:
    """Serves from ``start`` until ``close``. ``view`` is what the container can look up now, ``servers`` whom
    to ask about the rest: the host's resolvers (None), asked from here, or its own, asked from inside.
    """

    def __init__(
        self,
        sockets: Sockets,
        view: Callable[[], View],
        own_servers: tuple[Server, ...],
        host_servers: Callable[[], tuple[Server, ...]],
    ) -> None:
        self._sockets = sockets
        self._view = view
        self._own_servers = own_servers
        self._host_servers = host_servers
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._forwarded = 0
        self._connections = 0
        self._resting: asyncio.TimerHandle | None = None  # UDP
        self._deaf: asyncio.TimerHandle | None = None  # TCP
        self._settling: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._settling = self._loop.call_later(SETTLE_S, self._settle)
        self._loop.add_reader(self._sockets.udp.fileno(), self._read)
        self._loop.add_reader(self._sockets.tcp.fileno(), self._accept)

    def close(self) -> None:
        """At once; what is under way ends without an answer. Idempotent."""
        if self._sockets.namespace < 0:
            return
        for timer in (self._resting, self._deaf, self._settling):
            if timer is not None:
                timer.cancel()
        if self._settling is not None:
            self._settle()
        self._loop.remove_reader(self._sockets.udp.fileno())
        self._loop.remove_reader(self._sockets.tcp.fileno())
        for task in tuple(self._tasks):
            task.cancel()
        self._sockets.close()

    def _settle(self) -> None:
        self._settling = None
        self._loop.run_in_executor(None, self._sockets.settle)

    # -- UDP

    def _read(self) -> None:
        for _ in range(QUERIES_A_TURN):
            try:
                packet, client = self._sockets.udp.recvfrom(dns.QUERY_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier answer
            response = dns.answer(packet, self._view())
            if isinstance(response, dns.Forward):
                if self._forwarded < FORWARDED_MAX:
                    self._spawn(self._forward_udp(packet, client, response.size_bytes))
            elif response is not None:
                self._send(response, client)
        self._loop.remove_reader(self._sockets.udp.fileno())
        self._resting = self._loop.call_later(REST_S, self._resume)

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._sockets.udp.fileno(), self._read)

    def _send(self, response: bytes, client: Any) -> None:
        try:
            self._sockets.udp.sendto(response, client)
        except OSError:
            pass  # the client does not read, or is gone; it asks again if it wants to know

    async def _forward_udp(self, packet: bytes, client: Any, size_bytes: int) -> None:
        response = await self._elsewhere(packet, udp=True)
        if self._sockets.namespace >= 0:
            self._send(dns.fits(packet, response, size_bytes), client)

    async def _elsewhere(self, packet: bytes, *, udp: bool) -> bytes:
        self._forwarded += 1
        try:
            if self._own_servers:
                response = await forwarder.ask(
                    packet, self._own_servers, udp=udp, make_socket=self._sockets.make
                )
            else:
                response = await forwarder.ask(packet, self._host_servers(), udp=udp)
        except OSError as error:
            log.debug("a query could not be forwarded", extra={"error": error})
            response = None
        finally:
            self._forwarded -= 1
        return response or dns.failure(packet, dns.SERVFAIL)

    # -- TCP

    def _accept(self) -> None:
        try:
            connection, _ = self._sockets.tcp.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no descriptor left: it would be told again at once
            self._loop.remove_reader(self._sockets.tcp.fileno())
            self._deaf = self._loop.call_later(DEAF_S, self._hear)
            return
        if self._connections >= CONNECTIONS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        self._connections += 1
        self._spawn(self._converse(connection))

    def _hear(self) -> None:
        self._deaf = None
        self._loop.add_reader(self._sockets.tcp.fileno(), self._accept)

    async def _converse(self, connection: socket.socket) -> None:
        """One query after the other until the client goes, or says nothing for ``IDLE_S``."""
        try:
            with connection:
                while True:
                    async with asyncio.timeout(IDLE_S):
                        (length,) = struct.unpack(">H", await forwarder.receive(connection, 2))
                        packet = await forwarder.receive(connection, length)
                    response = dns.answer(packet, self._view(), udp=False)
                    if isinstance(response, dns.Forward):
                        if self._forwarded < FORWARDED_MAX:
                            response = await self._elsewhere(packet, udp=False)
                        else:
                            response = dns.failure(packet, dns.SERVFAIL)
                    if response is None:
                        return
                    async with asyncio.timeout(IDLE_S):
                        await self._loop.sock_sendall(connection, struct.pack(">H", len(response)) + response)
        except (OSError, EOFError, TimeoutError):
            pass  # the client has gone, or seems to have
        finally:
            self._connections -= 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a nameserver failed", exc_info=error)
