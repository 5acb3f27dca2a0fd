"""The tar format: a stream of 512-byte blocks to entries. Pure; reads ustar, pax, GNU, star and v7 archives.

Sources: ``pax(1)`` (POSIX.1-2008, "ustar Interchange Format" and "pax Extended Header"), GNU tar manual,
"Basic Tar Format" and "Storing Sparse Files", ``tar(5)`` of libarchive. Names are bytes throughout: they
need not be UTF-8.
"""

import base64
import binascii
import urllib.parse
from collections.abc import Iterator
from typing import Protocol

BLOCK = 512
MAX_HEADER_BYTES = 1 << 20  # of one pax header, long name or sparse map, as Go's archive/tar has it
MAX_SIZE = (1 << 63) - 1

REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
_HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_ZEROS = bytes(BLOCK)
_NEEDED_PAX = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"atime"))


class TarError(ValueError):
    """The archive is damaged or of a kind that can't be read; the message names the entry where it is
    known.
    """


class Blocks(Protocol):
    """Where the bytes come from (``stream.Stream``, or ``Memory`` below)."""

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes; fewer only at the end of the stream."""

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes. Raises TarError where the stream ends before."""


class Memory:
    """An archive that is already in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        self._at += len(part)
        return part

    def skip(self, count: int) -> None:
        if self._at + count > len(self._data):
            raise TarError("the archive ends in the middle of an entry")
        self._at += count


class Entry:
    """One member. ``name`` is as written in the archive (a directory's may end in ``/``).

    ``kind`` is one of the type flags above or another byte that the reader of the entry has to refuse.
    ``size`` bytes of data follow in the stream; they make up the file of ``real_size`` bytes: for a sparse
    file (``sparse`` not None) as the ``(offset, length)`` pieces, in order. ``mode`` has the twelve
    permission bits. Times are nanoseconds.
    """

    __slots__ = (
        "atime_ns",
        "gid",
        "kind",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "real_size",
        "size",
        "sparse",
        "uid",
        "xattrs",
    )

    def __init__(self, name: bytes, kind: bytes) -> None:
        self.name = name
        self.kind = kind
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.real_size = 0
        self.mtime_ns = 0
        self.atime_ns = 0
        self.linkname = b""
        self.major = 0
        self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


class Reader:
    """Iterate to get the entries; between two entries, read at most ``unread`` bytes of data from the source.

    Whoever reads data subtracts it from ``unread``; the rest and the padding are skipped by the next step.
    Ends at two zero blocks (or one, or the end of the stream, as Go and GNU tar have it), without reading
    what is behind.
    """

    def __init__(self, source: Blocks) -> None:
        self._source = source
        self._globals: dict[bytes, bytes] = {}
        self.unread = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """The next entry, or None at the end. Raises TarError."""
        source = self._source
        pax: dict[bytes, bytes] | None = None
        long_name = long_link = None
        while True:
            if self.unread or self._padding:
                source.skip(self.unread + self._padding)
                self.unread = self._padding = 0
            header = source.take(BLOCK)
            if len(header) < BLOCK:
                if header or pax is not None or long_name is not None or long_link is not None:
                    raise TarError("the archive ends in the middle of a header")
                return None
            if header == _ZEROS:
                following = source.take(BLOCK)
                if following and following != _ZEROS:
                    raise TarError("the archive has a zero block where a header should be")
                return None
            check_sum(header)
            kind = header[156:157]
            if kind in b"xXgLK":
                size = number(header[124:136], "size")
                if not 0 <= size <= MAX_HEADER_BYTES:
                    raise TarError(
                        f"an extended header of {size} bytes; at most {MAX_HEADER_BYTES} are allowed"
                    )
                data = source.take(size)
                if len(data) < size:
                    raise TarError("the archive ends in the middle of an extended header")
                self._padding = -size % BLOCK
                if kind == b"L":
                    long_name = data.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = data.partition(b"\0")[0]
                elif kind == b"g":
                    self._globals.update(pax_records(data))
                else:
                    pax = pax_records(data)
                continue
            entry = _entry(header, kind, self._globals or None, pax, long_name, long_link)
            if entry.kind in _HEADER_ONLY:
                entry.size = entry.real_size = 0
            self.unread = entry.size
            self._padding = -entry.size % BLOCK
            if kind == b"S":
                self._old_sparse(entry, header)
            elif pax is not None and entry.kind == REGULAR:
                self._pax_sparse(entry, pax)
            return entry

    def _old_sparse(self, entry: Entry, header: bytes) -> None:
        """GNU tar manual, "Old GNU Format": the map is in the header and in blocks right behind it."""
        pieces = _old_pieces(header, 386, 4, entry.name)
        extended = header[482]
        blocks = 0
        while extended:
            block = self._source.take(BLOCK)
            blocks += 1
            if len(block) < BLOCK or blocks * BLOCK > MAX_HEADER_BYTES:
                raise TarError(f"{show(entry.name)}: a broken sparse map")
            pieces += _old_pieces(block, 0, 21, entry.name)
            extended = block[504]
        entry.kind = REGULAR
        _set_sparse(entry, pieces, number(header[483:495], "real size"))

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        """GNU tar manual, "PAX Format, Versions 0.0, 0.1 and 1.0"."""
        version = pax.get(b"GNU.sparse.major"), pax.get(b"GNU.sparse.minor")
        if version == (b"1", b"0"):
            real = _decimal(pax.get(b"GNU.sparse.realsize", b""), entry.name)
            pieces = self._map_in_data(entry)
        elif b"GNU.sparse.map" in pax:
            numbers = [_decimal(text, entry.name) for text in pax[b"GNU.sparse.map"].split(b",") if text]
            if len(numbers) % 2:
                raise TarError(f"{show(entry.name)}: a broken sparse map")
            pieces = list(zip(numbers[::2], numbers[1::2], strict=True))
            real = _decimal(pax.get(b"GNU.sparse.size", b""), entry.name)
        else:
            return
        entry.name = pax.get(b"GNU.sparse.name", entry.name)
        _set_sparse(entry, pieces, real)

    def _map_in_data(self, entry: Entry) -> list[tuple[int, int]]:
        """Version 1.0: decimal numbers, one a line, in as many blocks of the data as it takes."""
        text = b""
        wanted = None
        while True:
            if self.unread < BLOCK or len(text) >= MAX_HEADER_BYTES:
                raise TarError(f"{show(entry.name)}: a broken sparse map")
            text += self._source.take(BLOCK)
            self.unread -= BLOCK
            entry.size -= BLOCK
            if wanted is None and b"\n" in text:
                wanted = 1 + 2 * _decimal(text[: text.index(b"\n")], entry.name)
            if wanted is not None and text.count(b"\n") >= wanted:
                break
        numbers = [_decimal(line, entry.name) for line in text.split(b"\n")[1:wanted]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def show(name: bytes) -> str:
    """``name`` for a message: quoted, non-UTF-8 and control bytes as escapes."""
    return repr(name.decode("utf-8", "backslashreplace"))


def check_sum(header: bytes) -> None:
    """Compare a header's checksum (unsigned, or signed as old Sun tars wrote it). Raises TarError."""
    written = number(header[148:156], "checksum")
    field = sum(header[148:156])
    if written == sum(header) - field + 256:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + header[156:])
    if written != signed + 256:
        raise TarError("not a tar header, or a damaged one: the checksum is wrong")


def number(field: bytes, what: str = "number") -> int:
    """A numeric header field: octal digits, or base 256 (GNU tar manual, "Extensions": two's complement)."""
    first = field[0]
    if first & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if first & 0x40 else value
    text = field.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    if not text.isdigit():
        raise TarError(f"a header's {what} is not a number: {show(field)}")
    try:
        return int(text, 8)
    except ValueError:
        raise TarError(f"a header's {what} is not a number: {show(field)}") from None


def pax_records(data: bytes) -> dict[bytes, bytes]:
    """The records ``b"%d %s=%s\\n"`` of an extended header. The 0.0 sparse records become one
    GNU.sparse.map.
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        text = data[at:space]
        if space < 0 or not text.isdigit():
            raise TarError("a broken pax header: a record without its length")
        end = at + int(text)
        equals = data.find(b"=", space, end)
        if end > len(data) or end <= space or data[end - 1] != 10 or equals <= space + 1:
            raise TarError("a broken pax header: a record of the wrong length")
        key, value = data[space + 1 : equals], data[equals + 1 : end - 1]
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)
        else:
            if key in (b"path", b"linkpath", b"GNU.sparse.name") and b"\0" in value:
                raise TarError("a broken pax header: a name with a NUL in it")
            records[key] = value
        at = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def time_ns(text: bytes) -> int:
    """A pax time, ``b"-1.5"`` seconds, as nanoseconds, exactly; more digits are cut off towards the past."""
    sign = text[:1] == b"-"
    whole, _, fraction = text[sign:].partition(b".")
    digits = (fraction + b"000000000")[:9]
    if not whole.isdigit() or not digits.isdigit() or (fraction and not fraction.isdigit()):
        raise TarError(f"a broken pax header: {show(text)} is not a time")
    value = int(whole) * 1_000_000_000 + int(digits)
    return -value if sign else value


def _entry(
    header: bytes,
    kind: bytes,
    globals_: dict[bytes, bytes] | None,
    pax: dict[bytes, bytes] | None,
    long_name: bytes | None,
    long_link: bytes | None,
) -> Entry:
    name = header[:100].partition(b"\0")[0]
    magic = header[257:265]
    if magic == b"ustar\x0000" and header[345]:
        length = 131 if header[508:512] == b"tar\0" else 155  # star keeps times behind a shorter prefix
        name = header[345 : 345 + length].partition(b"\0")[0] + b"/" + name
    if kind in b"\x007" or not kind:
        kind = REGULAR
    entry = Entry(name if long_name is None else long_name, kind)
    entry.mode = number(header[100:108], "mode") & 0o7777
    entry.uid = number(header[108:116], "uid")
    entry.gid = number(header[116:124], "gid")
    entry.size = number(header[124:136], "size")
    entry.mtime_ns = entry.atime_ns = number(header[136:148], "mtime") * 1_000_000_000
    if kind in b"12":
        entry.linkname = header[157:257].partition(b"\0")[0] if long_link is None else long_link
    elif kind in b"34":
        entry.major = number(header[329:337], "device number")
        entry.minor = number(header[337:345], "device number")
    if globals_ is not None:
        _apply_pax(entry, globals_ if pax is None else {**globals_, **pax})
    elif pax is not None:
        _apply_pax(entry, pax)
    if kind == REGULAR and entry.name.endswith(b"/"):
        entry.kind = DIRECTORY  # v7 archives have no type for directories
    if not 0 <= entry.size <= MAX_SIZE:
        raise TarError(f"{show(entry.name)}: a size of {entry.size} bytes")
    entry.real_size = entry.size
    return entry


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    atime = None
    for key, value in pax.items():
        if key in _NEEDED_PAX:
            if not value:
                continue  # an empty value takes the record back
            if key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.linkname = value
            elif key == b"size":
                entry.size = _decimal(value, entry.name)
            elif key == b"uid":
                entry.uid = _decimal(value, entry.name)
            elif key == b"gid":
                entry.gid = _decimal(value, entry.name)
            elif key == b"mtime":
                entry.mtime_ns = time_ns(value)
            else:
                atime = time_ns(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs[_xattr_name(key[13:])] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            try:
                decoded = base64.b64decode(value + b"=" * (-len(value) % 4))
            except binascii.Error:
                raise TarError(f"{show(entry.name)}: a broken extended attribute {show(key)}") from None
            entry.xattrs.setdefault(_xattr_name(urllib.parse.unquote_to_bytes(key[17:])), decoded)
    entry.atime_ns = entry.mtime_ns if atime is None else atime


def _xattr_name(name: bytes) -> str:
    if not name or b"\0" in name:
        raise TarError(f"a broken pax header: an extended attribute named {show(name)}")
    return name.decode("utf-8", "surrogateescape")


def _decimal(text: bytes, name: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise TarError(f"{show(name)}: a broken pax header: {show(text[:40])} is not a number")
    return int(text)


def _old_pieces(block: bytes, at: int, count: int, name: bytes) -> list[tuple[int, int]]:
    pieces = []
    for start in range(at, at + 24 * count, 24):
        if not block[start] and not block[start + 12]:
            break
        pieces.append((number(block[start : start + 12]), number(block[start + 12 : start + 24])))
    return pieces


def _set_sparse(entry: Entry, pieces: list[tuple[int, int]], real_size: int) -> None:
    end = total = 0
    for offset, length in pieces:
        if offset < end or length < 0:
            raise TarError(f"{show(entry.name)}: a broken sparse map")
        end = offset + length
        total += length
    if end > real_size or total != entry.size or real_size > MAX_SIZE:
        raise TarError(f"{show(entry.name)}: a sparse map that doesn't fit the file")
    entry.sparse = pieces
    entry.real_size = real_size
