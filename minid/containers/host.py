"""What the machine offers, as far as the making of a container depends on it: plain data, read once by the
daemon.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """``capabilities``: "CAP_…" names that the daemon can give away (see ``capabilities.from_mask``).

    ``cpus`` and ``memory_nodes`` are the numbers that may stand in a cpuset. ``recursive_read_only``:
    mount_setattr(2) works (Linux 5.12), so that ``-v x:y:ro`` is read-only below too.
    """

    capabilities: frozenset[str]
    cgroup_version: int = 2
    cpus: frozenset[int] = frozenset((0,))
    memory_nodes: frozenset[int] = frozenset((0,))
    hostname: str = "localhost"
    swap_limit: bool = True
    blkio_weight: bool = True
    recursive_read_only: bool = True
    ipv4_forwarding: bool = True
