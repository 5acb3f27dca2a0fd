"""What the machine offers, as far as the making of a container depends on it: read once by the daemon."""

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from minid.kernel import capabilities
from minid.kernel.cgroups import Tree


@dataclass(frozen=True, slots=True)
class Host:
    """``capabilities``: "CAP_…" names that the daemon can give away (see ``minid.kernel.capabilities.available``).

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


def gather(tree: Tree) -> Host:
    """The facts of this machine; ``tree`` says what its cgroups can limit."""
    features = tree.features()
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    return Host(
        capabilities=frozenset(capabilities.available()),
        cgroup_version=tree.version,
        cpus=frozenset(os.sched_getaffinity(0)),
        memory_nodes=_memory_nodes(),
        hostname=socket.gethostname(),
        swap_limit=features["SwapLimit"],
        recursive_read_only=release >= (5, 12),
        ipv4_forwarding=_text("/proc/sys/net/ipv4/ip_forward") == "1",
    )


def _memory_nodes() -> frozenset[int]:
    nodes = [
        int(path.name.removeprefix("node")) for path in Path("/sys/devices/system/node").glob("node[0-9]*")
    ]
    return frozenset(nodes or [0])


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
