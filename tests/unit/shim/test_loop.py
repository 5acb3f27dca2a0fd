import os
import socket
import time

from minid.shim.loop import GONE, READ, WRITE, Loop


def test_events_reach_their_callback_until_forgotten() -> None:
    loop = Loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen: list[tuple[bytes, int]] = []

        def on_readable(events: int) -> None:
            seen.append((ours.recv(10), events))
            if len(seen) == 2:
                loop.forget(ours.fileno())
                loop.forget(ours.fileno())
                theirs.send(b"nobody listens")
                loop.set_deadline("end", 0, loop.stop)
            else:
                theirs.send(b"two")

        loop.watch(ours.fileno(), READ, on_readable)
        theirs.send(b"one")
        loop.run()
    assert seen == [(b"one", READ), (b"two", READ)]


def test_a_hang_up_is_always_reported() -> None:
    loop = Loop()
    ours, theirs = socket.socketpair()
    with ours:
        seen: list[int] = []
        loop.watch(ours.fileno(), 0, lambda events: (seen.append(events), loop.stop()))  # type: ignore[func-returns-value]
        theirs.close()
        loop.run()
    assert seen and seen[0] & GONE


def test_watch_again_changes_events_and_callback() -> None:
    loop = Loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen: list[str] = []
        loop.watch(ours.fileno(), READ, lambda events: seen.append("first"))
        loop.watch(ours.fileno(), WRITE, lambda events: (seen.append("second"), loop.stop()))  # type: ignore[func-returns-value]
        loop.run()
    assert seen == ["second"]


def test_a_new_deadline_of_the_same_name_replaces_the_old_one() -> None:
    loop = Loop()
    seen: list[str] = []
    loop.set_deadline("a", 0, lambda: seen.append("old"))
    loop.set_deadline("a", 0.03, lambda: (seen.append("new"), loop.stop()))  # type: ignore[func-returns-value]
    loop.set_deadline("b", 0.01, lambda: seen.append("other"))
    started_s = time.monotonic()
    loop.run()
    assert seen == ["other", "new"]
    assert time.monotonic() - started_s >= 0.03


def test_an_event_does_not_reach_a_new_owner_of_the_number() -> None:
    """Two descriptors are ready at once; the first callback closes the second and gets its number for a new one."""
    loop = Loop()
    pipes = [os.pipe(), os.pipe()]
    fresh: list[tuple[int, int]] = []
    wrong: list[int] = []

    def replace_the_other(mine: int) -> None:
        other = next(read for read, _ in pipes if read != mine)
        loop.forget(mine)
        loop.forget(other)
        os.close(other)
        read, write = os.pipe()
        assert read == other, "the lowest free number is given"
        fresh.append((read, write))
        loop.watch(read, READ, wrong.append)
        loop.set_deadline("end", 0.01, loop.stop)

    for read, write in pipes:
        os.write(write, b"x")
        loop.watch(read, READ, lambda events, read=read: replace_the_other(read))  # type: ignore[misc]
    loop.run()
    assert len(fresh) == 1 and wrong == [], "the event was the old descriptor's"
    for _, write in pipes:
        os.close(write)
    for fd in (*fresh[0], next(read for read, _ in pipes if read != fresh[0][0])):
        os.close(fd)


def test_the_new_owner_gets_its_own_events() -> None:
    loop = Loop()
    read, write = os.pipe()
    inner: list[bytes] = []

    def on_first(events: int) -> None:
        loop.forget(read)
        loop.watch(read, READ, lambda events: (inner.append(os.read(read, 9)), loop.stop()))  # type: ignore[func-returns-value]

    loop.watch(read, READ, on_first)
    os.write(write, b"again")
    loop.run()
    assert inner == [b"again"]
    os.close(read)
    os.close(write)
