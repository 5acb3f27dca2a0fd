from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.shim.detach import Detacher, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-[", b"\x1b"),
        ("ctrl-\\", b"\x1c"),
        ("ctrl-@,ctrl-_,ctrl-^,ctrl-]", b"\x00\x1f\x1e\x1d"),
        ("DEL,x", b"\x7fx"),
        ("a,b,c", b"abc"),
    ],
)
def test_notation(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-P", "ab", ",", "a,,b", "é"])
def test_unknown_keys(text: str) -> None:
    with pytest.raises(ValueError, match="Unknown character"):
        parse_keys(text)


def test_what_is_typed_passes_until_the_keys_come() -> None:
    detacher = Detacher(b"\x10\x11")
    assert detacher.feed(b"ls\n") == (b"ls\n", False)
    assert detacher.feed(b"\x10") == (b"", False)
    assert detacher.feed(b"x") == (b"\x10x", False)
    assert detacher.feed(b"y\x10") == (b"y", False)
    assert detacher.feed(b"\x11rest") == (b"", True)


def test_the_first_key_twice() -> None:
    assert Detacher(b"\x10\x11").feed(b"\x10\x10\x11") == (b"\x10", True)


def test_keys_that_overlap_with_themselves() -> None:
    assert Detacher(b"aab").feed(b"aaab") == (b"a", True)
    assert Detacher(b"abac").feed(b"ababac") == (b"ab", True)


def test_no_keys_never_detach() -> None:
    assert Detacher(b"").feed(b"anything") == (b"anything", False)


def test_what_is_held_back_is_not_lost_at_the_end() -> None:
    detacher = Detacher(b"abc")
    assert detacher.feed(b"xab") == (b"x", False)
    assert detacher.flush() == b"ab"
    assert detacher.flush() == b""


@given(
    keys=st.binary(min_size=1, max_size=4).map(lambda data: bytes(byte % 3 for byte in data)),
    data=st.binary(max_size=40).map(lambda data: bytes(byte % 3 for byte in data)),
    cuts=st.lists(st.integers(0, 40)),
)
def test_as_if_searched_for_in_one_piece(keys: bytes, data: bytes, cuts: list[int]) -> None:
    detacher = Detacher(keys)
    passed, detached = b"", False
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        piece, detached = detacher.feed(data[start:end])
        passed += piece
        if detached:
            break
    found = data.find(keys)
    assert detached == (found >= 0)
    assert passed + (b"" if detached else detacher.flush()) == (data[:found] if found >= 0 else data)
