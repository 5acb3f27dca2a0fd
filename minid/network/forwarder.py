"""Asking the servers that know the rest of the world (RFC 1035 § 4.2, 7.2): UDP and TCP, several, with timeouts.

One server is asked first; after a second without an answer the next one is asked too, and the first good answer
counts. A server that refuses or fails makes room for the next at once.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minid.network import dns

PORT = 53
SERVERS = 3  # as many as resolv.conf(5) has
ROUNDS = 2
NEXT_AFTER_S = 1.0
UDP_TIMEOUT_S = 4.5  # just before the usual client gives up (5 s)
TCP_TIMEOUT_S = 10.0
RECEIVE_BYTES = 65535
_NEXT = frozenset((dns.SERVFAIL, dns.REFUSED, dns.NOTIMP))

MakeSocket = Callable[[int, int], socket.socket]


@dataclass(frozen=True, slots=True)
class Server:
    address: str
    port: int = PORT

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


async def ask(
    packet: bytes,
    servers: Sequence[Server],
    *,
    udp: bool = True,
    make_socket: MakeSocket = socket.socket,
    next_after_s: float = NEXT_AFTER_S,
    timeout_s: float | None = None,
) -> bytes | None:
    """The response with the client's own number in it; None when no server gave any.

    ``make_socket`` (family, type) decides in which network namespace the question is asked.
    """
    if timeout_s is None:
        timeout_s = UDP_TIMEOUT_S if udp else TCP_TIMEOUT_S
    one = _ask_udp if udp else _ask_tcp
    attempts = list(servers[:SERVERS]) * (ROUNDS if udp else 1)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    asked: dict[asyncio.Task[bytes], Server] = {}
    pending: set[asyncio.Task[bytes]] = set()
    second_best: bytes | None = None
    number = os.urandom(2)
    question = number + packet[2:]
    try:
        while attempts or pending:
            if attempts:
                server = attempts.pop(0)
                task = loop.create_task(one(question, server, make_socket))
                asked[task] = server
                pending.add(task)
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            done, pending = await asyncio.wait(
                pending,
                timeout=min(next_after_s, left_s) if attempts else left_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                attempts = [server for server in attempts if server != asked[task]]
                if task.exception() is not None:
                    continue
                response = packet[:2] + task.result()[2:]
                if dns.code_of(response) not in _NEXT:
                    return response
                second_best = second_best or response
        return second_best
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


async def _ask_udp(question: bytes, server: Server, make_socket: MakeSocket) -> bytes:
    """Raises OSError: unreachable, or nobody listens there."""
    loop = asyncio.get_running_loop()
    with make_socket(server.family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((server.address, server.port))
        await loop.sock_sendall(sock, question)
        while True:
            response = await loop.sock_recv(sock, RECEIVE_BYTES)
            if dns.belongs(question, response):
                return response


async def _ask_tcp(question: bytes, server: Server, make_socket: MakeSocket) -> bytes:
    """Raises OSError, or EOFError when the server hangs up."""
    loop = asyncio.get_running_loop()
    with make_socket(server.family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (server.address, server.port))
        await loop.sock_sendall(sock, struct.pack(">H", len(question)) + question)
        (length,) = struct.unpack(">H", await receive(sock, 2))
        response = await receive(sock, length)
        if not dns.belongs(question, response):
            raise OSError("an answer to another question")
        return response


async def receive(sock: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    parts = []
    while length:
        part = await loop.sock_recv(sock, length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
