import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.shim import messages
from minid.shim.messages import LIMIT_BYTES, MAX_FDS, MessageError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = messages.pair()
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_message_and_its_descriptors(pair: Pair) -> None:
    read, write = os.pipe()
    messages.send(pair[0], {"op": "x", "n": 1}, [write])
    os.close(write)
    message, fds = messages.receive(pair[1])
    assert message == {"v": 1, "op": "x", "n": 1}
    assert len(fds) == 1 and not os.get_inheritable(fds[0])
    os.write(fds[0], b"through")
    assert os.read(read, 10) == b"through"
    for fd in (read, *fds):
        os.close(fd)


def test_boundaries_are_kept(pair: Pair) -> None:
    for number in range(3):
        messages.send(pair[0], {"n": number})
    assert [messages.receive(pair[1])[0]["n"] for _ in range(3)] == [0, 1, 2]  # type: ignore[index]


def test_the_end_of_the_stream(pair: Pair) -> None:
    messages.send(pair[0], {"last": True})
    pair[0].close()
    assert messages.receive(pair[1])[0] == {"v": 1, "last": True}
    assert messages.receive(pair[1]) == (None, [])


def test_the_largest_message_and_one_that_is_too_large(pair: Pair) -> None:
    frame = len(messages.encode({"text": ""}))
    messages.send(pair[0], {"text": "x" * (LIMIT_BYTES - frame)})
    message, _ = messages.receive(pair[1])
    assert message is not None and len(message["text"]) == LIMIT_BYTES - frame
    with pytest.raises(MessageError, match="exceeds"):
        messages.send(pair[0], {"text": "x" * (LIMIT_BYTES - frame + 1)})


@given(st.dictionaries(st.text(), st.text() | st.integers(), max_size=5))
def test_any_text_survives(message: dict[str, object]) -> None:
    message.pop("v", None)
    ours, theirs = messages.pair()
    with ours, theirs:
        messages.send(ours, message)
        assert messages.receive(theirs)[0] == {"v": 1, **message}


def test_bytes_that_are_no_text_survive_as_surrogates(pair: Pair) -> None:
    name = os.fsdecode(b"caf\xe9/\xff")
    messages.send(pair[0], {"path": name})
    message, _ = messages.receive(pair[1])
    assert message is not None and os.fsencode(message["path"]) == b"caf\xe9/\xff"


@pytest.mark.parametrize("data", [b"{", b"[1]", b'{"v":2}', b'{"op":"x"}', b"\xff", b"null"])
def test_what_is_no_message_is_an_error_and_leaves_no_descriptor(pair: Pair, data: bytes) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = open_descriptors()
    socket.send_fds(pair[0], [data], [null, null])
    with pytest.raises(MessageError):
        messages.receive(pair[1])
    assert open_descriptors() == before
    os.close(null)


def test_too_many_descriptors_are_an_error_and_none_is_left(pair: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = open_descriptors()
    messages.send(pair[0], {"n": 1}, [null] * (MAX_FDS + 1))
    with pytest.raises(MessageError, match="truncated"):
        messages.receive(pair[1])
    assert open_descriptors() == before
    os.close(null)
