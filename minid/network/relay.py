"""Passing on what arrives at a published port's socket: TCP connections, UDP flows. Standard library only.

Both run in the loop of the port holder (``proxy.py``). A side that doesn't read holds back the other; nothing
is buffered beyond one read.
"""

import contextlib
import errno
import socket
import struct
import time
from functools import partial
from typing import Any

from minid.shim.loop import GONE, READ, WRITE, Loop

CHUNK_BYTES = 256 * 1024
DATAGRAM_BYTES = 65536
UDP_IDLE_S = 90.0  # as Docker's proxy
ACCEPTS_A_TURN = 64
_RETRY_S = 0.5  # after running out of descriptors
_IP_PKTINFO, _IPV6_PKTINFO = 8, 50

Target = tuple[str, int]
FlowKey = tuple[Any, bytes]  # the client's address, and packet information for the answers to it

_buffer = memoryview(bytearray(CHUNK_BYTES))  # one thread, and never held across two turns


class TcpListener:
    """Accepts connections and connects each to ``target``; with ``None`` it only keeps the port.

    Closing it ends no connection.
    """

    def __init__(self, loop: Loop, listener: socket.socket, target: Target | None) -> None:
        self._loop = loop
        self._listener = listener
        self._target: Target | None = None
        listener.setblocking(False)
        self.aim(target)

    @property
    def family(self) -> int:
        return self._listener.family

    def aim(self, target: Target | None) -> None:
        """Serve connections from now on with another target."""
        self._target = target
        if target is not None:
            self._loop.watch(self._listener.fileno(), READ, self._accept)
        else:
            self._loop.forget(self._listener.fileno())

    def close(self) -> None:
        self.aim(None)
        self._listener.close()

    def _accept(self, events: int) -> None:
        assert self._target is not None
        for _ in range(ACCEPTS_A_TURN):
            try:
                client, _address = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                return
            try:
                Connection(self._loop, client, self._target)
            except OSError:
                client.close()

    def _pause(self) -> None:
        number = self._listener.fileno()
        self._loop.forget(number)
        self._loop.set_deadline(f"accept {number}", _RETRY_S, self._resume)

    def _resume(self) -> None:
        if self._target is not None:
            self._loop.watch(self._listener.fileno(), READ, self._accept)


class _Side:
    """One socket of a connection: what is still to be written to it, and how far it has ended."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.pending = b""
        self.input_ended = False  # it will send no more
        self.output_ended = False  # we have told it that no more will come
        self.watched = 0


class Connection:
    """A client's connection and ours to the container, until both directions have ended."""

    def __init__(self, loop: Loop, client: socket.socket, target: Target) -> None:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        client.setblocking(False)
        self._loop = loop
        self._client, self._server = _Side(client), _Side(server)
        try:
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                server.connect(target)
        except OSError:
            server.close()
            raise
        loop.watch(server.fileno(), WRITE, self._on_connected)

    def _on_connected(self, events: int) -> None:
        if self._server.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._reset()
            return
        self._server.watched = WRITE
        self._watch()

    def _watch(self) -> None:
        """Wait for what can go on: reading where nothing is pending for the other, writing where it is."""
        for side, other in ((self._client, self._server), (self._server, self._client)):
            events = 0
            if not side.input_ended and not other.pending:
                events |= READ
            if side.pending:
                events |= WRITE
            if events == side.watched:
                continue
            side.watched = events
            number = side.socket.fileno()
            if events:
                self._loop.watch(number, events, partial(self._on_events, side, other))
            else:
                self._loop.forget(number)  # a hang-up would be reported over and over

    def _on_events(self, side: _Side, other: _Side, events: int) -> None:
        try:
            if side.pending and events & (WRITE | GONE):
                side.pending = side.pending[side.socket.send(side.pending) :]
                if not side.pending and other.input_ended:
                    self._end_output(side)
            if events & (READ | GONE) and not side.input_ended and not other.pending:
                self._pass_on(side, other)
        except BlockingIOError:
            pass
        except OSError:
            self._reset()
            return
        if self._client.output_ended and self._server.output_ended:
            self._close()
        else:
            self._watch()

    def _pass_on(self, side: _Side, other: _Side) -> None:
        size = side.socket.recv_into(_buffer)
        if size == 0:
            side.input_ended = True
            self._end_output(other)
            return
        try:
            sent = other.socket.send(_buffer[:size])
        except BlockingIOError:
            sent = 0
        if sent < size:
            other.pending = bytes(_buffer[sent:size])

    def _end_output(self, side: _Side) -> None:
        side.output_ended = True
        with contextlib.suppress(OSError):
            side.socket.shutdown(socket.SHUT_WR)

    def _reset(self) -> None:
        """The other side shall see what happened to this one: no orderly end."""
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        self._close()

    def _close(self) -> None:
        for side in (self._client, self._server):
            self._loop.forget(side.socket.fileno())
            side.socket.close()


class _Flow:
    """Datagrams of one client: a socket of ours that is connected to the container."""

    def __init__(self, upstream: socket.socket) -> None:
        self.upstream = upstream
        self.used_s = time.monotonic()


class UdpListener:
    """Passes datagrams on to ``target``, and its answers back from the address that the client had asked."""

    def __init__(self, loop: Loop, listener: socket.socket, target: Target | None) -> None:
        self._loop = loop
        self._listener = listener
        self._target: Target | None = None
        self._name = f"udp {listener.fileno()}"
        self._flows: dict[FlowKey, _Flow] = {}
        if listener.family == socket.AF_INET6:
            self._info = (socket.IPPROTO_IPV6, _IPV6_PKTINFO)
        else:
            self._info = (socket.IPPROTO_IP, _IP_PKTINFO)
        listener.setblocking(False)
        self.aim(target)

    @property
    def family(self) -> int:
        return self._listener.family

    def aim(self, target: Target | None) -> None:
        """Pass datagrams on to another target from now on; flows to the one before end."""
        self._target = target
        for key in tuple(self._flows):
            self._forget(key)
        if target is not None:
            self._loop.watch(self._listener.fileno(), READ, self._on_client)
        else:
            self._loop.forget(self._listener.fileno())

    def close(self) -> None:
        """Ends all flows."""
        self.aim(None)
        self._listener.close()

    def _forget(self, key: FlowKey) -> None:
        flow = self._flows.pop(key, None)
        if flow is not None:
            self._loop.forget(flow.upstream.fileno())
            flow.upstream.close()

    def _on_client(self, events: int) -> None:
        try:
            data, ancillary, _, client = self._listener.recvmsg(DATAGRAM_BYTES, 256)
        except OSError:
            return
        asked = b""
        for level, kind, info in ancillary:
            if (level, kind) == self._info:
                asked = _reply_from(info)
        key = (client, asked)
        try:
            flow = self._flows.get(key) or self._new_flow(key)
            flow.used_s = time.monotonic()
            flow.upstream.send(data)
        except OSError:
            pass  # a datagram may be lost; that the container refused it is no reason to forget the client

    def _new_flow(self, key: FlowKey) -> _Flow:
        assert self._target is not None
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        upstream = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            upstream.connect(self._target)
        except OSError:
            upstream.close()
            raise
        if not self._flows:
            self._loop.set_deadline(self._name, UDP_IDLE_S, self._sweep)
        flow = self._flows[key] = _Flow(upstream)
        self._loop.watch(upstream.fileno(), READ, lambda events: self._on_container(key, flow))
        return flow

    def _on_container(self, key: FlowKey, flow: _Flow) -> None:
        client, asked = key
        try:
            data = flow.upstream.recv(DATAGRAM_BYTES)
            flow.used_s = time.monotonic()
            self._listener.sendmsg([data], [(*self._info, asked)] if asked else [], 0, client)
        except OSError:
            pass

    def _sweep(self) -> None:
        oldest_s = time.monotonic() - UDP_IDLE_S
        for key, flow in tuple(self._flows.items()):
            if flow.used_s <= oldest_s:
                self._forget(key)
        if self._flows:
            self._loop.set_deadline(self._name, UDP_IDLE_S / 2, self._sweep)


def _reply_from(info: bytes) -> bytes:
    """Packet information as received, made into that of an answer (``ip(7)``, ``ipv6(7)``).

    The device is only said for link-local addresses: other answers go where the routes lead.
    """
    if len(info) == 12:
        return (
            struct.pack("=I", 0) + info[4:8] + bytes(4)
        )  # struct in_pktinfo: index, local address, header's
    if info[:1] == b"\xfe" and info[1] & 0xC0 == 0x80:
        return info
    return info[:16] + struct.pack("=I", 0)
