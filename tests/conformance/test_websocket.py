"""Attach over WebSocket: aiohttp's client, and the opening handshake byte by byte (RFC 6455)."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.conformance.test_lifecycle import create, ready, state
from tests.engine import Engine
from tests.wire import Wire

ALL = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
OUTPUT = {"stream": "1", "stdout": "1", "stderr": "1"}
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TIMEOUT_S = 20


@contextlib.asynccontextmanager
async def attached(
    engine: Engine, wire: Wire, container: str, query: dict[str, str], version: str = ""
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    connector = aiohttp.UnixConnector(path=str(engine.socket))
    url = f"http://localhost/v{version or wire.version}/containers/{container}/attach/ws"
    async with (
        asyncio.timeout(TIMEOUT_S),
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(url, params=query, origin="http://localhost") as socket,
    ):
        yield socket


async def read_all(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    """Everything until the server closes."""
    data = b""
    async for message in socket:
        data += message.data if message.type == aiohttp.WSMsgType.BINARY else message.data.encode()
    return data


async def read_until(socket: aiohttp.ClientWebSocketResponse, marker: bytes) -> bytes:
    data = b""
    while marker not in data:
        data += await socket.receive_bytes()
    return data


async def post(wire: Wire, path: str, **query: str) -> Any:
    return await asyncio.to_thread(wire, "POST", path, query=query)


async def test_a_life_from_attach_to_end(engine: Engine, wire: Wire, busybox: str) -> None:
    script = "read word; echo got $word; echo oops >&2; exit 5"
    container = create(wire, busybox, "sh", "-c", script, OpenStdin=True, StdinOnce=True)
    async with attached(engine, wire, container, ALL) as socket:
        assert (await post(wire, f"/containers/{container}/start")).status == 204
        await socket.send_bytes(b"hel")
        await socket.send_str("lo\n")
        data = await read_all(socket)
        assert socket.close_code in (1000, 1006), "dockerd just hangs up"
    assert sorted(data.splitlines()) == [b"got hello", b"oops"], "unframed, both streams"
    assert state(wire, container)["ExitCode"] == 5


async def test_until_1_42_all_streams_are_meant(engine: Engine, wire: Wire, busybox: str) -> None:
    container = create(
        wire, busybox, "sh", "-c", "read x; echo $x; echo err >&2", OpenStdin=True, StdinOnce=True
    )
    async with attached(engine, wire, container, {"stream": "1"}, version="1.41") as socket:
        await post(wire, f"/containers/{container}/start")
        await socket.send_bytes(b"in\n")
        assert await read_all(socket) == b"in\nerr\n"


@pytest.mark.minid_only("from API 1.42 on, which Debian's dockerd does not have")
async def test_only_the_streams_that_were_asked_for(engine: Engine, wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "echo out; echo err >&2; read x; echo $x", OpenStdin=True)
    queries = {"stdout": {"stream": "1", "stdout": "1"}, "stderr": {"stream": "1", "stderr": "1"}}
    async with (
        attached(engine, wire, container, queries["stdout"]) as out,
        attached(engine, wire, container, queries["stderr"]) as err,
        attached(engine, wire, container, {"stream": "1", "stdin": "1"}) as into,
    ):
        await post(wire, f"/containers/{container}/start")
        await out.send_bytes(b"not from here\n")
        await into.send_bytes(b"from here\n")
        assert await read_all(err) == b"err\n"
        assert await read_all(out) == b"out\nfrom here\n"
        assert await read_all(into) == b""


async def test_a_terminal(engine: Engine, wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", OpenStdin=True, Tty=True)
    async with attached(engine, wire, container, ALL) as socket:
        await post(wire, f"/containers/{container}/start")
        await read_until(socket, b"# ")
        await post(wire, f"/containers/{container}/resize", h="33", w="77")
        await socket.send_bytes(b"stty size\n")
        await read_until(socket, b"33 77\r\n")
    async with attached(engine, wire, container, {**ALL, "detachKeys": "ctrl-e,e"}) as socket:
        await socket.send_bytes(b"\x05e")
        await read_all(socket)
    assert state(wire, container)["Running"], "detached, and left"
    async with attached(engine, wire, container, ALL) as socket:
        await socket.send_bytes(b"exit 6\n")
        await read_all(socket)
    assert (await post(wire, f"/containers/{container}/wait")).json["StatusCode"] == 6


async def test_logs_and_what_comes(engine: Engine, wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "echo ready; cat", OpenStdin=True)
    wire.post(f"/containers/{container}/start")
    ready(wire, container)
    async with attached(engine, wire, container, {**ALL, "logs": "1"}) as socket:
        assert await read_until(socket, b"ready\n") == b"ready\n", "unframed too"
        await socket.send_bytes(b"more\n")
        await read_until(socket, b"more\n")
    async with attached(engine, wire, container, {"logs": "1", "stdout": "1"}) as socket:
        assert await read_all(socket) == b"ready\nmore\n"
    assert state(wire, container)["Running"], "a client that leaves closes nothing"


async def test_much_both_ways(engine: Engine, wire: Wire, busybox: str) -> None:
    container = create(
        wire, busybox, "sh", "-c", "head -c 3000000 | md5sum; yes | head -c 3000000", OpenStdin=True
    )
    piece = bytes(range(256)) * 256
    async with attached(engine, wire, container, ALL) as socket:
        await post(wire, f"/containers/{container}/start")
        sent = b""
        while len(sent) < 3_000_000:
            await socket.send_bytes(piece)
            sent += piece
        data = await read_all(socket)
    head, _, rest = data.partition(b"  -\n")
    assert head.decode() == hashlib.md5(sent[:3_000_000]).hexdigest()
    assert len(rest) == 3_000_000 and set(rest) == set(b"y\n")


async def test_old_clients_get_text(engine: Engine, wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "echo text")
    async with attached(engine, wire, container, OUTPUT, version="1.27") as socket:
        await post(wire, f"/containers/{container}/start")
        message = await socket.receive()
    assert message.type == aiohttp.WSMsgType.TEXT
    assert message.data == "text\n"


def handshake(wire: Wire, container: str, **headers: str) -> tuple[int, dict[str, str]]:
    """A request's status and headers; nothing else is sent."""
    import socket

    path = wire.url(f"/containers/{container}/attach/ws", OUTPUT)
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(str(wire.path))
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while b"\r\n\r\n" not in data:
            part = sock.recv(4096)
            assert part, data
            data += part
    first, *rest = data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(first.split()[1]), {
        name.lower(): value for name, _, value in (one.partition(": ") for one in rest)
    }


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    "Origin": "http://elsewhere.example",
}


def test_the_opening_handshake(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "true")
    status, headers = handshake(wire, container, **UPGRADE)
    assert status == 101 and headers["upgrade"].lower() == "websocket"
    accept = hashlib.sha1((UPGRADE["Sec-WebSocket-Key"] + GUID).encode()).digest()
    assert headers["sec-websocket-accept"] == base64.b64encode(accept).decode()


def test_refusals(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sleep", "300")
    assert handshake(wire, container)[0] == 400, "no Upgrade"
    assert handshake(wire, container, **{**UPGRADE, "Sec-WebSocket-Version": "12"})[0] in (400, 426)
    assert handshake(wire, "nosuch", **UPGRADE)[0] == 404
    wire.post(f"/containers/{container}/start")
    wire.post(f"/containers/{container}/pause")
    try:
        assert handshake(wire, container, **UPGRADE)[0] == 409, "it is paused"
    finally:
        wire.post(f"/containers/{container}/unpause")


@pytest.mark.minid_only("dockerd keeps waiting clients until the container is removed")
async def test_a_client_that_leaves_before_the_start_leaves_nothing(
    engine: Engine, wire: Wire, busybox: str
) -> None:
    container = create(wire, busybox, "echo", "hello")
    for _ in range(3):
        async with attached(engine, wire, container, OUTPUT):
            pass
    async with attached(engine, wire, container, OUTPUT) as socket:
        await post(wire, f"/containers/{container}/start")
        assert await read_all(socket) == b"hello\n"
