"""A body that goes out while the answer comes in, at a daemon that does not read to the end."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minictl.build.exchange import Exchange
from minictl.engine import Engine
from minictl.errors import ApiError, ConnectError

ERROR = b'HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"message":"too bad"}'
OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = 50 * 1024 * 1024

Behaviour = Callable[[socket.socket], None]


@contextlib.contextmanager
def daemon(place: Path, behave: Behaviour) -> Iterator[Engine]:
    """Behaves so to one connection, after the request's head has come."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1)
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        engine = Engine(f"unix://{place}/s")
        yield engine
        engine.close()
        thread.join(10)
        assert not thread.is_alive()


def zeros(size_bytes: int) -> Iterator[bytes]:
    for _ in range(0, size_bytes, 65536):
        yield b"\0" * 65536


def talk(
    engine: Engine, body: Iterator[bytes], on_sent: Callable[[int, bool], None] = lambda *_: None
) -> bytes:
    connection, head = engine.begin("/build", {}, {})
    heard: list[bytes] = []
    Exchange(engine, connection, head, body, on_sent=on_sent).run(heard.append)
    return b"".join(heard)


def read_body(connection: socket.socket) -> int:
    with connection.makefile("rb") as file:
        total = 0
        while size := int(file.readline(), 16):
            total += len(file.read(size))
            assert file.readline() == b"\r\n"
        file.readline()
    return total


def test_a_whole_exchange(tmp_path: Path) -> None:
    sizes = []

    def behave(connection: socket.socket) -> None:
        sizes.append(read_body(connection))
        connection.sendall(OK + b"3\r\nabc\r\n")
        connection.sendall(b"2\r\nde\r\n0\r\n\r\n")

    told: list[tuple[int, bool]] = []
    with daemon(tmp_path, behave) as engine:
        assert talk(engine, zeros(LARGE), lambda *sent: told.append(sent)) == b"abcde"
    assert sizes == [LARGE]
    assert told[-1] == (LARGE, True)


def test_a_refusal_before_the_body_is_read(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(ERROR)

    with daemon(tmp_path, behave) as engine, pytest.raises(ApiError, match="too bad"):
        talk(engine, zeros(LARGE))


def test_a_refusal_by_a_daemon_that_stays(tmp_path: Path) -> None:
    """It neither reads nor hangs up: who only sends would wait for ever."""
    done = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(ERROR)
        assert done.wait(10)

    with daemon(tmp_path, behave) as engine:
        with pytest.raises(ApiError, match="too bad"):
            talk(engine, zeros(LARGE))
        done.set()


def test_an_answer_that_ends_before_the_body_is_read(tmp_path: Path) -> None:
    done = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.sendall(OK + b"5\r\nfirst\r\n0\r\n\r\n")
        assert done.wait(10)

    with daemon(tmp_path, behave) as engine:
        assert talk(engine, zeros(LARGE)) == b"first"
        done.set()


def test_the_body_goes_on_while_the_answer_has_begun(tmp_path: Path) -> None:
    """What is left of a chunk (its end of line) is not waited for while there is something to send."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(OK)
        connection.sendall(b"5\r\nfirst")
        connection.sendall(b"\r\n")
        size = read_body(connection)
        answer = b"%d" % size
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer), answer))

    with daemon(tmp_path, behave) as engine:
        assert talk(engine, zeros(LARGE)) == b"first%d" % LARGE


def test_a_daemon_that_dies(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(100)

    with daemon(tmp_path, behave) as engine, pytest.raises(ConnectError):
        talk(engine, zeros(LARGE))


def test_an_answer_that_is_cut_off(tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        read_body(connection)
        connection.sendall(OK + b"5\r\nfirst\r\n")

    with daemon(tmp_path, behave) as engine, pytest.raises(ConnectError, match="unexpected EOF"):
        talk(engine, zeros(100))


def test_a_body_that_fails_is_not_ended(tmp_path: Path) -> None:
    """Half a context must not look like a whole one: no last chunk is sent."""
    came: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            came.append(data)

    def body() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no more")

    with daemon(tmp_path, behave) as engine, pytest.raises(OSError, match="no more"):
        talk(engine, body())
    assert b"".join(came) == b"4\r\nhalf\r\n"


def test_an_attendants_sockets_are_looked_after(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    heard = threading.Event()
    said: list[bytes] = []

    class Attendant:
        def fds(self) -> list[int]:
            return [here.fileno()]

        def ready(self, fd: int) -> None:
            said.append(here.recv(100))
            heard.set()

    def behave(connection: socket.socket) -> None:
        read_body(connection)
        there.sendall(b"hello")
        assert heard.wait(10)
        assert not select.select([connection], [], [], 0)[0]
        connection.sendall(OK + b"0\r\n\r\n")

    with here, there, daemon(tmp_path, behave) as engine:
        connection, head = engine.begin("/build", {}, {})
        Exchange(engine, connection, head, iter([b"x"]), attendant=Attendant()).run(said.append)
    assert said == [b"hello"]
