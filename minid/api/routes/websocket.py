"""Attach over WebSocket (RFC 6455): a container's streams for programs in browsers.

There are no frames of Docker's own: output is the raw stream, of the chosen streams together, as dockerd sends it.
"""

import asyncio
import contextlib
import logging
import socket
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from minid.api.call import Call
from minid.api.routes.attach import attach_options
from minid.api.routing import Routes
from minid.containers.model import Client
from minid.errors import Forbidden, InvalidParameter

routes = Routes()

PIECE_BYTES = 64 << 10
MESSAGE_BYTES = 4 << 20  # the longest message that a client may send
CLOSE_S = 2.0  # for the client to say goodbye in its turn

log = logging.getLogger(__name__)


@routes.get("/containers/{id}/attach/ws", stoppable=True)
async def container_attach_websocket(call: Call) -> web.StreamResponse:
    containers = call.services.containers
    options = attach_options(call, framed=False)
    if not call.after(1, 42):  # they were not looked at until then
        options = replace(options, stdin=True, stdout=True, stderr=True)
    container = containers.check_attach(call.parameters["id"], options)
    check_origin(call)
    answer = web.WebSocketResponse(timeout=CLOSE_S, autoping=True, compress=False, max_msg_size=MESSAGE_BYTES)
    if not answer.can_prepare(call.request):
        raise InvalidParameter("this operation is a WebSocket: the request has no valid Upgrade to one")
    answer.headers.update(call.headers)
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        attaching = asyncio.create_task(containers.attach(container.id, options, Client(theirs.detach())))
        try:
            await asyncio.sleep(0)  # it has begun before the client can know that it may start the container
            await answer.prepare(call.request)
            call.connection.answering = True
            await _carry(answer, ours, attaching, text=not call.after(1, 28))
        finally:
            attaching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await attaching
    return answer


async def _carry(
    answer: web.WebSocketResponse, stream: socket.socket, attaching: "asyncio.Task[None]", *, text: bool
) -> None:
    """Both ways until the container's side ends or the client goes."""
    output = asyncio.create_task(_send_output(answer, stream, text=text))
    given = asyncio.create_task(_take_input(answer, stream))
    try:
        await asyncio.wait([output, given], return_when=asyncio.FIRST_COMPLETED)
        if attaching.done() and (error := attaching.exception()) is not None:
            log.info("attach over WebSocket: %s", error)
            with contextlib.suppress(ConnectionError):
                await answer.send_bytes(f"{error}\r\n".encode())
        if output.done():
            await answer.close()
    finally:
        for task in (output, given):
            task.cancel()
        for result in await asyncio.gather(output, given, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, ConnectionError):
                raise result


async def _send_output(answer: web.WebSocketResponse, stream: socket.socket, *, text: bool) -> None:
    """``text``: clients before API 1.28 get text messages, whatever the bytes are."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(stream, PIECE_BYTES):
        if text:
            await answer.send_str(data.decode("utf-8", "replace"))
        else:
            await answer.send_bytes(data)


async def _take_input(answer: web.WebSocketResponse, stream: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async for message in answer:
        if message.type == WSMsgType.TEXT:
            await loop.sock_sendall(stream, message.data.encode())
        elif message.type == WSMsgType.BINARY:
            await loop.sock_sendall(stream, message.data)


def check_origin(call: Call) -> None:
    """Browsers let any page open a WebSocket to anywhere, and say which page it was (RFC 6455 § 10.2). A unix
    socket is out of their reach; elsewhere only pages of this very server may.
    """
    origin = call.request.headers.get("Origin")
    if origin is None or call.connection.peer is not None:
        return
    if urlsplit(origin).netloc.lower() != call.request.headers.get("Host", "").lower():
        raise Forbidden(f"a page of {origin} may not attach to containers")
