"""Jobs that receive a context (standard library, isal, zstandard, minid.kernel and minid.images.layers only)."""

import hashlib
import os
from typing import Any

from minid.build.listing import Builder
from minid.images.layers import tar
from minid.images.layers.stream import Stream
from minid.images.layers.tar import Entry, TarError
from minid.kernel.files import grow_pipe

SMALL_BYTES = 1 << 20  # files up to this size are read whole
ALIGNED_BYTES = 64 * 1024  # larger ones begin at a block, so that a file system with reflinks can share it
BLOCK_BYTES = 4096


class EmptyArchive(TarError):
    """Not a byte came, or not one entry."""


def receive_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Read the tar in the pipe ``fds[0]``, write what is in its files to the empty file ``fds[1]``, and the listing
    behind it.

    ``may_be_empty``: an archive without an entry will do. Returns ``entries``, ``size_bytes`` (of files), ``listing``
    ([offset, length]). Raises EmptyArchive, TarError, OSError.
    """
    grow_pipe(fds[0])
    stream = Stream(fds[0], hashed=False)
    try:
        receiver = _Receiver(fds[1])
        receiver.run(stream)
        stream.finish()
        if not receiver.builder.entries and not request.get("may_be_empty"):
            raise EmptyArchive("the archive has no files")
    finally:
        stream.close()
    listing = receiver.builder.dump()
    at = receiver.write(listing)
    receiver.flush()
    return {
        "entries": receiver.builder.entries,
        "size_bytes": receiver.size_bytes,
        "listing": [at, len(listing)],
    }


class _Receiver:
    def __init__(self, out: int) -> None:
        self._out = out
        self._at = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.builder = Builder()
        self.size_bytes = 0

    def run(self, stream: Stream) -> None:
        reader = tar.Reader(stream)
        for entry in reader:
            if entry.kind != tar.REGULAR:
                self.builder.add(entry)
                continue
            self.size_bytes += entry.real_size
            if entry.sparse is not None:
                offset, digest = self._sparse(entry, stream)
            elif entry.size <= SMALL_BYTES:
                data = stream.take(entry.size)
                if len(data) < entry.size:
                    raise TarError("the archive ends in the middle of a file")
                offset, digest = self.write(data), hashlib.sha256(data).hexdigest()
            else:
                offset, digest = self._large(entry.size, stream)
            reader.unread -= entry.size
            self.builder.add(entry, offset, digest)

    def write(self, data: bytes) -> int:
        """Put it at the end of the file, soon; where it will be."""
        if len(data) > ALIGNED_BYTES:
            self._align()
        at = self._at
        self._at += len(data)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= SMALL_BYTES:
            self.flush()
        return at

    def flush(self) -> None:
        if not self._waiting:
            return
        data = memoryview(b"".join(self._waiting))
        at = self._at - len(data)
        self._waiting.clear()
        self._waiting_bytes = 0
        while data:
            count = os.pwrite(self._out, data, at)
            data = data[count:]
            at += count

    def _align(self) -> None:
        self.flush()
        self._at += -self._at % BLOCK_BYTES

    def _large(self, size: int, stream: Stream) -> tuple[int, str]:
        self._align()
        start = at = self._at
        digest = hashlib.sha256()
        for piece in stream.pieces(size):
            digest.update(piece)
            at = self._piece(piece, at)
        self._at = at
        return start, digest.hexdigest()

    def _sparse(self, entry: Entry, stream: Stream) -> tuple[int, str]:
        """Holes stay holes. The digest is that of map and data: nobody has to hash a terabyte of zeros."""
        self._align()
        start = self._at
        digest = hashlib.sha256(b"sparse %d %r" % (entry.real_size, entry.sparse))
        for offset, length in entry.sparse or ():
            at = start + offset
            for piece in stream.pieces(length):
                digest.update(piece)
                at = self._piece(piece, at)
        self._at = start + entry.real_size
        os.ftruncate(self._out, self._at)
        return start, digest.hexdigest()

    def _piece(self, piece: memoryview, at: int) -> int:
        while piece:
            count = os.pwrite(self._out, piece, at)
            piece = piece[count:]
            at += count
        return at
