"""A container's log read back: all of it or its tail, over rotated files, and followed while it is
written.

Works on the files alone, so that it needs neither shim nor a running container. See
``minid.shim.logfile`` for the format.
"""

import asyncio
import calendar
import gzip
import json
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import IO, Any

from minid.containers.logwatch import LogWatcher, Watch
from minid.containers.model import LogEntry, LogOptions

CHUNK_BYTES = 128 << 10
# Below this, parsing takes less time than handing the work to a thread.
INLINE_BYTES = 16 << 10
# A record is at most 16 KiB of text, a byte at most six in JSON, and attributes: more is not a log.
LINE_LIMIT_BYTES = 4 << 20

_NO_ATTRIBUTES: Mapping[str, str] = {}

Ended = asyncio.Event | asyncio.Future[object] | None


async def read(
    path: str | Path, options: LogOptions, ended: Ended = None, *, watcher: LogWatcher | None = None
) -> AsyncGenerator[LogEntry, None]:
    """The entries of the log at ``path``, oldest first; a log that does not exist is empty.

    ``options.tail`` counts records (lines, mostly) before the other options choose among them, as Docker
    does. With ``follow`` the iteration goes on until ``ended`` is set (or done) and everything written
    before that has been read; without ``ended``, until ``until_ns`` or the end of the caller's patience.
    ``watcher`` shares one inotify instance among followers.
    """
    async with aclosing(batches(path, options, ended, watcher=watcher)) as pieces:
        async for batch in pieces:
            for entry in batch:
                yield entry


async def batches(
    path: str | Path, options: LogOptions, ended: Ended = None, *, watcher: LogWatcher | None = None
) -> AsyncGenerator[list[LogEntry], None]:
    """As ``read``, in lists that are never empty: what one piece of a file held."""
    name = os.fspath(path)
    selector = _Selector(options)
    with ExitStack() as stack:
        watch = None
        if options.follow:
            # Before the first look at the files, so that nothing falls between.
            watch = _enter(stack, watcher or LogWatcher(), os.path.dirname(name) or ".")
        files = _open(name)
        stack.callback(_close, files)
        if options.since_ns:
            wanted = [file for file in files if file is files[-1] or file.modified_ns >= options.since_ns]
        else:
            wanted = files
        if options.tail is not None:
            wanted = await asyncio.to_thread(_seek_tail, wanted, options.tail)
        for file in wanted:
            while batch := await file.next_batch(selector):
                if found := selector.choose(batch):
                    yield found
                if selector.passed:
                    return
        if watch is None:
            return
        _close(files[:-1])
        del files[:-1]
        async with aclosing(_follow(name, files, selector, watch, ended)) as news:
            async for found in news:
                yield found


def _enter(stack: ExitStack, watcher: LogWatcher, directory: str) -> Watch | None:
    try:
        return stack.enter_context(watcher.watch(directory))
    except FileNotFoundError:
        return None


class _Selector:
    """Which entries the options want; ``passed`` once an entry after ``until`` was seen."""

    def __init__(self, options: LogOptions) -> None:
        self.options = options
        self.passed = False
        self._all = options.stdout and options.stderr and not options.since_ns and not options.until_ns

    def choose(self, entries: list[LogEntry]) -> list[LogEntry]:
        if self._all:
            return entries
        options = self.options
        found = []
        for entry in entries:
            if options.until_ns and entry.time_ns > options.until_ns:
                self.passed = True
                break
            wanted = options.stdout if entry.stream == "stdout" else options.stderr
            if wanted and entry.time_ns >= options.since_ns:
                found.append(entry)
        return found


class _File:
    """One file of the log, read forward in pieces of whole lines."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._stream = stream
        self.compressed = path.endswith(".gz")
        status = os.fstat(stream.fileno())
        self.identity = (status.st_dev, status.st_ino)
        self.modified_ns = status.st_mtime_ns
        self.size_bytes = status.st_size
        self._reader: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=stream) if self.compressed else stream
        self._rest = b""
        self._parser = _Parser()

    def close(self) -> None:
        """Idempotent."""
        self._reader.close()
        self._stream.close()

    def seek(self, offset: int) -> None:
        self._reader.seek(offset)
        self._rest = b""

    def skip(self, records: int) -> None:
        """Pass over the first ``records`` lines."""
        for _ in range(records):
            self._reader.readline()

    def count_records(self) -> int:
        """All lines of the file; the position is at its beginning afterwards."""
        count = 0
        try:
            while chunk := self._reader.read(1 << 20):
                count += chunk.count(b"\n")
        except (OSError, EOFError):
            pass
        self._reader.seek(0)
        return count

    def find_tail(self, records: int) -> int:
        """Seek to the last ``records`` lines; returns how many there are (fewer in a short file)."""
        if self.compressed:
            total = self.count_records()
            self.skip(max(total - records, 0))
            return min(total, records)
        descriptor = self._stream.fileno()
        end, found = self.size_bytes, 0
        position = end
        while position > 0:
            start = max(position - CHUNK_BYTES, 0)
            chunk = os.pread(descriptor, position - start, start)
            if position == end:
                # An unfinished record at the end is not one yet.
                chunk = chunk[: chunk.rfind(b"\n") + 1]
            count = chunk.count(b"\n")
            if found + count > records:
                # The newline before the wanted records ends the one in front of them.
                cut = len(chunk)
                for _ in range(records - found + 1):
                    cut = chunk.rfind(b"\n", 0, cut)
                self.seek(start + cut + 1)
                return records
            found += count
            position = start
        self.seek(0)
        return found

    async def next_batch(self, selector: _Selector) -> list[LogEntry]:
        """The records of the next piece; [] when there is no more now."""
        while True:
            try:
                chunk = self._reader.read(CHUNK_BYTES)
            except (OSError, EOFError):  # a damaged gzip file
                chunk = b""
            if not chunk:
                return []
            whole, newline, rest = chunk.rpartition(b"\n")
            if not newline:
                self._rest += chunk
                if len(self._rest) > LINE_LIMIT_BYTES:
                    self._rest = b""
                continue
            data = self._rest + whole
            self._rest = rest
            if len(data) <= INLINE_BYTES:
                entries = self._parser.parse(data)
            else:
                entries = await asyncio.to_thread(self._parser.parse, data)
            if entries:
                return entries

    def restart_if_truncated(self) -> None:
        """Begin again when the writer has emptied the file (``max-file=1``)."""
        if not self.compressed and os.fstat(self._stream.fileno()).st_size < self._stream.tell():
            self.seek(0)


class _Parser:
    """Lines to entries; what is not a record (a line torn by a crash) is passed over."""

    def __init__(self) -> None:
        self._stamp = ""
        self._time_ns = 0
        self._second = ""
        self._second_ns = 0

    def parse(self, data: bytes) -> list[LogEntry]:
        try:
            # One call for all lines; an array of them is what they are but for the commas.
            return self._entries(json.loads(b"[%b]" % data.replace(b"\n", b",")))
        except (ValueError, LookupError, TypeError, AttributeError):
            return self._parse_each(data)

    def _parse_each(self, data: bytes) -> list[LogEntry]:
        entries = []
        for line in data.split(b"\n"):
            try:
                entries += self._entries([json.loads(line)])
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
        return entries

    def _entries(self, records: list[dict[str, Any]]) -> list[LogEntry]:
        entries = []
        for record in records:
            stamp = record["time"]
            if stamp != self._stamp:
                self._time_ns = self._parse_time(stamp)
                self._stamp = stamp
            data = record["log"].encode("utf-8", "replace")
            entries.append(
                LogEntry(record["stream"], self._time_ns, data, record.get("attrs", _NO_ATTRIBUTES))
            )
        return entries

    def _parse_time(self, stamp: str) -> int:
        if stamp[:19] != self._second:
            self._second_ns = _seconds_ns(stamp[:19])
            self._second = stamp[:19]
        fraction = stamp[20:-1]
        return self._second_ns + (int(fraction.ljust(9, "0")) if fraction else 0)


def _seconds_ns(stamp: str) -> int:
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000


def _open(path: str) -> list[_File]:
    """Every file of the log, oldest first, held open so that a rotation takes nothing away.

    The caller closes them. The newest is opened first: a rotation in the meantime then shows a file twice
    (known by its inode) rather than never.
    """
    files: list[_File] = []
    seen = set()
    number = 0
    while True:
        names = [path] if number == 0 else [f"{path}.{number}", f"{path}.{number}.gz"]
        opened = None
        for name in names:
            try:
                opened = _File(open(name, "rb"), name)  # noqa: SIM115
                break
            except FileNotFoundError:
                continue
        if opened is None and number > 0:
            return files[::-1]
        if opened is not None and opened.identity not in seen:
            seen.add(opened.identity)
            files.append(opened)
        elif opened is not None:
            opened.close()
        number += 1


def _seek_tail(files: list[_File], records: int) -> list[_File]:
    """The files that hold the last ``records`` records, the first of them set to where these begin."""
    kept: deque[_File] = deque()
    missing = records
    for file in reversed(files):
        if missing <= 0 and kept:
            break
        missing -= file.find_tail(max(missing, 0))
        kept.appendleft(file)
    return list(kept)


async def _follow(
    path: str, files: list[_File], selector: _Selector, watch: Watch, ended: Ended
) -> AsyncGenerator[list[LogEntry], None]:
    """What is appended from now on, over rotations, until ``ended`` or the time ``until``.

    ``files``: the file that is written now, if there is one. It always holds the files that are open, for
    the caller to close.
    """
    while True:
        # In this order: what was written before the end was told is read after it was told.
        last_round = _is_ended(ended) or _is_late(selector.options)
        watch.changed.clear()
        newer = _newer(path, files[-1] if files else None)
        if files and not newer:
            files[-1].restart_if_truncated()
        files.extend(newer)
        while files:
            while batch := await files[0].next_batch(selector):
                if found := selector.choose(batch):
                    yield found
                if selector.passed:
                    return
            if len(files) == 1:
                break
            files.pop(0).close()
        if last_round:
            return
        if not newer:
            await _wait(watch, ended, selector.options)


def _close(files: list[_File]) -> None:
    for file in files:
        file.close()


def _newer(path: str, current: _File | None) -> list[_File]:
    """The files that have come after ``current`` by rotation, oldest first; [] when it is still the one
    written.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return []
    if current is not None and (status.st_dev, status.st_ino) == current.identity:
        return []
    files = _open(path)
    if current is None:
        return files
    # If ``current`` was rotated away altogether (or compressed), only the newest is surely unread.
    read = next(
        (index for index, file in enumerate(files) if file.identity == current.identity), len(files) - 2
    )
    _close(files[: read + 1])
    return files[read + 1 :]


def _is_ended(ended: Ended) -> bool:
    if ended is None:
        return False
    return ended.is_set() if isinstance(ended, asyncio.Event) else ended.done()


def _is_late(options: LogOptions) -> bool:
    return bool(options.until_ns) and time.time_ns() > options.until_ns


async def _wait(watch: Watch, ended: Ended, options: LogOptions) -> None:
    """Until the directory has changed, the container has ended, or ``until`` is past."""
    own: list[asyncio.Task[bool]] = [asyncio.create_task(watch.changed.wait())]
    if isinstance(ended, asyncio.Event):
        own.append(asyncio.create_task(ended.wait()))
    timeout_s = None
    if options.until_ns:
        timeout_s = max(options.until_ns - time.time_ns(), 0) / 1e9 + 0.001
    try:
        waited: list[asyncio.Future[Any]] = [*own]
        if isinstance(ended, asyncio.Future):
            waited.append(ended)
        await asyncio.wait(
            waited,
            timeout=timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
