"""What networks give the hosts file of a container: its own addresses, those that it is linked to."""

from collections.abc import Sequence
from pathlib import Path

from minid.containers import etcfiles
from minid.containers.links import Links, host_names
from minid.containers.model import Container
from minid.containers.store import Store
from minid.errors import InvalidParameter
from minid.layout import Layout
from minid.network.service import Networks


class HostsFile:
    """One per daemon; ``gateway_ips`` is what ``--add-host name:host-gateway`` means, if configured."""

    def __init__(
        self, layout: Layout, store: Store, networks: Networks, links: Links, gateway_ips: Sequence[str]
    ) -> None:
        self._layout = layout
        self._store = store
        self._networks = networks
        self._links = links
        self._gateway_ips = tuple(gateway_ips)

    def lines(self, container: Container) -> list[str]:
        """Beyond the fixed lines: links, then the container itself."""
        sandbox = self._networks.sandbox(container.id)
        if sandbox is None:
            return []
        config = container.config
        own = (
            f"{config.hostname}.{config.domainname} {config.hostname}"
            if config.domainname
            else config.hostname
        )
        lines = self._links.host_lines(container)
        for endpoint in sandbox.endpoints:
            lines += [f"{address}\t{own}" for address in (endpoint.ip4, endpoint.ip6) if address]
        return lines

    def gateways(self) -> tuple[str, ...]:
        """What ``host-gateway`` stands for. Raises InvalidParameter if there is nothing."""
        if self._gateway_ips:
            return self._gateway_ips
        default = self._networks.default
        found = tuple(subnet.gateway for subnet in default.subnets) if default is not None else ()
        if not found:
            raise InvalidParameter("unable to derive the IP value for host-gateway")
        return found

    def update(self, container: Container, before: Sequence[str]) -> None:
        """The networks of a running container have changed; ``before``: what ``lines`` was."""
        current = self._store.find(container.id) or container
        after = self.lines(current)
        etcfiles.replace_lines(self._path(container), set(before).__contains__, after)

    def follow(self, started: Container) -> None:
        """A container has new addresses: the files of those that are linked to it say so."""
        for container, alias in self._links.linking(started):
            ending = "\t" + host_names(alias, started)
            path = self._path(container)
            etcfiles.replace_lines(path, lambda line, end=ending: line.endswith(end), [])  # type: ignore[misc]
            self.update(container, [])

    def _path(self, container: Container) -> Path:
        return self._layout.container(container.id) / "hosts"
