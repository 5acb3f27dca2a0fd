"""Which containers have a nameserver at 127.0.0.11, and the resolv.conf that leads to it."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from minid.containers import etcfiles
from minid.containers.model import Container
from minid.containers.store import Store
from minid.errors import InvalidParameter, NotFound
from minid.layout import Layout
from minid.network.nameservers import Nameservers
from minid.network.service import Networks
from minid.network.zone import Link

LinksOf = Callable[[Container], Iterable[tuple[str, str, str]]]  # container, alias, network

log = logging.getLogger(__name__)


class Naming:
    """One per daemon."""

    def __init__(self, layout: Layout, store: Store, networks: Networks, nameservers: Nameservers) -> None:
        self._layout = layout
        self._store = store
        self._networks = networks
        self._nameservers = nameservers

    def wanted(self, container: Container) -> bool:
        """Whether the container is in a user-defined network, or will be with its reserved endpoints."""
        sandbox = self._networks.sandbox(container.id)
        return sandbox is not None and any(
            not self._networks.get(endpoint.network_id).builtin for endpoint in sandbox.endpoints
        )

    async def ensure(self, container: Container, pid: int, start_ticks: int, links_of: LinksOf) -> None:
        """Open it if it is wanted. Raises OSError; ProcessLookupError if the container has ended."""
        if self.wanted(container):
            await self._open(container, pid, start_ticks, links_of)

    async def connected(self, container: Container, links_of: LinksOf) -> None:
        """A running container is in one network more; the first user-defined one brings the nameserver."""
        if not self.wanted(container):
            return
        state = container.state
        try:
            await self._open(container, state.pid, state.pid_start_ticks, links_of)
        except ProcessLookupError:
            return  # it has just ended
        except OSError as error:
            log.error("no nameserver for a container", extra={"container": container.id, "error": error})
            return
        path = self._layout.container(container.id) / "resolv.conf"
        etcfiles.lead_to_nameserver(path, container, state.started_at_ns)

    async def reopen(self, containers: Iterable[Container], links_of: LinksOf) -> None:
        """After a daemon's start, for those that run."""

        async def one(container: Container) -> None:
            path = self._layout.container(container.id) / "resolv.conf"
            if not self.wanted(container) and not etcfiles.leads_to_nameserver(path):
                return
            state = container.state
            try:
                await self._open(container, state.pid, state.pid_start_ticks, links_of)
            except ProcessLookupError:
                pass  # it has just ended
            except OSError as error:
                log.error("no nameserver for a container", extra={"container": container.id, "error": error})

        await asyncio.gather(*(one(container) for container in containers))

    def close(self, container_id: str) -> None:
        """The run has ended. Idempotent."""
        self._nameservers.close(container_id)

    async def _open(self, container: Container, pid: int, start_ticks: int, links_of: LinksOf) -> None:
        container_id = container.id

        def links() -> list[Link]:
            current = self._store.find(container_id)
            result = []
            for ref, alias, network_name in links_of(current) if current is not None else ():
                try:
                    result.append(Link(alias, self._store.get(ref).id, network_name))
                except (NotFound, InvalidParameter):
                    pass  # the linked container is there no more
            return result

        await self._nameservers.ensure(container_id, pid, start_ticks, links, container.host_config.dns or ())
