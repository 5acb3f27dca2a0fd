"""Streams: the upgraded connection that attach and exec hand to a container, and the framing of its output.

Frames: ``Engine API v1.44 § ContainerAttach, "Stream format"``: one byte stream number (1 stdout, 2 stderr),
three zero bytes, the length as four bytes big-endian, the data. With a TTY there is one raw stream instead.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import struct
import sys
import termios
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from aiohttp import web

from minid.api.call import Call
from minid.api.failure import message_of
from minid.containers.model import Client
from minid.errors import InvalidParameter

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
STREAM_NUMBER = {"stdin": 0, "stdout": 1, "stderr": 2}
BATCH_BYTES = 64 << 10
HEAD_TIMEOUT_S = 0.25
HEAD_INTERVAL_S = 0.0002

log = logging.getLogger(__name__)


class Hijacked(web.StreamResponse):
    """The answer of a request whose socket is gone: nothing is left to prepare or to write."""

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def frame(stream: str, data: bytes) -> bytes:
    return struct.pack(">BxxxL", STREAM_NUMBER[stream], len(data)) + data


def content_type(call: Call, tty: bool) -> str:
    """What the stream of a container with or without a TTY is called at the client's API version."""
    return RAW if tty or not call.after(1, 42) else MULTIPLEXED


def upgrade_head(call: Call, tty: bool) -> bytes:
    """The status line and headers, as dockerd writes them: 101 if the client asked for it, else 200."""
    if "Upgrade" in call.request.headers:
        status, kind = "101 UPGRADED", content_type(call, tty)
        extra = {"Connection": "Upgrade", "Upgrade": "tcp"}
    else:
        status, kind, extra = "200 OK", RAW, {}
    headers = {"Content-Type": kind, **extra, **call.headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def hijack(
    call: Call, *, tty: bool, hand_over: Callable[[Client], Awaitable[None]], output_at_once: bool
) -> web.StreamResponse:
    """Answer the request, take its socket and give it to ``hand_over``.

    ``output_at_once``: the container may write as soon as it has the socket; then the client first gets the time
    to read the answer's head alone. Else ``hand_over`` is called before the event loop can run anything else, so
    what it registers before its first ``await`` is ordered before any later request of this client (attach
    before start). It owns the descriptor and closes it whatever happens; an error that it raises can no longer
    be an HTTP answer and is written into the stream, as dockerd does.
    """
    connection = call.connection
    if not connection.hijackable(call.request):
        raise InvalidParameter("an attach or exec start cannot be pipelined behind another request's body")
    fd, initial = connection.take(upgrade_head(call, tty))
    if output_at_once and not reads_to_the_byte(call.request.headers.get("User-Agent", "")):
        try:
            await head_is_read(fd)
        except asyncio.CancelledError:
            os.close(fd)
            raise
    spare = os.dup(fd)
    try:
        try:
            await hand_over(Client(fd, initial))
        except Exception as error:
            log.info("%s: %s", call.request.path, error)
            text = message_of(error).encode("utf-8", "replace") + b"\r\n"
            _tell(spare, text if tty else frame("stdout", text))
    finally:
        os.close(spare)
        await connection.given_up()
    return Hijacked(status=101)


def reads_to_the_byte(user_agent: str) -> bool:
    """Whether the client is known not to lose what comes together with the head; see ``head_is_read``."""
    return user_agent.startswith(("minictl", "Docker-Client/"))


async def head_is_read(fd: int) -> None:
    """Until the client has taken everything sent so far, at most ``HEAD_TIMEOUT_S``.

    docker-py reads the head through a buffer and the stream past it: output that arrives together with the head is
    lost to it. dockerd is too slow for that to happen. SIOCOUTQ counts what a unix socket's peer has not read.
    """
    if _unread(fd) == 0:
        return
    deadline = asyncio.get_running_loop().time() + HEAD_TIMEOUT_S
    while _unread(fd) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 (no event tells)
        await asyncio.sleep(HEAD_INTERVAL_S)


def _unread(fd: int) -> int:
    """``unix(7)`` SIOCOUTQ (the same number as TIOCOUTQ); 0 where the socket can't tell."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def _tell(fd: int, data: bytes) -> None:
    """Last words on a connection, if it takes them."""
    stream = socket.socket(fileno=fd)
    try:
        with contextlib.suppress(OSError):
            stream.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            stream.shutdown(socket.SHUT_RDWR)
    finally:
        stream.detach()


async def send_batched(response: Any, pieces: AsyncGenerator[bytes, None]) -> None:
    """Write all ``pieces``, those that come without waiting together, about ``BATCH_BYTES`` at a time."""
    buffer = bytearray()
    filled, emptied = asyncio.Event(), asyncio.Event()

    async def collect() -> None:
        try:
            async for piece in pieces:
                buffer.extend(piece)
                filled.set()
                if len(buffer) >= BATCH_BYTES:
                    emptied.clear()
                    await emptied.wait()
        finally:
            filled.set()

    collector = asyncio.create_task(collect())
    try:
        while buffer or not collector.done():
            if not buffer:
                await filled.wait()
                filled.clear()
                continue
            batch = bytes(buffer)
            buffer.clear()
            emptied.set()
            await response.write(batch)
        await collector
    finally:
        collector.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await collector
        await pieces.aclose()
