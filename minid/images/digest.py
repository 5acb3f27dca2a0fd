"""Content digests: ``algorithm:hex``, as the OCI image specification writes them.

Source: OCI image-spec descriptor.md § Digests; github.com/opencontainers/go-digest for which are accepted.
"""

import hashlib
import re

from minid.errors import InvalidParameter

ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


def parse_digest(text: str) -> tuple[str, str]:
    """``(algorithm, hex)`` of a digest; ``InvalidParameter`` when it is malformed or of unknown algorithm."""
    algorithm, separator, encoded = text.partition(":")
    if not separator:
        raise InvalidParameter(f"invalid digest {text!r}: expected algorithm:hex, for instance sha256:…")
    length = ALGORITHMS.get(algorithm)
    if length is None:
        raise InvalidParameter(f"invalid digest {text!r}: unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidParameter(
            f"invalid digest {text!r}: invalid checksum digest length (not {length} digits)"
        )
    if not _HEX.fullmatch(encoded):
        raise InvalidParameter(
            f"invalid digest {text!r}: invalid checksum digest format (lower-case hex needed)"
        )
    return algorithm, encoded


def is_digest(text: object) -> bool:
    """Whether ``text`` is a digest that ``parse_digest`` accepts."""
    try:
        return isinstance(text, str) and bool(parse_digest(text))
    except InvalidParameter:
        return False


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of ``data``."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def short(digest: str) -> str:
    """The twelve hex digits by which people know a blob or an image."""
    return digest.partition(":")[2][:12] or digest[:12]
