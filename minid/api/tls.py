"""TLS in front of the API: each connection is decrypted into a unix socket pair; its other end is served as any other.

So neither HTTP nor what takes a socket away from it (attach, exec) knows of TLS, and a half that the client has closed
(close_notify, RFC 8446 § 6.1; ``docker run -i`` at the end of its input) stays a half. Clients need a certificate of
the CA; who they are is what their certificate says.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minid.api.peer import RemotePeer
from minid.exits import ExitStatus, StartupError

log = logging.getLogger(__name__)

READ_BYTES = 64 << 10
HANDSHAKE_TIMEOUT_S = 10.0
LINGER_S = 30.0  # how long a client may take to fetch what was sent last
REFUSAL_LINGER_S = 2.0
CONNECTIONS_MAX = 10_000

# What Go's servers answer, and clients look for.
_HTTP_REFUSAL = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

HandOver = Callable[[socket.socket, RemotePeer], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. Without ``ca`` clients are not asked for a certificate; ``revoked`` is a list (CRL) of the CA."""

    certificate: Path
    key: Path
    ca: Path | None = None
    revoked: Path | None = None


class TlsContexts:
    """The TLS settings, read again when a file has changed: certificates are replaced without a restart."""

    def __init__(self, files: TlsFiles) -> None:
        """``StartupError`` if a file can't be used."""
        self._files = files
        self._seen = self._state()
        self._context = _context(files)

    def current(self) -> ssl.SSLContext:
        """For the next connection. Files that can't be used leave the old settings in force, and a line in the log."""
        state = self._state()
        if state != self._seen:
            self.reload()
            self._seen = state
        return self._context

    def reload(self) -> None:
        try:
            self._context = _context(self._files)
            log.info("TLS certificates read again")
        except StartupError as error:
            log.error("the TLS files are wrong, the old ones stay in force", extra={"error": error})

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        files = self._files
        return tuple(_stat(path) for path in (files.certificate, files.key, files.ca, files.revoked))


def _stat(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET  # a session resumed is a certificate not looked at again
    context.num_tickets = 0
    what = f"certificate {files.certificate} with key {files.key}"
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        if files.ca is not None:
            what = f"CA {files.ca}"
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        if files.revoked is not None:
            what = f"revocation list {files.revoked}"
            context.load_verify_locations(files.revoked)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise StartupError(ExitStatus.SOCKET, f"TLS: {what} cannot be used: {reason}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password: minid cannot ask for it; take it away with `openssl pkey`")


class TlsFront:
    """Accepts on ``listener``, a listening TCP socket, and hands each client over once its certificate is verified."""

    def __init__(self, listener: socket.socket, contexts: TlsContexts, hand_over: HandOver) -> None:
        self._listener = listener
        self._contexts = contexts
        self._hand_over = hand_over
        self._tasks: set[asyncio.Task[None]] = set()
        # Three descriptors each; half of all stays for local clients and containers.
        self._connections_max = min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 6)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def stop_listening(self) -> None:
        self._accepting.cancel()

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        self._accepting.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait({self._accepting, *self._tasks})
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        while True:
            try:
                client, address = await loop.sock_accept(self._listener)
            except OSError as error:  # the client has gone again; no descriptors are left
                log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._tasks) >= self._connections_max:
                log.warning("too many connections: %s is refused", address[0])
                client.close()
                continue
            task = loop.create_task(self._serve(client, address))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a TLS connection failed", exc_info=error)

    async def _serve(self, client: socket.socket, address: tuple[Any, ...]) -> None:
        with client:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = TlsStream(client, self._contexts.current())
            try:
                async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                    await stream.handshake()
            except (OSError, ValueError, TimeoutError) as error:
                reason = getattr(error, "reason", None) or str(error) or "no handshake in time"
                log.info("TLS client refused", extra={"address": address[0], "reason": reason})
                await stream.refuse()
                return
            peer = RemotePeer.of_certificate(stream.certificate(), address[0], address[1])
            inner, served = socket.socketpair()
            with inner:
                inner.setblocking(False)
                await self._hand_over(served, peer)
                await _join(stream, inner)


class TlsStream:
    """A TLS connection over a non-blocking socket whose two directions end one at a time."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()
        self._first = b""

    async def handshake(self) -> None:
        """OSError (ssl.SSLError among them)."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert that says why
                raise
        await self._flush()

    def certificate(self) -> dict[str, Any]:
        """What is in the client's certificate (``ssl.SSLSocket.getpeercert``); {} without one."""
        return dict(self._tls.getpeercert() or {})

    async def receive(self) -> bytes:
        """Some bytes, b"" once the client has said that no more will come. OSError when it is gone."""
        while True:
            try:
                return self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def refuse(self) -> None:
        """After a handshake that failed: let the client hear why.

        Closed at once, a socket with unread bytes in it would take back what was sent last, the alert.
        """
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(REFUSAL_LINGER_S):
                if self._first[:1].isalpha():
                    await asyncio.get_running_loop().sock_sendall(self._sock, _HTTP_REFUSAL)
                self._sock.shutdown(socket.SHUT_WR)
                await self.gone()

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def end(self) -> None:
        """Say that no more will come."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()
        self._sock.shutdown(socket.SHUT_WR)

    async def gone(self) -> None:
        """Until the client has closed the connection; what it says is not looked at any more."""
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._sock, READ_BYTES):
            pass

    async def _fill(self) -> None:
        # Of its own accord TLS has little to say; what somebody is sending already must not keep anyone from reading.
        if self._outgoing.pending and not self._sending.locked():
            await self._flush()
        data = await asyncio.get_running_loop().sock_recv(self._sock, READ_BYTES)
        if not data:
            raise ConnectionResetError("the client closed the connection without saying so")
        self._first = self._first or data
        self._incoming.write(data)

    async def _flush(self) -> None:
        async with self._sending:
            while data := self._outgoing.read():
                await asyncio.get_running_loop().sock_sendall(self._sock, data)


async def _join(stream: TlsStream, inner: socket.socket) -> None:
    """Copy both ways until the server has ended its half and the client has taken it, or the client is gone."""
    loop = asyncio.get_running_loop()

    async def up() -> None:
        try:
            while data := await stream.receive():
                await loop.sock_sendall(inner, data)
            inner.shutdown(socket.SHUT_WR)
        except BrokenPipeError:  # the server wants no more
            pass
        await stream.gone()

    async def down() -> None:
        while data := await loop.sock_recv(inner, READ_BYTES):
            await stream.send(data)
        await stream.end()

    upwards, downwards = loop.create_task(up()), loop.create_task(down())
    tasks = {upwards, downwards}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not upwards.done() and downwards.exception() is None:
            # Closed now, a socket with unread bytes in it would take back what the client has not fetched yet.
            await asyncio.wait({upwards}, timeout=LINGER_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and isinstance(task.exception(), OSError):
                log.debug("a TLS connection ended: %s", task.exception())
