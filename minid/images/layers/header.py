"""Headers of tar entries, written: ustar where that says it all, with a pax header in front where it does
not. Pure.

Sources: ``pax(1)``, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "PAX Format,
Version 1.0".
"""

from collections.abc import Mapping, Sequence

from minid.images.layers.tar import BLOCK, DIRECTORY, HARDLINK, SYMLINK

END = bytes(2 * BLOCK)


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime_s: int = 0,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
    xattrs: Mapping[str, bytes] | None = None,
    sparse_real_size: int | None = None,
) -> bytes:
    """Everything in front of an entry's data, as whole blocks.

    A directory's name gets its ``/``. ``size`` is that of the data that follows; with ``sparse_real_size``
    the data starts with ``sparse_map``, and that is the size of the file.
    """
    if kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    pax: list[tuple[bytes, bytes]] = []
    if sparse_real_size is not None:
        pax += [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", name),
            (b"GNU.sparse.realsize", b"%d" % sparse_real_size),
        ]
    prefix, short = _split(name)
    if short is None:
        if sparse_real_size is None:
            pax.append((b"path", name))
        short = name[-100:].lstrip(b"/")
    if len(linkname) > 100:
        pax.append((b"linkpath", linkname))
    for key, value, digits in (
        (b"uid", uid, 7),
        (b"gid", gid, 7),
        (b"size", size, 11),
        (b"mtime", mtime_s, 11),
    ):
        if not 0 <= value < 8**digits:
            pax.append((key, b"%d" % value))
    pax += [(b"SCHILY.xattr." + _raw(key), value) for key, value in (xattrs or {}).items()]
    block = _ustar(short, prefix, kind, mode, uid, gid, size, mtime_s, linkname, major, minor)
    if not pax:
        return block
    records = b"".join(_record(key, value) for key, value in pax)
    front = _ustar(
        b"PaxHeaders.0/" + short[-80:].strip(b"/"), b"", b"x", 0o644, 0, 0, len(records), 0, b"", 0, 0
    )
    return front + records + padding(len(records)) + block


def sparse_map(pieces: Sequence[tuple[int, int]]) -> bytes:
    """The map in front of a sparse file's data: its ``(start, end)`` pieces, in order."""
    numbers = [len(pieces)]
    for start, end in pieces:
        numbers += [start, end - start]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + padding(len(text))


def padding(size: int) -> bytes:
    """The zeros that fill up the last block of ``size`` bytes."""
    return bytes(-size % BLOCK)


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """``prefix`` and ``name`` fields that make up ``name``, if it fits."""
    if len(name) <= 100:
        return b"", name
    if len(name) > 256:
        return b"", None
    cut = name.find(b"/", len(name) - 101, len(name) - 1)
    if cut < 1 or cut > 155:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _ustar(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime_s: int,
    linkname: bytes,
    major: int,
    minor: int,
) -> bytes:
    linkname = linkname[:100] if kind in (HARDLINK, SYMLINK) else b""
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            _octal(uid, 7),
            _octal(gid, 7),
            _octal(size, 11),
            _octal(mtime_s, 11),
            b"        ",
            kind,
            linkname.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _device(major),
            _device(minor),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(value: int, digits: int) -> bytes:
    """The field's digits; zeros where a pax record has the value."""
    if not 0 <= value < 8**digits:
        value = 0
    return b"%0*o\0" % (digits, value)


def _device(value: int) -> bytes:
    """Octal, or base 256 as GNU tar does for numbers that are too large (pax has no record for them)."""
    return b"%07o\0" % value if value < 8**7 else b"\x80" + value.to_bytes(7, "big")


def _record(key: bytes, value: bytes) -> bytes:
    """``b"%d %s=%s\\n"``, where the number is the length of all of it."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
