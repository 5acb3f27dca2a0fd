"""A layer's bytes on their way from a pipe to the tar reader: inflated and hashed in a thread of their own.

Inflating (isal, zstandard) and hashing release the GIL, so this thread and the one that unpacks use two
cores. Memory is bounded: at most ``DEPTH`` chunks of ``CHUNK`` bytes wait in between, whatever the
compression ratio.
"""

import bz2
import hashlib
import io
import lzma
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

import zstandard
from isal import igzip_lib, isal_zlib

from minid.images.layers.tar import TarError

CHUNK = 256 * 1024
DEPTH = 8

# OCI image-spec media-types.md and Docker's; what is compressed how is read from the bytes themselves (as
# Docker does).
_PLAIN_SUFFIXES = (".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd", ".tar.zstd")
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)

_ISAL_ERROR = cast(type[Exception], isal_zlib.error)  # the stubs call it a constant


class _Inflater(Protocol):
    @property
    def needs_input(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def check_media_type(media_type: str) -> None:
    """Raise TarError for a layer media type that is not a tar archive (``""`` passes)."""
    if media_type and not media_type.partition(";")[0].strip().endswith(_PLAIN_SUFFIXES):
        raise TarError(f"a layer of media type {media_type} is not supported: it must be a tar")


def compression(start: bytes) -> str:
    """How a stream is compressed (gzip, zstd, bzip2, xz or none) by a stream's first six bytes."""
    if start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"  # a skippable frame comes first (zstd:chunked)
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    return "none"


def inflated(fd: int) -> Iterator[bytes]:
    """The uncompressed stream in chunks of at most ``CHUNK`` bytes. Does not close ``fd``; raises TarError,
    OSError.
    """
    start = b""
    while len(start) < 6 and (data := os.read(fd, CHUNK)):
        start += data
    kind = compression(start)
    if kind == "none":
        while start:
            yield start
            start = os.read(fd, CHUNK)
        return
    pending = [start]

    def read() -> bytes:
        return pending.pop() if pending else os.read(fd, CHUNK)

    try:
        if kind == "zstd":
            yield from _zstd(read)
        elif kind == "gzip":
            yield from _members(lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), read, kind)
        elif kind == "bzip2":
            yield from _members(bz2.BZ2Decompressor, read, kind)
        else:
            yield from _members(lzma.LZMADecompressor, read, kind)
    except (_ISAL_ERROR, zstandard.ZstdError, lzma.LZMAError, EOFError) as error:
        raise TarError(f"the {kind} data is damaged: {error}") from None


def _members(start: Callable[[], _Inflater], read: Callable[[], bytes], kind: str) -> Iterator[bytes]:
    """One or more compressed members, one behind the other; zero bytes may follow the last."""
    data = read()
    while data:
        inflater = start()
        while not inflater.eof:
            if inflater.needs_input and not data and not (data := read()):
                raise TarError(f"the {kind} data ends too early")
            if out := inflater.decompress(data, CHUNK):
                yield out
            data = b""
        data = inflater.unused_data or read()
        while data and not data.strip(b"\0"):
            data = read()


class _Readable(io.RawIOBase):
    """What zstandard reads from."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read_some = read

    def read(self, size: int = -1) -> bytes:
        return self._read_some()


def _zstd(read: Callable[[], bytes]) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor().stream_reader(
        cast(IO[bytes], _Readable(read)), read_across_frames=True, closefd=False
    )
    while chunk := reader.read(CHUNK):
        yield chunk


class Stream:
    """The uncompressed bytes of the layer in the pipe ``fd``, as ``tar.Blocks`` and in pieces; hashed on
    the way.

    Close it in any case: that ends the thread (which may go on waiting for ``fd`` until its writer closes
    it).
    """

    def __init__(self, fd: int, *, hashed: bool = True) -> None:
        self._fd = fd
        self._hashed = hashed  # else ``finish`` has nothing to say
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(DEPTH)
        self._closed = False
        self._chunk = b""
        self._at = 0
        self._ended = False
        self.size_bytes = 0
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for chunk in inflated(self._fd):
                if self._hashed:
                    self._hash.update(chunk)
                self.size_bytes += len(chunk)
                self._queue.put(chunk)
                if self._closed:
                    return
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def _next(self) -> bool:
        """Go to the next chunk; false at the end."""
        if self._ended:
            return False
        item = self._queue.get()
        self._at = 0
        if item is None or isinstance(item, BaseException):
            self._ended = True
            self._chunk = b""
            if item is not None:
                raise item
            return False
        self._chunk = item
        return True

    def take(self, count: int) -> bytes:
        at = self._at
        part = self._chunk[at : at + count]
        self._at = at + len(part)
        while len(part) < count and self._next():
            more = self._chunk[: count - len(part)]
            self._at = len(more)
            part += more
        return part

    def skip(self, count: int) -> None:
        at = self._at + count
        while at > len(self._chunk):
            at -= len(self._chunk)
            if not self._next():
                raise TarError("the archive ends in the middle of an entry")
        self._at = at

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next ``count`` bytes, without copying them. Raises TarError where the stream ends before."""
        while count:
            at = self._at
            end = min(at + count, len(self._chunk))
            if end > at:
                self._at = end
                count -= end - at
                yield memoryview(self._chunk)[at:end]
            elif not self._next():
                raise TarError("the archive ends in the middle of a file")

    def finish(self) -> str:
        """Read what is left (padding behind the archive) and return the sha256 of everything, in hex: the
        diff ID.
        """
        while self._next():
            pass
        self._thread.join()
        return self._hash.hexdigest()

    def close(self) -> None:
        self._closed = True
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
