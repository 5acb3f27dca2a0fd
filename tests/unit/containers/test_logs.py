import asyncio
import os
from pathlib import Path

import pytest

from minid.containers import logs
from minid.containers.logwatch import LogWatcher
from minid.containers.model import LogEntry, LogOptions
from minid.shim.logfile import LogFile, Options

SECOND = 1_000_000_000
ALL = LogOptions()
FOLLOW = LogOptions(follow=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x-json.log"


def write(path: Path, count: int, options: Options | None = None, first: int = 0) -> None:
    """``count`` lines, one a second, every third on stderr."""
    log = LogFile(str(path), options)
    for number in range(first, first + count):
        stream = "stderr" if number % 3 == 2 else "stdout"
        log.write(stream, f"line {number}\n".encode(), (number + 1) * SECOND)
    log.close()


async def read(path: Path, options: LogOptions = ALL) -> list[str]:
    return [entry.data.decode() async for entry in logs.read(path, options)]


def lines(*numbers: int) -> list[str]:
    return [f"line {number}\n" for number in numbers]


async def test_everything(path: Path) -> None:
    write(path, 3)
    assert [entry async for entry in logs.read(path, ALL)] == [
        LogEntry("stdout", SECOND, b"line 0\n"),
        LogEntry("stdout", 2 * SECOND, b"line 1\n"),
        LogEntry("stderr", 3 * SECOND, b"line 2\n"),
    ]


async def test_no_log_at_all(path: Path) -> None:
    assert await read(path) == []
    assert await read(path, LogOptions(tail=3)) == []
    assert await read(path / "no" / "directory", LogOptions(follow=True)) == []


async def test_bytes_times_and_attributes_come_back(path: Path) -> None:
    log = LogFile(str(path), attributes={"a": "1"})
    log.write("stdout", 'é "\\\t€\x00\r\n'.encode() + b"\xff\n", 1_700_000_000_123_456_789)
    log.close()
    entries = [entry async for entry in logs.read(path, ALL)]
    assert [entry.data for entry in entries] == ['é "\\\t€\x00\r\n'.encode(), "\ufffd\n".encode()]
    assert entries[0].time_ns == 1_700_000_000_123_456_789
    assert entries[0].attributes == {"a": "1"}


@pytest.mark.parametrize("compress", [False, True])
async def test_rotated_files_oldest_first(path: Path, compress: bool) -> None:
    write(path, 200, Options(max_size_bytes=2000, max_files=5, compress=compress))
    assert len(list(path.parent.iterdir())) == 5
    found = await read(path)
    assert found == lines(*range(200 - len(found), 200))
    assert len(found) > 100


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("tail", [0, 1, 5, 28, 29, 30, 31, 60, 100, 10_000])
async def test_tail_over_files(path: Path, tail: int, compress: bool) -> None:
    write(path, 200, Options(max_size_bytes=2000, max_files=5, compress=compress))
    everything = await read(path)
    assert await read(path, LogOptions(tail=tail)) == (everything[-tail:] if tail else [])


@pytest.mark.parametrize("tail", [1, 3, 2000, 2999, 3000, 3001])
async def test_tail_over_many_chunks(path: Path, tail: int) -> None:
    log = LogFile(str(path), Options(max_size_bytes=-1))
    for number in range(3000):
        log.write("stdout", b"%d " % number + b"x" * (number % 400) + b"\n")
    log.close()
    assert path.stat().st_size > 4 * logs.CHUNK_BYTES
    found = [int(line.split()[0]) for line in await read(path, LogOptions(tail=tail))]
    assert found == list(range(max(3000 - tail, 0), 3000))


async def test_since_and_until(path: Path) -> None:
    write(path, 10)
    assert await read(path, LogOptions(since_ns=8 * SECOND)) == lines(7, 8, 9)
    assert await read(path, LogOptions(until_ns=2 * SECOND)) == lines(0, 1)
    assert await read(path, LogOptions(since_ns=4 * SECOND, until_ns=5 * SECOND)) == lines(3, 4)


async def test_one_stream(path: Path) -> None:
    write(path, 6)
    assert await read(path, LogOptions(stdout=False)) == lines(2, 5)
    assert await read(path, LogOptions(stderr=False)) == lines(0, 1, 3, 4)
    # The tail counts before the choice, as dockerd does.
    assert await read(path, LogOptions(stdout=False, tail=2)) == lines(5)


async def test_torn_and_foreign_lines_are_passed_over(path: Path) -> None:
    write(path, 2)
    with path.open("ab") as file:
        file.write(b'{"log":"torn\n[1]\n\n{"log":1}\n{"log":"x","stream":"stdout","time":"never"}\nnull\n')
    write(path, 1, first=2)
    with path.open("ab") as file:
        file.write(b'{"log":"not yet')
    assert await read(path) == lines(0, 1, 2)
    assert (await read(path, LogOptions(tail=1))) == lines(2)


class Follower:
    """A reader of a followed log, one entry at a time."""

    def __init__(self, path: Path, options: LogOptions = FOLLOW, watcher: LogWatcher | None = None) -> None:
        self.ended = asyncio.Event()
        self._entries = logs.read(path, options, self.ended, watcher=watcher)

    async def next(self, count: int = 1) -> list[str]:
        return [(await asyncio.wait_for(anext(self._entries), 10)).data.decode() for _ in range(count)]

    async def rest(self) -> list[str]:
        async with asyncio.timeout(10):
            return [entry.data.decode() async for entry in self._entries]


async def test_following(path: Path) -> None:
    write(path, 2)
    follower = Follower(path)
    assert await follower.next(2) == lines(0, 1)
    waiting = asyncio.create_task(follower.next())
    await asyncio.sleep(0)
    write(path, 2, first=2)
    assert await waiting == lines(2)
    assert await follower.next() == lines(3)
    write(path, 1, first=4)
    follower.ended.set()
    assert await follower.rest() == lines(4)


async def test_following_a_log_that_does_not_exist_yet(path: Path) -> None:
    follower = Follower(path)
    waiting = asyncio.create_task(follower.next())
    await asyncio.sleep(0)
    write(path, 1)
    assert await waiting == lines(0)
    follower.ended.set()
    assert await follower.rest() == []


async def test_following_the_tail(path: Path) -> None:
    write(path, 5)
    follower = Follower(path, LogOptions(follow=True, tail=1))
    assert await follower.next() == lines(4)
    write(path, 1, first=5)
    follower.ended.set()
    assert await follower.rest() == lines(5)


async def test_following_half_a_record(path: Path) -> None:
    follower = Follower(path)
    waiting = asyncio.create_task(follower.next())
    record = b'{"log":"one\\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}\n'
    with path.open("ab", buffering=0) as file:
        for byte in record:
            file.write(bytes([byte]))
            await asyncio.sleep(0)
    assert await waiting == ["one\n"]
    follower.ended.set()
    assert await follower.rest() == []


@pytest.mark.parametrize("max_files", [2, 50])
async def test_following_over_rotations(path: Path, max_files: int) -> None:
    follower = Follower(path)
    log = LogFile(str(path), Options(max_size_bytes=500, max_files=max_files))
    for number in range(200):
        log.write("stdout", f"line {number}\n".encode())
        assert await follower.next() == lines(number)
    log.close()
    follower.ended.set()
    assert await follower.rest() == []


async def test_following_several_rotations_at_once(path: Path) -> None:
    write(path, 1)
    follower = Follower(path)
    assert await follower.next() == lines(0)
    write(path, 300, Options(max_size_bytes=1000, max_files=100), first=1)
    follower.ended.set()
    assert await follower.rest() == lines(*range(1, 301))


async def test_following_over_compressed_rotation(path: Path) -> None:
    follower = Follower(path)
    log = LogFile(str(path), Options(max_size_bytes=500, max_files=3, compress=True))
    for number in range(50):
        log.write("stdout", f"line {number}\n".encode())
        assert await follower.next() == lines(number)
    log.close()
    follower.ended.set()
    assert await follower.rest() == []


async def test_following_a_single_file_that_is_emptied(path: Path) -> None:
    follower = Follower(path)
    log = LogFile(str(path), Options(max_size_bytes=300, max_files=1))
    for number in range(50):
        log.write("stdout", f"line {number}\n".encode())
        assert await follower.next() == lines(number)
    log.close()
    follower.ended.set()
    assert await follower.rest() == []


async def test_an_end_that_came_before(path: Path) -> None:
    write(path, 2)
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    assert [entry.data async for entry in logs.read(path, FOLLOW, ended)] == [b"line 0\n", b"line 1\n"]


async def test_following_until_a_time(path: Path) -> None:
    write(path, 2)
    found = [entry async for entry in logs.read(path, LogOptions(follow=True, until_ns=10**18))]
    assert len(found) == 2


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_followers_share_one_inotify_instance_and_leave_nothing_open(path: Path) -> None:
    write(path, 1)
    watcher = LogWatcher()
    before = descriptors()
    followers = [Follower(path, watcher=watcher) for _ in range(200)]
    for follower in followers:
        assert await follower.next() == lines(0)
    assert descriptors() <= before + len(followers) + 1
    waiting = [asyncio.create_task(follower.next()) for follower in followers]
    await asyncio.sleep(0)
    write(path, 1, first=1)
    assert await asyncio.gather(*waiting) == [lines(1)] * len(followers)
    for follower in followers:
        follower.ended.set()
        assert await follower.rest() == []
    assert descriptors() == before


async def test_a_follower_that_goes_away_leaves_nothing_open(path: Path) -> None:
    write(path, 1)
    before = descriptors()
    entries = logs.read(path, FOLLOW)
    async with asyncio.timeout(10):
        assert (await anext(entries)).data == b"line 0\n"
        waiting = asyncio.ensure_future(anext(entries))
        await asyncio.sleep(0.01)  # let it get as far as waiting
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await entries.aclose()
    assert descriptors() == before


@pytest.mark.parametrize("options", [ALL, FOLLOW])
async def test_a_reader_that_has_enough_leaves_nothing_open(path: Path, options: LogOptions) -> None:
    write(path, 5)
    before = descriptors()
    entries = logs.read(path, options)
    assert (await anext(entries)).data == b"line 0\n"
    await entries.aclose()
    assert descriptors() == before
