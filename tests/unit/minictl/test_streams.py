"""Frames cut anywhere, detach keys typed anyhow, a session that must not block."""

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minictl.errors import Failure
from minictl.http import Connection
from minictl.streams import Frames, Session
from minictl.terminal import DetachKeys, parse_detach_keys


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=10),
)
def test_frames_may_be_cut_anywhere(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(frame(stream, data) for stream, data in messages)
    got = {1: b"", 2: b""}

    def write(stream: int, data: bytes | memoryview) -> None:
        got[stream] += bytes(data)

    frames = Frames(write)
    turn = 0
    while wire:
        size = cuts[turn % len(cuts)]
        frames.feed(wire[:size])
        wire = wire[size:]
        turn += 1
    assert got == {stream: b"".join(data for to, data in messages if to == stream) for stream in (1, 2)}


def test_what_is_no_frame() -> None:
    with pytest.raises(Failure, match="Unrecognized input header: 72"):
        Frames(lambda *_: None).feed(b"HTTP/1.1 500")


def test_an_error_of_the_daemon_inside_the_stream() -> None:
    with pytest.raises(Failure, match="error from daemon in stream: disk full"):
        Frames(lambda *_: None).feed(frame(3, b"disk full"))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-a,a,B", b"\x01aB"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
    ],
)
def test_names_of_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["foo", "ctrl-", "ctrl-1", "a,,b", "é", "ctrl-aa"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(Failure, match="invalid detach keys"):
        parse_detach_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"hello"], b"hello", False),
        ([b"\x10\x11"], b"", True),
        ([b"a\x10\x11b"], b"a", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
        ([b"x\x10", b"\x10", b"y"], b"x\x10\x10y", False),
    ],
)
def test_detach_keys_in_what_is_typed(typed: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachKeys(b"\x10\x11")
    got = b""
    found = False
    for data in typed:
        part, found = keys.filter(data)
        got += part
    assert (got, found) == (passed, detached)


def test_a_peer_that_writes_before_it_reads_does_not_block_the_session(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The daemon sends 4 MB before it takes the first of 4 MB of input: neither side may wait for the other."""
    ours, theirs = socket.socketpair()
    amount = 4 << 20
    read_end, write_end = os.pipe()

    def type_in() -> None:
        left = amount
        while left:
            left -= os.write(write_end, b"i" * min(left, 65536))
        os.close(write_end)

    received = []

    def daemon() -> None:
        theirs.sendall(frame(1, b"o" * amount))
        while data := theirs.recv(1 << 16):
            received.append(len(data))
        theirs.sendall(frame(1, b"end"))
        theirs.close()

    threads = [threading.Thread(target=type_in), threading.Thread(target=daemon)]
    saved = os.dup(0)
    os.dup2(read_end, 0)
    try:
        for thread in threads:
            thread.start()
        Session(Connection(ours, "x"), tty=False, stdin=True, detach_keys=b"").run()
        for thread in threads:
            thread.join()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read_end)
        ours.close()
    out = capfdbinary.readouterr().out
    assert sum(received) == amount
    assert len(out) == amount + 3
    assert out.endswith(b"oend")
