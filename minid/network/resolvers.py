"""The host's own resolvers: ``/etc/resolv.conf``, read again when it has changed (a laptop moves)."""

import ipaddress
import os
from pathlib import Path

from minid.network.forwarder import Server

PUBLIC = (Server("8.8.8.8"), Server("8.8.4.4"))  # as Docker, for a host that has none


def nameservers(text: str) -> tuple[Server, ...]:
    """The addresses of a resolv.conf(5), in order; what is no address is left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            ipaddress.ip_address(words[1])
        except ValueError:
            continue
        found.append(Server(words[1]))
    return tuple(found)


class HostResolvers:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._servers: tuple[Server, ...] = PUBLIC

    def servers(self) -> tuple[Server, ...]:
        """As the file says now. Never empty."""
        try:
            status = os.stat(self._path)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                text = self._path.read_text(encoding="utf-8", errors="replace")
                self._servers, self._seen = nameservers(text) or PUBLIC, seen
        except OSError:
            self._servers, self._seen = PUBLIC, None
        return self._servers
