"""The nameservers of all containers that are in user-defined networks, and what they know together."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.network import redirect, zone
from minid.network.forwarder import Server
from minid.network.nameserver import Nameserver, Sockets
from minid.network.resolvers import HostResolvers
from minid.network.service import Networks
from minid.network.zone import Index, Link, View

Links = Callable[[], Sequence[Link]]

log = logging.getLogger(__name__)


class Nameservers:
    """One per daemon."""

    def __init__(self, networks: Networks, resolv_conf: Path = Path("/etc/resolv.conf")) -> None:
        self._networks = networks
        self._host = HostResolvers(resolv_conf)
        self._indexes: dict[str, Index] = {}  # by network; made when somebody asks
        self._running: dict[str, Nameserver] = {}  # by container
        self._opening: dict[str, object] = {}  # whose turn it is, by container
        networks.news.on_change = self._changed

    async def ensure(
        self, container_id: str, pid: int, start_ticks: int, links: Links, own_servers: Sequence[str]
    ) -> None:
        """The container with this process in its network namespace has a nameserver. Raises OSError;
        ProcessLookupError if the process has ended.
        """
        if container_id in self._running or container_id in self._opening:
            return
        turn = self._opening[container_id] = object()
        try:
            sockets = await asyncio.to_thread(Sockets.open, pid, start_ticks)
            if self._opening.get(container_id) is not turn:
                sockets.close()  # closed meanwhile
                await asyncio.to_thread(sockets.settle)
                return
            nameserver = Nameserver(
                sockets,
                lambda: self._view(container_id, links),
                tuple(Server(address) for address in own_servers if address != redirect.ADDRESS),
                self._host.servers,
            )
            nameserver.start()
            self._running[container_id] = nameserver
        finally:
            if self._opening.get(container_id) is turn:
                del self._opening[container_id]

    def close(self, container_id: str) -> None:
        """The run has ended. Idempotent."""
        self._opening.pop(container_id, None)
        nameserver = self._running.pop(container_id, None)
        if nameserver is not None:
            nameserver.close()

    def close_all(self) -> None:
        for container_id in (*self._opening, *self._running):
            self.close(container_id)

    def _changed(self, network_id: str) -> None:
        self._indexes.pop(network_id, None)

    def _view(self, container_id: str, links: Links) -> View:
        sandbox = self._networks.sandbox(container_id)
        networks = [
            network
            for endpoint in (sandbox.endpoints if sandbox is not None else ())
            if (network := self._networks.find(endpoint.network_id)) is not None
        ]
        return View(
            [self._index(network.id) for network in networks if not network.builtin],
            links(),
            any(not network.internal for network in networks),
        )

    def _index(self, network_id: str) -> Index:
        found = self._indexes.get(network_id)
        if found is None:
            network = self._networks.get(network_id)
            found = self._indexes[network_id] = zone.index(network, self._networks.endpoints(network_id))
        return found
