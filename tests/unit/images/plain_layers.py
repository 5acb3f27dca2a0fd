"""A layer store without privileges: it keeps the inflated tar. The real one is tested in tests/system."""

import asyncio
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import zstandard

from minid.errors import Failed


@dataclass(frozen=True)
class Unpacked:
    size_bytes: int
    entries: int = 1


class PlainLayers:
    """``minid.images.layerstore.LayerStore`` over plain files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.unpacked: list[str] = []

    def has(self, diff_id: str) -> bool:
        return (self.root / diff_id).exists()

    def all(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())

    def get(self, diff_id: str) -> Unpacked:
        return Unpacked((self.root / diff_id).stat().st_size)

    async def unpack(
        self, diff_id: str, media_type: str, read_fd: int, *, sync: bool = True, verified: bool = False
    ) -> Unpacked:
        return await asyncio.to_thread(self._unpack, diff_id, media_type, os.dup(read_fd))

    is_present = has

    async def differences(self, diff_id: str, media_type: str, read_fd: int) -> list[str]:
        with (self.root / diff_id).open("rb") as file:
            same = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == diff_id
        return [] if same else ["/file has another content"]

    async def remove(self, diff_id: str) -> None:
        (self.root / diff_id).unlink(missing_ok=True)

    def _unpack(self, diff_id: str, media_type: str, read_fd: int) -> Unpacked:
        with os.fdopen(read_fd, "rb") as stream:
            try:
                if media_type.endswith("gzip"):
                    inflater = zlib.decompressobj(31)
                    data = inflater.decompress(stream.read()) + inflater.flush()
                    if not inflater.eof:
                        raise Failed("the layer is truncated")
                elif media_type.endswith("zstd"):
                    data = zstandard.ZstdDecompressor().decompress(stream.read(), max_output_size=1 << 26)
                else:
                    data = stream.read()
            except (zlib.error, zstandard.ZstdError) as error:
                raise Failed(f"the layer is damaged: {error}") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != diff_id:
            raise Failed(f"the layer is not {diff_id}")
        (self.root / diff_id).write_bytes(data)
        self.unpacked.append(diff_id)
        return Unpacked(len(data))
