"""A tar stream made into a layer: its diff ID, and the blob to be kept, compressed on the way.

Deterministic: the same stream gives the same blob (no name and no time in the gzip header, RFC 1952).
"""

import hashlib
import os
from typing import Any

from isal import isal_zlib

from minid.images.layers.stream import inflated
from minid.kernel.files import grow_pipe

_GZIP = 16 + isal_zlib.MAX_WBITS
_LEVEL = 1


def pack_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Read the stream ``fds[0]`` (compressed or not) to its end and write it gzipped to the file ``fds[1]``.

    Returns ``diff_id`` and ``size_bytes`` of the uncompressed, ``digest`` and ``blob_bytes`` of the compressed layer.
    Raises TarError for damaged compression; whether it is a tar shows when it is unpacked.
    """
    del request
    grow_pipe(fds[0])
    plain, packed = hashlib.sha256(), hashlib.sha256()
    size_bytes = blob_bytes = 0
    compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)

    def write(data: bytes) -> int:
        packed.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(fds[1], view) :]
        return len(data)

    for chunk in inflated(fds[0]):
        plain.update(chunk)
        size_bytes += len(chunk)
        blob_bytes += write(compressor.compress(chunk))
    blob_bytes += write(compressor.flush())
    return {
        "diff_id": f"sha256:{plain.hexdigest()}",
        "size_bytes": size_bytes,
        "digest": f"sha256:{packed.hexdigest()}",
        "blob_bytes": blob_bytes,
    }
