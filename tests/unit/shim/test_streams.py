"""The pump between a process's pipes or terminal, its log and its clients: real pipes, ptys and sockets."""

import errno
import fcntl
import gc
import os
import random
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from minid.shim import streams
from minid.shim.clients import AttachedClient
from tests.unit.shim.pump import TIMEOUT_S, Pump, read_exactly, receive_all, receive_exactly, unframe


@pytest.fixture
def pump() -> Iterator[Pump]:
    with Pump() as pump:
        yield pump


@pytest.fixture
def open_once() -> Iterator[Pump]:
    with Pump(stdin_once=True) as pump:
        yield pump


def readable(sock: socket.socket | int, timeout_s: float) -> bool:
    return bool(select.select([sock], [], [], timeout_s)[0])


def test_both_streams_go_to_log_and_client(pump: Pump) -> None:
    client = pump.attach("stdout", "stderr")
    pump.open_pipes()
    os.write(pump.stdout, b"out")
    os.write(pump.stderr, b"err")
    pump.end()
    assert unframe(receive_all(client)) == {1: b"out", 2: b"err"}
    assert pump.log.data == {"stdout": b"out", "stderr": b"err"} and pump.log.closed
    assert pump.idle.wait(TIMEOUT_S)


def test_a_client_gets_only_what_it_wants(pump: Pump) -> None:
    client = pump.attach("stderr")
    pump.open_pipes()
    os.write(pump.stdout, b"out")
    os.write(pump.stderr, b"err")
    pump.end()
    assert unframe(receive_all(client)) == {2: b"err"}


def test_ten_megabytes_of_anything_come_through_both_ways(open_once: Pump) -> None:
    pump = open_once
    client = pump.attach("stdin", "stdout")
    pump.open_pipes()
    sent = random.Random(1).randbytes(10 << 20)
    received: list[bytes] = []

    def cat() -> None:
        while data := os.read(pump.stdin, 1 << 16):
            view = memoryview(data)
            while view:
                view = view[os.write(pump.stdout, view) :]
        pump.end()

    process = threading.Thread(target=cat)
    reader = threading.Thread(target=lambda: received.append(receive_all(client)))
    process.start()
    reader.start()
    client.sendall(sent)
    client.shutdown(socket.SHUT_WR)
    process.join(60)
    reader.join(60)
    assert unframe(received[0]) == {1: sent}
    assert pump.log.data["stdout"] == sent


def test_a_client_that_stops_reading_pauses_the_process(pump: Pump) -> None:
    client = pump.attach("stdout")
    pump.open_pipes()
    os.set_blocking(pump.stdout, False)
    written = 0
    while select.select([], [pump.stdout], [], 0.3)[1]:
        try:
            written += os.write(pump.stdout, b"x" * 65536)
        except BlockingIOError:
            continue
        assert written < 8 << 20, "nothing holds the process back"
    assert written >= streams.CLIENT_LIMIT_BYTES
    got = 0
    os.set_blocking(pump.stdout, True)
    while got < streams.CLIENT_LIMIT_BYTES:
        got += len(client.recv(1 << 16))
    assert select.select([], [pump.stdout], [], TIMEOUT_S)[1], "and it goes on when the client does"


def test_a_stalled_client_is_cut_off_when_others_wait(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL_S", 0.2)
    stalled = pump.attach("stdout")
    reading = pump.attach("stdout")
    pump.open_pipes()
    total = 6 << 20
    writer = threading.Thread(target=lambda: write_all(pump.stdout, b"y" * total))
    writer.start()
    data = b""
    received = 0
    while received < total:
        data += reading.recv(1 << 20)
        while len(data) >= 8 and len(data) >= 8 + (size := int.from_bytes(data[4:8], "big")):
            received += size
            data = data[8 + size :]
    writer.join(TIMEOUT_S)
    assert len(pump.log.data["stdout"]) == total
    assert 0 < len(receive_all(stalled)) < total, "its connection was closed"


def test_each_process_of_a_shim_has_a_stall_rule_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have a client that never reads; the deadline of one must not take the place of the other's."""
    monkeypatch.setattr(streams, "STALL_S", 0.3)
    with Pump() as pump:
        second = streams.Streams(pump.loop, None, stdin_once=False)
        kept = []
        for each in (pump.streams, second):
            for behind in (True, False):
                ours, theirs = socket.socketpair()
                kept.append(ours)
                client = AttachedClient(theirs, frozenset(["stdout"]), framed=False, detacher=None)
                if behind:
                    client.queue("stdout", b"z" * (streams.CLIENT_LIMIT_BYTES * 2))
                pump.do(lambda each=each, client=client: (each.attach(client), each._flush(client)))  # type: ignore[misc]
        for stalled in (kept[0], kept[2]):
            hangup = select.poll()
            hangup.register(stalled, 0)
            assert hangup.poll(TIMEOUT_S * 1000), "cut off"
        pump.do(lambda: [second._drop(client) for client in tuple(second._clients)])
        for ours in kept:
            ours.close()


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def test_input_that_came_before_the_process_is_kept(pump: Pump) -> None:
    client = pump.attach("stdin", initial=b"early ")
    client.sendall(b"bird")
    pump.open_pipes()
    assert read_exactly(pump.stdin, 10) == b"early bird"


def test_input_before_the_process_is_bounded(pump: Pump) -> None:
    client = pump.attach("stdin")
    client.setblocking(False)
    sent = 0
    with pytest.raises(TimeoutError):
        client.settimeout(0.3)
        while sent < 8 << 20:
            sent += client.send(b"x" * 65536)
    assert sent < 2 << 20, "what a client sends is not hoarded"
    pump.open_pipes()
    assert len(read_exactly(pump.stdin, sent)) == sent, "and none of it is lost"


def test_half_close_reaches_the_process_when_stdin_is_for_one_client(open_once: Pump) -> None:
    client = open_once.attach("stdin", "stdout")
    open_once.open_pipes()
    client.sendall(b"all")
    client.shutdown(socket.SHUT_WR)
    assert read_exactly(open_once.stdin, 3) == b"all"
    assert os.read(open_once.stdin, 1) == b"", "the end"
    os.write(open_once.stdout, b"answer")
    assert receive_exactly(client, 14)[8:] == b"answer", "output goes on after the half-close"


def test_half_close_does_not_end_a_shared_stdin(pump: Pump) -> None:
    first = pump.attach("stdin")
    pump.open_pipes()
    first.sendall(b"1")
    first.shutdown(socket.SHUT_WR)
    second = pump.attach("stdin")
    second.sendall(b"2")
    assert read_exactly(pump.stdin, 2) == b"12"


def test_input_left_by_a_client_that_went_away_is_delivered(pump: Pump) -> None:
    client = pump.attach("stdin")
    pump.open_pipes()
    data = random.Random(2).randbytes(300_000)
    sender = threading.Thread(target=lambda: (client.sendall(data), client.close()))  # type: ignore[func-returns-value]
    sender.start()
    received = b""
    while len(received) < len(data):
        assert readable(pump.stdin, TIMEOUT_S), f"lost after {len(received)} bytes"
        received += os.read(pump.stdin, 4096)
    sender.join()
    assert received == data


def test_stdin_stays_open_when_the_process_closes_its_output(pump: Pump) -> None:
    client = pump.attach("stdin", "stdout")
    pump.open_pipes()
    os.close(pump.stdout)
    os.close(pump.stderr)
    pump.stdout = pump.stderr = -1
    while not pump.do(lambda: pump.streams.ended):
        pass
    client.sendall(b"still read")
    assert read_exactly(pump.stdin, 10) == b"still read"


def test_input_for_nobody_is_taken_and_dropped(pump: Pump) -> None:
    client = pump.attach("stdin")
    pump.open_pipes()
    os.close(pump.stdin)
    pump.stdin = -1
    client.settimeout(TIMEOUT_S)
    client.sendall(b"x" * (2 << 20))  # would block for ever if nobody read it


def test_a_writer_left_behind_does_not_hold_the_end_up(pump: Pump) -> None:
    """An exec's background child keeps the pipe and goes on writing; the exec is over all the same."""
    client = pump.attach("stdout")
    pump.open_pipes()
    drainer = threading.Thread(target=lambda: receive_all(client))
    drainer.start()
    with subprocess.Popen(["yes"], stdout=pump.stdout) as left_behind:
        while not pump.do(lambda: len(pump.log.data["stdout"])):
            pass
        pump.end()  # fails by its timeout if it reads on
        drainer.join(TIMEOUT_S)
        assert left_behind.wait(TIMEOUT_S) == -signal.SIGPIPE
    assert not drainer.is_alive()


def test_detach_keys(pump: Pump) -> None:
    client = pump.attach("stdin", "stdout", keys="ctrl-p,ctrl-q", framed=False)
    other = pump.attach("stdout", framed=False)
    pump.open_pipes()
    client.sendall(b"typed\x10\x11lost")
    assert pump.detached.wait(TIMEOUT_S)
    assert receive_all(client) == b""
    assert read_exactly(pump.stdin, 5) == b"typed"
    os.write(pump.stdout, b"goes on")
    assert receive_exactly(other, 7) == b"goes on"


def test_a_client_after_the_end_sees_the_end(pump: Pump) -> None:
    pump.open_pipes()
    pump.end()
    assert receive_all(pump.attach("stdin", "stdout")) == b""


def test_the_end_waits_for_a_slow_client(pump: Pump) -> None:
    client = pump.attach("stdout", framed=False)
    pump.open_pipes()
    sender = threading.Thread(target=lambda: write_all(pump.stdout, b"w" * 900_000))
    sender.start()
    sender.join(TIMEOUT_S)
    pump.end()
    assert not pump.do(lambda: pump.streams.idle)
    assert len(receive_all(client)) == 900_000
    assert pump.idle.wait(TIMEOUT_S)


def test_no_descriptor_is_left(pump: Pump) -> None:
    gc.collect()  # of what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    client = pump.attach("stdin", "stdout")
    pump.open_pipes()
    client.sendall(b"x")
    pump.end()
    receive_all(client)
    client.close()
    for name in ("stdin", "stdout", "stderr"):
        os.close(getattr(pump, name))
        setattr(pump, name, -1)
    assert len(os.listdir("/proc/self/fd")) == before


# -- terminals


@pytest.fixture
def slave(pump: Pump) -> Iterator[list[int]]:
    master, slave = os.openpty()
    slaves = [slave]
    pump.do(lambda: pump.streams.open_terminal(master))
    yield slaves
    for fd in slaves:
        os.close(fd)


def window(fd: int) -> tuple[int, int]:
    height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return height, width


def test_a_terminal_is_raw_both_ways(pump: Pump, slave: list[int]) -> None:
    client = pump.attach("stdin", "stdout", framed=False)
    os.write(slave[0], b"prompt ")
    assert receive_exactly(client, 7) == b"prompt "
    client.sendall(b"line\r")
    assert os.read(slave[0], 10) == b"line\n"
    assert receive_exactly(client, 6) == b"line\r\n", "the echo"


def test_resize(pump: Pump, slave: list[int]) -> None:
    pump.do(lambda: pump.streams.resize(50, 132))
    assert window(slave[0]) == (50, 132)


def test_a_size_given_too_early_is_kept(pump: Pump) -> None:
    pump.do(lambda: pump.streams.resize(51, 133))
    master, slave = os.openpty()
    pump.do(lambda: pump.streams.open_terminal(master))
    assert window(slave) == (51, 133)
    os.close(slave)


def test_without_a_terminal_there_is_nothing_to_resize(pump: Pump) -> None:
    pump.open_pipes()
    with pytest.raises(OSError) as caught:
        pump.do(lambda: pump.streams.resize(24, 80))
    assert caught.value.errno == errno.ENOTTY


def test_a_terminal_that_nobody_has_open_stays_and_can_be_opened_again(pump: Pump, slave: list[int]) -> None:
    """Closing the master would send SIGHUP to a process that only let go of its terminal for a while."""
    client = pump.attach("stdout", framed=False)
    path = os.ttyname(slave[0])
    os.write(slave[0], b"before")
    os.close(slave.pop())
    assert receive_exactly(client, 6) == b"before"
    while not pump.do(lambda: pump.streams._asleep):
        pass
    spent_s = thread_cpu_s(pump)
    again = os.open(path, os.O_RDWR | os.O_NOCTTY)
    slave.append(again)
    os.write(again, b"after")
    assert receive_exactly(client, 5) == b"after"
    assert thread_cpu_s(pump) - spent_s < 0.5
    pump.end()
    assert receive_all(client) == b""


def thread_cpu_s(pump: Pump) -> float:
    return float(pump.do(time.thread_time))


def test_what_a_terminal_still_holds_is_read_at_the_end(pump: Pump, slave: list[int]) -> None:
    client = pump.attach("stdout", framed=False)
    os.write(slave[0], b"last words")
    os.close(slave.pop())
    pump.end()
    assert receive_all(client) == b"last words"
    assert pump.log.data["stdout"] == b"last words"


# -- one connection


def test_hang_up_with_unread_input_is_no_reset() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        client = AttachedClient(theirs, frozenset(), framed=False, detacher=None)
        ours.sendall(b"never read")
        client.hang_up()
        assert ours.recv(10) == b"", "the end of the stream, not ECONNRESET"
