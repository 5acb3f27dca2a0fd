"""Layers for tests, made with Python's tarfile: what the code under test reads is not what made it."""

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MTIME = 1_600_000_000


@dataclass
class Tar:
    """Builds an archive entry by entry; ``data`` is the result."""

    format: int = tarfile.PAX_FORMAT
    _buffer: io.BytesIO = field(default_factory=io.BytesIO)
    _tar: tarfile.TarFile | None = None

    def __post_init__(self) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 - closed by ``data``
            fileobj=self._buffer, mode="w", format=self.format, encoding="utf-8", errors="surrogateescape"
        )

    def add(
        self,
        name: str,
        kind: bytes = tarfile.REGTYPE,
        data: bytes = b"",
        *,
        mode: int | None = None,
        xattrs: Mapping[str, bytes] | None = None,
        change: Callable[[tarfile.TarInfo], object] | None = None,
        **fields: object,
    ) -> "Tar":
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = len(data)
        info.mtime = MTIME
        info.mode = mode if mode is not None else (0o755 if kind == tarfile.DIRTYPE else 0o644)
        for key, value in fields.items():
            setattr(info, key, value)
        for key, value in (xattrs or {}).items():
            info.pax_headers[f"SCHILY.xattr.{key}"] = value.decode("utf-8", "surrogateescape")
        if change:
            change(info)
        assert self._tar is not None
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def dir(self, name: str, **fields: object) -> "Tar":
        return self.add(name, tarfile.DIRTYPE, **fields)  # type: ignore[arg-type]

    def file(self, name: str, data: bytes = b"", **fields: object) -> "Tar":
        return self.add(name, tarfile.REGTYPE, data, **fields)  # type: ignore[arg-type]

    def link(self, name: str, target: str, **fields: object) -> "Tar":
        return self.add(name, tarfile.SYMTYPE, linkname=target, **fields)  # type: ignore[arg-type]

    def hardlink(self, name: str, target: str, **fields: object) -> "Tar":
        return self.add(name, tarfile.LNKTYPE, linkname=target, **fields)  # type: ignore[arg-type]

    @property
    def data(self) -> bytes:
        assert self._tar is not None
        self._tar.close()
        return self._buffer.getvalue()


def feed(data: bytes) -> int:
    """A descriptor to read ``data`` from, as long as it fits into a memory file; close it."""
    fd = os.memfd_create("layer", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
