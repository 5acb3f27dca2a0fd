"""Connections that change from HTTP to a container's stream: nothing lost, nothing extra, however it is cut."""

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minid.containers.model import ContainerConfig, State
from minid.errors import CommandNotFound
from tests.unit.api.double import Answer, Daemon, container, read_head

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with Daemon(tmp_path) as daemon:
        yield daemon


def attach(upgrade: str = UPGRADE, path: str = "/v1.44/containers/c1/attach?stream=1&stdin=1") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: d\r\n{upgrade}Content-Length: 0\r\n\r\n".encode()


def exec_start(body: bytes, upgrade: str = UPGRADE, path: str = "/v1.44/exec/e1/start") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: d\r\n{upgrade}Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def echo(daemon: Daemon, data: bytes, *, pieces: int = 1 << 20) -> tuple[int, dict[str, str], bytes]:
    """Send ``data`` in pieces and end the input; the answer's head and everything after it."""
    reader, writer = await daemon.connect()
    for start in range(0, len(data), pieces):
        writer.write(data[start : start + pieces])
        await writer.drain()
        if pieces < 100:
            await asyncio.sleep(0)
    writer.write_eof()
    status, headers = await read_head(reader)
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return status, headers, rest


async def test_attach_upgrades_and_gives_the_bytes_behind_the_request(daemon: Daemon) -> None:
    status, headers, rest = await echo(daemon, attach() + b"hello")
    assert status == 101
    assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    assert (headers["upgrade"], headers["connection"]) == ("tcp", "Upgrade")
    assert headers["api-version"] == "1.44"
    assert rest == b"hello"


async def test_status_line_is_the_one_docker_clients_compare(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(attach())
    assert await reader.readline() == b"HTTP/1.1 101 UPGRADED\r\n"


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
@pytest.mark.parametrize("upgrade", [UPGRADE, ""])
async def test_exec_start_cut_into_pieces(daemon: Daemon, pieces: int, upgrade: str) -> None:
    body = b'{"Detach":false,"Tty":false}'
    status, _, rest = await echo(daemon, exec_start(body, upgrade) + b"in\r\n\r\nput", pieces=pieces)
    assert status == (101 if upgrade else 200)
    assert rest == b"in\r\n\r\nput"
    assert daemon.containers.execs.started == [None]


async def test_body_that_comes_much_later_than_the_head(daemon: Daemon) -> None:
    request = exec_start(b'{"Tty":true,"ConsoleSize":[24,80]}')
    head, body = request.split(b"\r\n\r\n")
    reader, writer = await daemon.connect()
    writer.write(head + b"\r\n\r\n")
    await daemon.request("GET", "/_ping")  # the server has had its turn
    writer.write(body[:5])
    await daemon.request("GET", "/_ping")
    writer.write(body[5:] + b"typed")
    writer.write_eof()
    assert (await read_head(reader))[0] == 101
    assert await reader.read() == b"typed"
    assert daemon.containers.execs.started == [(24, 80)]


async def test_chunked_body(daemon: Daemon) -> None:
    head = f"POST /exec/e1/start HTTP/1.1\r\nHost: d\r\n{UPGRADE}Content-Type: application/json\r\n"
    data = (
        head.encode()
        + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"Tty\r\nb;x=y\r\n":true}    \r\n0\r\n\r\nstdin'
    )
    status, headers, rest = await echo(daemon, data, pieces=3)
    assert (status, rest) == (101, b"stdin")
    assert headers["content-type"] == "application/vnd.docker.raw-stream"
    assert daemon.containers.execs.started == [None]


async def test_old_style_without_upgrade(daemon: Daemon) -> None:
    status, headers, rest = await echo(daemon, attach(upgrade="") + b"GET /_ping HTTP/1.1\r\n\r\n")
    assert status == 200
    assert headers["content-type"] == "application/vnd.docker.raw-stream"
    assert "upgrade" not in headers
    assert "transfer-encoding" not in headers
    assert rest == b"GET /_ping HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("upgrade", [UPGRADE, ""])
async def test_one_megabyte_pipelined(daemon: Daemon, upgrade: str) -> None:
    data = os.urandom(1 << 20)
    reader, writer = await daemon.connect()
    writer.write(attach(upgrade) + data)
    writer.write_eof()
    await read_head(reader)
    assert await reader.read() == data
    await daemon.containers.shims[0].finished()
    assert daemon.containers.shims[0].initial_bytes <= 256 << 10, "the rest stays in the kernel for the shim"


async def test_input_after_the_upgrade_goes_straight_to_the_container(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(attach())
    await read_head(reader)
    await daemon.request("GET", "/_ping")
    writer.write(b"later")
    writer.write_eof()
    assert await reader.read() == b"later"


async def test_half_close_before_the_answer_is_end_of_input_not_the_client_going(daemon: Daemon) -> None:
    client = socket.socket(socket.AF_UNIX)
    client.connect(daemon.path)
    client.sendall(attach() + b"x")
    client.shutdown(socket.SHUT_WR)
    client.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=client)
    assert (await read_head(reader))[0] == 101
    assert await reader.read() == b"x"
    writer.close()


async def test_pipelined_behind_other_requests(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 2 + attach() + b"input")
    writer.write_eof()
    assert (await Answer.read(reader)).body == b"OK"
    assert (await Answer.read(reader)).body == b"OK"
    assert (await read_head(reader))[0] == 101
    assert await reader.read() == b"input"


async def test_tty_is_raw_and_older_clients_know_no_other_name(daemon: Daemon) -> None:
    _, headers, _ = await echo(daemon, attach(path="/v1.41/containers/c1/attach"))
    assert headers["content-type"] == "application/vnd.docker.raw-stream"
    daemon.containers.container = container(config=ContainerConfig(tty=True))
    _, headers, _ = await echo(daemon, attach())
    assert headers["content-type"] == "application/vnd.docker.raw-stream"


@pytest.mark.parametrize("upgrade", [UPGRADE, ""])
async def test_errors_before_the_upgrade_are_http(daemon: Daemon, upgrade: str) -> None:
    reader, writer = await daemon.connect()
    writer.write(attach(upgrade, path="/containers/nope/attach"))
    answer = await Answer.read(reader)
    assert answer.status == 404
    assert json.loads(answer.body) == {"message": "No such container: nope"}

    daemon.containers.container = container(state=State("exited"))
    reader, writer = await daemon.connect()
    writer.write(exec_start(b"{}", upgrade))
    answer = await Answer.read(reader)
    assert answer.status == 409
    assert container().id in json.loads(answer.body)["message"]
    assert daemon.containers.execs.started == []


async def test_a_declined_plain_request_leaves_the_connection_usable(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    body = b'{"Detach":true}'
    writer.write(exec_start(body, "", "/exec/nope/start") + exec_start(body, "") + exec_start(body, ""))
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    assert (await Answer.read(reader)).status == 404
    assert (await Answer.read(reader)).status == 200
    assert (await Answer.read(reader)).status == 200
    assert (await Answer.read(reader)).body == b"OK"
    assert daemon.containers.execs.started == [None] * 2


async def test_a_declined_upgrade_closes_the_connection(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(exec_start(b"{}", path="/exec/nope/start") + b"typed ahead")
    answer = await Answer.read(reader)
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    assert await reader.read() == b""


@pytest.mark.parametrize("body", [b"{", b'{"Tty":NaN}', b'{"Tty":1}', b'{"ConsoleSize":[1,2]}', b"[]"])
async def test_a_bad_body_is_400(daemon: Daemon, body: bytes) -> None:
    reader, writer = await daemon.connect()
    writer.write(exec_start(body))
    answer = await Answer.read(reader)
    assert (answer.status, list(json.loads(answer.body))) == (400, ["message"])


async def test_an_incomplete_body_is_400(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(exec_start(b'{"Detach":true}')[:-3])
    writer.write_eof()
    assert (await Answer.read(reader)).status == 400


async def test_an_error_after_the_upgrade_is_written_into_the_stream(daemon: Daemon) -> None:
    text = b'exec: "nope": executable file not found in $PATH\r\n'
    daemon.containers.failure = CommandNotFound(text.decode().strip())
    status, _, rest = await echo(daemon, exec_start(b"{}"))
    assert status == 101
    assert rest == b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text
    status, _, rest = await echo(daemon, exec_start(b'{"Tty":true}'))
    assert rest == text


async def test_an_error_of_a_detached_start_is_http(daemon: Daemon) -> None:
    daemon.containers.failure = CommandNotFound("not there")
    answer = await daemon.request("POST", "/exec/e1/start", b'{"Detach":true}')
    assert answer.status == 400
    assert json.loads(answer.body) == {"message": "not there"}


async def test_no_descriptor_stays_behind(daemon: Daemon) -> None:
    await echo(daemon, attach() + b"warm up")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await echo(daemon, attach() + b"hello")
        daemon.containers.failure = CommandNotFound("not there")
        await echo(daemon, exec_start(b"{}"))
        daemon.containers.failure = None
        await daemon.request("POST", "/exec/nope/start", b"{}")
    for shim in daemon.containers.shims:
        await shim.finished()
    await daemon.request("GET", "/_ping")
    assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_a_client_that_went_away_before_the_answer(daemon: Daemon) -> None:
    _, writer = await daemon.connect()
    writer.write(exec_start(b'{"Detach":false}')[:-3])
    writer.transport.abort()
    assert (await daemon.request("GET", "/_ping")).body == b"OK"


async def test_the_head_can_be_read_alone(daemon: Daemon) -> None:
    """docker-py takes the head through a buffer and would lose what comes with it, however late it reads."""

    def client() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(daemon.path)
            connection.sendall(exec_start(b"{}") + b"echoed")
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.05)  # the answer must be waiting for the reader, not the reader for the answer
            head = connection.recv(65536)
            assert connection.recv(65536) == b"echoed"
            return head

    head = await asyncio.to_thread(client)
    assert head.endswith(b"\r\n\r\n")


async def test_a_client_that_does_not_read_is_not_waited_for(daemon: Daemon) -> None:
    _, writer = await daemon.connect()
    transport = writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()
    writer.write(exec_start(b"{}"))
    async with asyncio.timeout(5):
        while not daemon.containers.shims:  # noqa: ASYNC110 (the double tells nobody)
            await asyncio.sleep(0.01)
    transport.resume_reading()


@pytest.mark.parametrize("seed", range(25))
async def test_however_it_is_cut(daemon: Daemon, seed: int) -> None:
    """Plain requests with bodies, then an upgrade with a body, then input that looks like heads: cut at random."""
    chance = random.Random(seed)
    plain = b"POST /exec/e1/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"
    detached = plain + b'{"Detach":true}\r\n\r\n'
    ping = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
    before = [chance.choice([detached, ping]) for _ in range(chance.randrange(4))]
    typed = b"\r\n\r\nPOST /exec/e1/start HTTP/1.1\r\n\r\n" + chance.randbytes(50) + b"\r\n\r\n"
    data = b"".join(before) + exec_start(b'{"Tty":true}', chance.choice([UPGRADE, ""])) + typed
    reader, writer = await daemon.connect()
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(40)))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        writer.write(data[start:end])
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
    writer.write_eof()
    for request in before:
        answer = await Answer.read(reader)
        assert (answer.status, answer.body) == ((200, b"OK") if request is ping else (200, b""))
    assert (await read_head(reader))[0] in (101, 200)
    assert await reader.read() == typed
