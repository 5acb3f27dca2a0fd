"""The HTTP connection: aiohttp's protocol, able to give its socket away.

``POST /containers/{id}/attach``, ``POST /exec/{id}/start`` and ``POST /build/session/{id}/ssh`` are *hijackable*: what
follows their head may be a body and then the user's input, in packets cut anywhere. So aiohttp's parser gets bytes only
up to the end of each request's head, and what comes behind a hijackable one is kept here, with or without ``Upgrade``.
"""

import asyncio
import contextlib
import logging
import os
import re
import select
import socket
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from minid.api.answers import json_response
from minid.api.failure import BodyTooLarge
from minid.api.peer import Peer, RemotePeer, find_peer
from minid.errors import InvalidParameter

HIJACKABLE = re.compile(
    r"(?:/v[0-9.]+)?/(?:containers/[^/?]+/attach|exec/[^/?]+/start|build/session/[^/?]+/ssh)(?:\?.*)?"
)
SURPLUS_BYTES = 64 << 10
log = logging.getLogger(__name__)

PIECES_MAX = 256
HEAD_END = b"\r\n\r\n"


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_arrival",
        "_body",
        "_end",
        "_eof",
        "_lost",
        "_surplus",
        "_tail",
        "_taken",
        "_upgrade_asked",
        "_wanted_bytes",
        "answering",
        "peer",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tail = b""  # the last three bytes: a head's end may be cut by packets
        self._body: Any = None  # the payload of the latest request
        self._surplus: bytearray | None = None  # what came behind the head of a hijackable request
        self._upgrade_asked = False  # aiohttp's parser then takes no more HTTP
        self._end = 0  # where the body ends in the surplus
        self._wanted_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._eof = False
        self._taken = False
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.answering = False  # the headers of a streamed answer are out
        self.peer: Peer | RemotePeer | None = (
            None  # set before the connection is made if the socket does not tell
        )

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.peer is None:
            self.peer = find_peer(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._surplus is not None:
            self._surplus += data
            self._pause_when_full()
            self._wake()
            return
        start = pieces = 0
        while self._surplus is None:
            # In a body an end of head means nothing, and does no harm to cut at unless there are thousands.
            pieces += 1
            end = self._head_end(data, start) if pieces < PIECES_MAX else -1
            if end < 0:
                self._tail = (self._tail + data[max(start, len(data) - 3) :])[-3:]
                self._feed(data[start:] if start else data)
                return
            self._tail = b""
            self._feed(data[start:end])
            if self._hijackable_now():
                self._surplus = bytearray(data[end:])
                self._pause_when_full()
            start = end
            if start == len(data):
                return

    def eof_received(self) -> bool | None:  # type: ignore[override]
        if self._surplus is None:
            idle = self._request_count == 0 or (self._waiter is not None and not self._waiter.done())
            if idle or not self._only_half_closed():
                return None  # the transport closes, and a handler under way is cancelled
            self._close = not self._messages
        self._eof = True
        self._wake()
        return True  # the client has ended its half, and still reads

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._taken:
            self._task_handler = None  # or the base class would cancel the handler that took the socket
        if not self._lost.done():
            self._lost.set_result(None)
        super().connection_lost(exc)
        self._wake()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp calls for bytes that are no HTTP: an error like any other, and no traceback in the log."""
        log.info("malformed request from %s: %s", self.peer, exc)
        response = json_response({"message": f"malformed HTTP request: {message or exc}"}, status=status)
        response.force_close()
        return response

    # --- what handlers call

    def hijackable(self, request: web.BaseRequest) -> bool:
        """Whether this request may take the socket: a hijackable one is always the last that was read."""
        return self._surplus is not None and is_hijackable(request.method, request.raw_path)

    async def read_body(self, headers: Mapping[str, str], limit_bytes: int) -> bytes:
        """The hijackable request's body; whatever follows it stays for ``take``."""
        if headers.get("Transfer-Encoding", "").lower() == "chunked":
            return await self._read_chunks(limit_bytes)
        try:
            length = int(headers.get("Content-Length") or 0)
        except ValueError:
            raise InvalidParameter("Content-Length is not a number") from None
        if length > limit_bytes:
            raise BodyTooLarge(f"the request body has {length} bytes, at most {limit_bytes} are taken")
        return await self._read_exactly(length)

    def take(self, head: bytes) -> tuple[int, bytes]:
        """Send ``head`` and give up the socket: its descriptor, now the caller's, and bytes that came already.

        The descriptor is non-blocking. aiohttp's side is closed without shutting the connection down. Raises
        ``ConnectionResetError`` when the client has gone, ``BlockingIOError`` when it reads nothing.
        """
        transport = self.transport
        if transport is None or transport.is_closing() or self._surplus is None:
            raise ConnectionResetError("the client has gone")
        if transport.get_write_buffer_size():
            raise BlockingIOError("the client does not read the answers to its earlier requests")
        transport.pause_reading()
        fd = os.dup(transport.get_extra_info("socket").fileno())
        try:
            _send(fd, head)
        except OSError:
            os.close(fd)
            raise
        initial = bytes(self._surplus[self._end :])
        self._surplus.clear()
        self._taken = True
        transport.close()
        return fd, initial

    async def given_up(self) -> None:
        """Until aiohttp's own side of a taken socket is closed."""
        await self._lost

    def goes_on(self, request: web.BaseRequest) -> bool:
        """``request`` was answered as plain HTTP: whether another one can follow."""
        if self.hijackable(request) and not self._put_back():
            return False
        return not self._eof or bool(self._messages)

    # --- inside

    def _put_back(self) -> bool:
        """Give what came behind a hijackable request to the parser after all; it takes none after an Upgrade."""
        assert self._surplus is not None
        if self._taken or self._upgrade_asked:
            if self._body is not None and not self._body.is_eof():
                self._body.feed_eof()  # or aiohttp would wait for a body that was read here
            return False
        surplus, self._surplus, self._end = bytes(self._surplus), None, 0
        if self.transport is not None and not self.transport.is_closing():
            if not self._eof:
                self.transport.resume_reading()
            self.data_received(surplus)
        return True

    def _only_half_closed(self) -> bool:
        """``printf … | nc -N``: no more requests, but the answer is waited for. TCP can't tell, so no there."""
        stream = self.transport.get_extra_info("socket") if self.transport else None
        if stream is None or stream.family != socket.AF_UNIX:
            return False
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # POLLHUP is always reported: the other end is closed for both
        return not poll.poll(0)

    def _feed(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before and self._messages:
            self._body = self._messages[-1][1]

    def _head_end(self, data: bytes, start: int) -> int:
        """The index behind the next end of a head, or -1."""
        if start == 0 and self._tail:
            seam = (self._tail + data[:3]).find(HEAD_END)
            if seam >= 0:
                return seam + len(HEAD_END) - len(self._tail)
        found = data.find(HEAD_END, start)
        return found + len(HEAD_END) if found >= 0 else -1

    def _hijackable_now(self) -> bool:
        if not self._messages:
            return False
        message = self._messages[-1][0]
        if not is_hijackable(getattr(message, "method", ""), getattr(message, "path", "")):
            return False
        self._upgrade_asked = bool(getattr(message, "upgrade", False))
        return True

    def _pause_when_full(self) -> None:
        if self._surplus is not None and len(self._surplus) >= max(SURPLUS_BYTES, self._wanted_bytes):
            with contextlib.suppress(RuntimeError):
                if self.transport is not None:
                    self.transport.pause_reading()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _more(self, size_bytes: int) -> None:
        """Until the surplus holds ``size_bytes`` behind what was read of it."""
        assert self._surplus is not None
        self._wanted_bytes = self._end + size_bytes + 1
        while len(self._surplus) < self._end + size_bytes:
            if self._eof or self.transport is None:
                raise InvalidParameter("the request body is incomplete: unexpected EOF")
            self.transport.resume_reading()
            self._arrival = self._loop.create_future()
            await self._arrival

    async def _read_exactly(self, size_bytes: int) -> bytes:
        await self._more(size_bytes)
        assert self._surplus is not None
        start, self._end = self._end, self._end + size_bytes
        return bytes(self._surplus[start : self._end])

    async def _read_line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\r\n"):
            line += await self._read_exactly(1)
            if len(line) > 1024:
                raise InvalidParameter("the request body's chunks are malformed")
        return bytes(line[:-2])

    async def _read_chunks(self, limit_bytes: int) -> bytes:
        """RFC 9112 § 7.1, trailers ignored."""
        body = bytearray()
        while True:
            size_text = (await self._read_line()).split(b";", 1)[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text):
                raise InvalidParameter("the request body's chunks are malformed")
            size = int(size_text, 16)
            if len(body) + size > limit_bytes:
                raise BodyTooLarge(f"the request body has more than {limit_bytes} bytes")
            if size == 0:
                while await self._read_line():
                    pass
                return bytes(body)
            body += await self._read_exactly(size)
            if await self._read_exactly(2) != b"\r\n":
                raise InvalidParameter("the request body's chunks are malformed")


def is_hijackable(method: str, raw_path: str) -> bool:
    return method == "POST" and HIJACKABLE.fullmatch(raw_path) is not None


def _send(fd: int, data: bytes) -> None:
    """All of ``data`` or ``BlockingIOError``; a fresh socket's buffer always takes a head."""
    stream = socket.socket(fileno=fd)
    try:
        sent = stream.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    finally:
        stream.detach()
    if sent != len(data):
        raise BlockingIOError("the client does not read")
