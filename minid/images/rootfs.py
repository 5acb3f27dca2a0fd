"""What a container's root file system is made of, as data: snapshot drivers make it, the shim mounts it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rootfs:
    """``kind`` "overlay": ``lower`` directories, topmost first, below ``upper`` with ``work``; "bind": ``source``."""

    kind: str
    lower: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    source: str = ""
