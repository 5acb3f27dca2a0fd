"""The HTTP side of the daemon: takes requests on given sockets, finds their operation, answers errors.

server = Server(services)
await server.serve(listening_socket)      # any number of times
…
await server.close(timeout_s=5)
"""

import asyncio
import logging
import re
import socket
import time
from dataclasses import replace
from typing import Any

from aiohttp import web

from minid import API_VERSION, MIN_API_VERSION, __version__
from minid.api import failure
from minid.api.call import Call
from minid.api.connection import Connection
from minid.api.peer import RemotePeer
from minid.api.routes import (
    archive,
    attach,
    build,
    containers,
    image_copies,
    images,
    networks,
    registries,
    stats,
    swarm,
    system,
    verify,
    volumes,
    websocket,
)
from minid.api.routing import Match, Router
from minid.api.services import Services
from minid.api.tls import TlsContexts, TlsFront
from minid.errors import InvalidParameter, MinidError

HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"minid/{__version__} (linux)",
}
HEAD_LIMIT_BYTES = 64 << 10  # X-Registry-Config holds the credentials of many registries
READ_BUFFER_BYTES = 1 << 20  # of an archive that is loaded: the less often its sender is stopped, the better
KEEPALIVE_S = 3600.0  # dockerd never closes an idle connection, and clients keep them in pools
VERSIONED = re.compile(r"/v([0-9.]+)(/.*)?")

log = logging.getLogger(__name__)

ROUTER = Router(
    containers.routes,
    attach.routes,
    websocket.routes,
    stats.routes,
    archive.routes,
    images.routes,
    image_copies.routes,
    build.routes,
    system.routes,
    volumes.routes,
    networks.routes,
    registries.routes,
    verify.routes,
    swarm.routes,
)


class HttpServer(web.Server):
    """aiohttp's server with connections that can give their socket away."""

    def __init__(self, handler: Any) -> None:
        super().__init__(handler, handler_cancellation=True)

    def __call__(self) -> Connection:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=HEAD_LIMIT_BYTES,
            max_field_size=HEAD_LIMIT_BYTES,
        )


class Server:
    """One per daemon."""

    def __init__(self, services: Services) -> None:
        self._services = replace(services, engine_id=services.engine_id or services.info().id)
        self._http = HttpServer(self._handle)
        self._listeners: list[asyncio.AbstractServer] = []
        self._fronts: list[TlsFront] = []
        self._running: set[asyncio.Task[Any]] = set()  # operations that always run to their end
        self._stoppable: set[asyncio.Task[Any]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections on ``listener`` (bound and listening, unix or TCP), which now belongs here."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._listeners.append(await loop.create_server(self._http, sock=listener))

    async def serve_tls(self, listener: socket.socket, contexts: TlsContexts) -> None:
        """The same on a TCP socket, with TLS and by the certificates of clients."""
        self._fronts.append(TlsFront(listener, contexts, self._adopt))

    async def _adopt(self, sock: socket.socket, peer: RemotePeer) -> None:
        def connection() -> Connection:
            made = self._http()
            made.peer = peer
            return made

        await asyncio.get_running_loop().connect_accepted_socket(connection, sock)

    async def close(self, *, timeout_s: float = 5.0) -> None:
        """Stop listening, end what only streams, let the rest finish for ``timeout_s``, cut every connection."""
        for listener in self._listeners:
            listener.close()
        self._http.pre_shutdown()
        for front in self._fronts:
            front.stop_listening()
        for task in self._stoppable:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
        await self._http.shutdown(timeout_s)
        for front in self._fronts:
            await front.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    # --- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started_s = time.perf_counter()
        connection: Any = request.protocol
        connection.answering = False
        try:
            response = await self._answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self._log(request, "client gone", started_s)
            raise
        except Exception as error:
            response = self._failed(request, error)
            if connection.answering:
                # The status line is long out: an answer that breaks off is all the client can be told.
                self._log(request, "broken off", started_s)
                connection.force_close()
                raise ConnectionAbortedError(str(error)) from error
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        if not connection.goes_on(request):
            response.force_close()
        self._log(request, str(response.status), started_s)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        version, path = split_version(request.path)
        match = ROUTER.find(request.method, path)
        if match is None:
            raise failure.PageNotFound
        check_version(version)
        call = Call(request, self._services, parse_version(version), match.parameters, HEADERS)
        if match.route.stoppable:
            return await self._run_stoppable(match, call)
        # A client that goes away must not leave a start or a delete half done.
        task = asyncio.ensure_future(self._run(match, call))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def _run_stoppable(self, match: Match, call: Call) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._stoppable.add(task)
        try:
            return await self._run(match, call)
        finally:
            self._stoppable.discard(task)

    @staticmethod
    async def _run(match: Match, call: Call) -> web.StreamResponse:
        response: web.StreamResponse = await match.route.handler(call)
        return response

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its requester, if still there, has seen it

    def _failed(self, request: web.BaseRequest, error: Exception) -> web.StreamResponse:
        """The answer for an error; only an accident is logged with its traceback."""
        if not isinstance(error, MinidError):
            log.error("%s %s failed", request.method, request.path, exc_info=error)
        return failure.answer(error)

    def _log(self, request: web.BaseRequest, outcome: str, started_s: float) -> None:
        if log.isEnabledFor(logging.INFO):
            connection: Any = request.protocol
            who = str(connection.peer or connection.peername)
            took_ms = (time.perf_counter() - started_s) * 1000
            # The query of a build has its arguments in it, which may be anything: a proxy's password, for one.
            shown = request.path if request.path.endswith("/build") else request.path_qs
            log.info("%s %s: %s in %.1f ms, %s", request.method, shown, outcome, took_ms, who)


def split_version(path: str) -> tuple[str, str]:
    """``/v1.44/info`` as ``("1.44", "/info")``; without a version the newest is meant."""
    found = VERSIONED.fullmatch(path)
    return (found[1], found[2] or "/") if found else (API_VERSION, path)


def parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part)


def check_version(text: str) -> None:
    """Raises ``InvalidParameter``, in dockerd's words, for a version that this engine does not speak."""
    version = parse_version(text)
    if version < parse_version(MIN_API_VERSION):
        raise InvalidParameter(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if version > parse_version(API_VERSION):
        raise InvalidParameter(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
