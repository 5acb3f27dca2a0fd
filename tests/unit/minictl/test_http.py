"""HTTP/1.1: bodies counted, chunked, until the end; answers cut anywhere; what is not HTTP."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minictl.engine import Engine, query_string, segment
from minictl.errors import ApiError, ConnectError
from minictl.http import Connection


def answer(data: bytes, *pieces: int) -> Connection:
    """A connection on which `data` has come, cut in pieces, and which then ends."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours, "x")
    start = 0
    for size in pieces:
        theirs.sendall(data[start : start + size])
        connection.buffer += ours.recv(65536)
        start += size
    theirs.sendall(data[start:])
    theirs.close()
    return connection


def test_counted_body_leaves_the_connection_usable() -> None:
    connection = answer(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}NEXT"
    )
    response = connection.receive()
    assert (response.status, response.content_type, response.read()) == (200, "application/json", b"{}")
    assert connection.reusable
    assert connection.buffer == b"NEXT"
    connection.close()


def chunked(parts: list[bytes]) -> bytes:
    return (
        b"".join(b"%X;x=y\r\n%b\r\n" % (len(part), part) for part in parts if part)
        + b"0\r\nTrailer: 1\r\n\r\n"
    )


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(1, 20), max_size=8))
def test_chunks_cut_anywhere(parts: list[bytes], cuts: list[int]) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(parts)
    ours, theirs = socket.socketpair()

    def send() -> None:
        start = 0
        for size in cuts:
            theirs.sendall(data[start : start + size])
            start += size
        theirs.sendall(data[start:])
        theirs.close()

    thread = threading.Thread(target=send)
    thread.start()
    connection = Connection(ours, "x")
    assert connection.receive().read() == b"".join(parts)
    assert connection.reusable
    thread.join()
    connection.close()


def test_body_until_the_connection_ends() -> None:
    connection = answer(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert connection.receive().read() == b"all of it"
    assert not connection.reusable
    connection.close()


@pytest.mark.parametrize("status", [204, 304])
def test_no_body(status: int) -> None:
    connection = answer(b"HTTP/1.1 %d No\r\n\r\n" % status)
    response = connection.receive()
    assert response.read() == b""
    assert connection.reusable
    connection.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
    ],
)
def test_what_cannot_be_read(data: bytes, reason: str) -> None:
    connection = answer(data)
    with pytest.raises(ConnectError, match=reason):
        connection.receive().read()
    connection.close()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (None, ""),
        ({"a": None, "b": ""}, ""),
        ({"a": True, "b": False, "c": 0}, "?a=1&b=0&c=0"),
        ({"filters": '{"a":1}', "x": ["1", "é &"]}, "?filters=%7B%22a%22%3A1%7D&x=1&x=%C3%A9%20%26"),
    ],
)
def test_query(query: dict[str, object] | None, text: str) -> None:
    assert query_string(query) == text


def test_names_in_paths() -> None:
    assert segment("localhost:5000/a/b@sha256:0") == "localhost:5000/a/b@sha256:0"
    assert segment("a b?c#d%") == "a%20b%3Fc%23d%25"


class Daemon:
    """Answers requests on a socket by a function, and counts the connections."""

    def __init__(self, path: Path, reply: Callable[[str, bytes], bytes]) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.reply = reply
        self.connections = 0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                length = 0
                while (header := file.readline().strip()) != b"":
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                connection.sendall(self.reply(line.decode().strip(), file.read(length)))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def message(status: int, value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_one_connection_serves_many_calls_and_errors_carry_the_message(tmp_path: Path) -> None:
    def reply(line: str, body: bytes) -> bytes:
        if "/bad" in line:
            return message(409, {"message": "Conflict. so it is"})
        return message(200, {"asked": line, "body": json.loads(body) if body else None})

    daemon = Daemon(tmp_path / "s", reply)
    engine = Engine(f"unix://{tmp_path}/s")
    assert engine.call("GET", "/x", {"a": 1}) == {"asked": "GET /v1.44/x?a=1 HTTP/1.1", "body": None}
    with pytest.raises(ApiError) as caught:
        engine.call("POST", "/bad", None, {})
    assert (caught.value.http_status, caught.value.message) == (
        409,
        "Error response from daemon: Conflict. so it is",
    )
    assert engine.call("POST", "/y", None, {"é": [1, None]})["body"] == {"é": [1, None]}
    assert daemon.connections == 1
    engine.close()
    daemon.close()


def test_an_older_daemon_is_spoken_to_in_its_own_version(tmp_path: Path) -> None:
    def reply(line: str, body: bytes) -> bytes:
        if "/v1.44/" in line:
            return message(
                400, {"message": "client version 1.44 is too new. Maximum supported API version is 1.41"}
            )
        return message(200, line)

    daemon = Daemon(tmp_path / "s", reply)
    engine = Engine(f"unix://{tmp_path}/s")
    assert engine.call("GET", "/x") == "GET /v1.41/x HTTP/1.1"
    assert engine.version == "1.41"
    engine.close()
    daemon.close()
