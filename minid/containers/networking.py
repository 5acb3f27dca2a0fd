"""Containers and their networks: what a container wants, what it gets while it runs.

What is wanted is in the container's record (``networking.endpoints_config``: the API's ``EndpointSettings``
by network name); what is given exists from before the start until after the end, in ``Networks``.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from minid.containers import endpoints
from minid.containers.endpoints import NONE, Settings, dns_names, endpoint_settings, is_mac
from minid.containers.hostsfile import HostsFile
from minid.containers.links import Links, parse_link
from minid.containers.model import Container, ContainerConfig, HostConfig, NetworkingConfig, PortBinding
from minid.containers.naming import Naming
from minid.containers.ports import Bindings, port_specs, spec_fits, specs_of, without_bindings
from minid.containers.store import Store
from minid.containers.validate import check_ports
from minid.errors import Forbidden, InvalidParameter, NotFound
from minid.layout import Layout
from minid.network.model import Endpoint, EndpointRequest, Network, Sandbox
from minid.network.ruleset import LinkedPort
from minid.network.service import Networks


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """One network of a container: what is wanted there, and what is given while it runs."""

    name: str
    settings: Settings
    network: Network | None
    endpoint: Endpoint | None
    names: tuple[str, ...] = ()


class Networking:
    """One per daemon; ``host_gateway_ips`` is what ``--add-host name:host-gateway`` means, if configured."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        networks: Networks,
        naming: Naming,
        host_gateway_ips: Sequence[str],
    ) -> None:
        self._store = store
        self._networks = networks
        self._naming = naming
        self._opened: frozenset[LinkedPort] = frozenset()  # by links, in the firewall
        self.links = Links(store, networks)
        self.hosts = HostsFile(layout, store, networks, self.links, host_gateway_ips)

    # -- at creation

    def settle(
        self, config: ContainerConfig, host_config: HostConfig, networking: NetworkingConfig
    ) -> NetworkingConfig:
        """The wanted endpoints by network name, the network mode's own among them. Raises InvalidParameter.

        A network that does not exist is the start's business, as with dockerd (whose clients take "not
        found" at creation for a missing image).
        """
        mode = host_config.network_mode
        given = {
            self._name(ref): endpoint_settings(ref, raw) for ref, raw in networking.endpoints_config.items()
        }
        if not has_own_networks(mode):
            if set(given) - {mode}:
                raise InvalidParameter(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                )
            return NetworkingConfig({} if mode.startswith("container:") else {mode: given.get(mode, NONE)})
        primary = self._primary(mode)
        if primary == "none":
            return NetworkingConfig({"none": NONE})
        if "default" in given:
            given[primary] = given.pop("default")
        wanted = {primary: given.pop(primary, NONE), **dict(sorted(given.items()))}
        for name, settings in wanted.items():
            network = self._networks.find(name)
            if network is None:
                continue
            endpoints.check(network, settings)
            if network.driver in ("host", "null") and not network.config_only:
                raise InvalidParameter(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                )
        if config.mac_address and not is_mac(config.mac_address):
            raise InvalidParameter(f"{config.mac_address} is not a valid mac address")
        for link in host_config.links or ():
            ref, _ = parse_link(link)
            try:
                self._store.get(ref)
            except NotFound as error:
                raise InvalidParameter(f"could not get container for {ref}: {error}") from None
        return NetworkingConfig(wanted)

    def _name(self, ref: str) -> str:
        network = None if ref == "default" else self._networks.find(ref)
        return ref if network is None else network.name

    def _primary(self, mode: str) -> str:
        if mode in ("", "default"):
            return "none" if self._networks.default is None else "bridge"
        return self._name(mode)

    # -- at start and end

    async def reserve(self, container: Container) -> None:
        """Addresses and ports for the run that is about to begin; raises what ``Sandboxes.reserve`` raises,
        and Failed when somebody who is linked to is not there.
        """
        if has_own_networks(container.host_config.network_mode):
            self.links.check(container)
            await self._networks.sandboxes.reserve(
                container.id, container.name, self._requests(container), port_specs(container)
            )

    async def plumb(self, container: Container, pid: int, start_ticks: int) -> None:
        """The sandbox of the container stands, with ``pid`` in its network namespace."""
        if self._networks.sandbox(container.id) is not None:
            failures = await asyncio.gather(
                self._networks.sandboxes.plumb(container.id, pid, start_ticks),
                self._naming.ensure(container, pid, start_ticks, self.links.of),
                return_exceptions=True,
            )
            for failure in filter(None, failures):
                raise failure
            self.hosts.follow(container)
            await self._open_links()

    async def release(self, container_id: str) -> None:
        """The run has ended. Idempotent."""
        self._naming.close(container_id)
        await self._networks.sandboxes.release(container_id)
        await self._open_links()

    async def _open_links(self) -> None:
        """The firewall knows what links open now."""
        wanted = self.links.exceptions()
        if wanted != self._opened:
            await self._networks.sandboxes.open(wanted)
            self._opened = wanted

    async def retain_running(self) -> None:
        """After a daemon's start: what runs keeps its addresses, all others are free."""
        running = [container for container in self._store.all() if container.state.running]
        await self._networks.sandboxes.retain({container.id for container in running})
        await self._naming.reopen(
            [one for one in running if has_own_networks(one.host_config.network_mode)], self.links.of
        )
        await self._open_links()

    def has_nameserver(self, container: Container) -> bool:
        """Whether its reserved endpoints bring one."""
        return self._naming.wanted(container)

    def _requests(self, container: Container) -> list[EndpointRequest]:
        wanted = dict(container.networking.endpoints_config) or {
            self._primary(container.host_config.network_mode): NONE
        }
        return [self._request(container, name, settings or NONE) for name, settings in wanted.items()]

    def _request(self, container: Container, name: str, settings: Settings) -> EndpointRequest:
        primary = name == self._primary(container.host_config.network_mode)
        mac = container.config.mac_address if primary else ""
        return endpoints.request(container, self._networks.get(name), settings, mac=mac)

    # -- while it lives

    async def connect(self, container: Container, ref: str, raw: Any) -> Container:
        """``network connect``: at once if it runs, else at its next start. The container's new record."""
        network = self._networks.get(ref)
        settings = endpoint_settings(network.name, raw)
        mode = container.host_config.network_mode
        if mode == "host" or mode.startswith("container:"):
            raise InvalidParameter(
                "container sharing network namespace with another container or host cannot be connected to "
                "any other network"
            )
        if network.driver == "host":
            raise InvalidParameter(
                "container cannot be disconnected from host network or connected to host network"
            )
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        if mode == "none" or network.driver == "null":
            raise InvalidParameter(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )
        endpoints.check(network, settings)
        wanted = container.networking.endpoints_config
        if network.name in wanted:
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
        if container.state.running:
            before = self.hosts.lines(container)
            await self._networks.sandboxes.connect(
                container.id,
                self._request(container, network.name, settings),
                container.state.pid,
                container.state.pid_start_ticks,
            )
            self.hosts.update(container, before)
            await self._naming.connected(container, self.links.of)
        return self._keep(container, {**wanted, network.name: settings})

    async def disconnect(self, container: Container, ref: str) -> Container:
        """``network disconnect``; see ``connect``."""
        network = self._networks.get(ref)
        if container.host_config.network_mode == "host" or network.driver == "host":
            raise InvalidParameter(
                "container cannot be disconnected from host network or connected to host network"
            )
        wanted = dict(container.networking.endpoints_config)
        sandbox = self._networks.sandbox(container.id)
        connected = sandbox is not None and sandbox.endpoint(network.id) is not None
        if network.name not in wanted and not connected:
            raise Forbidden(f"container {container.id} is not connected to network {network.name}")
        wanted.pop(network.name, None)
        if container.state.running and connected:
            before = self.hosts.lines(container)
            await self._networks.sandboxes.disconnect(
                container.id, network, container.state.pid, container.state.pid_start_ticks
            )
            self.hosts.update(container, before)
        return self._keep(container, wanted)

    def _keep(self, container: Container, wanted: Settings) -> Container:
        current = self._store.find(container.id)
        if current is None:
            raise NotFound(f"No such container: {container.id}")
        updated = dataclasses.replace(current, networking=NetworkingConfig(wanted))
        self._store.replace(updated)
        return updated

    async def edit_ports(self, container: Container, add: Bindings, remove: Bindings) -> HostConfig:
        """Publish other ports, at once if it runs; what the container's HostConfig is now. Raises
        InvalidParameter, NotFound (nothing to take away), Failed (taken by somebody).
        """
        check_ports(add)
        check_ports(remove)
        mode = container.host_config.network_mode
        if not has_own_networks(mode):
            raise InvalidParameter(f"ports of a container with network mode {mode} can't be published")
        kept = without_bindings(container.host_config.port_bindings, remove)
        sandbox = self._networks.sandbox(container.id)
        records = sandbox.ports if sandbox is not None else ()
        for key, unwanted in remove.items():
            one, wanted = {key: unwanted}, container.host_config.port_bindings
            running = any(spec_fits(spec, record) for spec in specs_of(one) for record in records)
            if not running and without_bindings(wanted, one) == wanted:
                raise NotFound(f"port {key} of {container.name} is not published there")
        bindings = {key: (*(kept.get(key) or ()), *(add.get(key) or ())) for key in (*kept, *add)}
        for key in add:
            bindings[key] = bindings[key] or (PortBinding(),)
        if sandbox is not None and container.state.running:
            gone = [one for one in records if any(spec_fits(spec, one) for spec in specs_of(remove))]
            await self._networks.sandboxes.edit_ports(container.id, specs_of(add), gone)
        return dataclasses.replace(container.host_config, port_bindings=bindings)

    async def unlink(self, container: Container, alias: str) -> None:
        """Take a link away (``rm --link``). Raises NotFound."""
        wanted = container.host_config.links or ()
        kept = tuple(text for text in wanted if parse_link(text)[1] != alias)
        if kept == wanted:
            raise NotFound(f"No such container: {container.name}/{alias}")
        before = self.hosts.lines(container)
        host_config = dataclasses.replace(container.host_config, links=kept or None)
        self._store.replace(dataclasses.replace(container, host_config=host_config))
        self.hosts.update(container, before)
        await self._open_links()

    def renamed(self, container: Container, old_name: str) -> None:
        """Its new name counts at once; links lead to it still."""
        self.links.follow_rename(container, old_name)
        wanted = container.networking.endpoints_config

        def names(endpoint: Endpoint) -> tuple[str, ...]:
            network = self._networks.get(endpoint.network_id)
            settings = wanted.get(network.name) or NONE
            return () if network.builtin else dns_names(container, settings.get("Aliases") or ())

        self._networks.sandboxes.rename(container.id, container.name, names)

    # -- reading

    def names_and_ids(self, container: Container) -> tuple[str, ...]:
        """Of the networks that a container is in, or will be: for filters."""
        mode = container.host_config.network_mode
        if mode.startswith("container:"):
            return ()
        found = [self._networks.find(name) for name in container.networking.endpoints_config]
        found = found or [self._networks.find("bridge" if mode in ("", "default") else mode)]
        return tuple(text for network in found if network is not None for text in (network.name, network.id))

    def joined(self, container: Container) -> list[Joined]:
        """The networks of a container; none if it shares another one's."""
        mode = container.host_config.network_mode
        if mode.startswith("container:"):
            return []
        sandbox = self._networks.sandbox(container.id)
        wanted: Settings = container.networking.endpoints_config
        if not wanted and sandbox is None:
            default = "none" if self._networks.default is None else "bridge"
            wanted = {default if mode in ("", "default") else mode: NONE}
        result = []
        for name, settings in wanted.items():
            network = self._networks.find(name)
            endpoint = sandbox.endpoint(network.id) if sandbox is not None and network is not None else None
            names = dns_names(container, (settings or NONE).get("Aliases") or ())
            result.append(Joined(name, settings or NONE, network, endpoint, names))
        return result

    def of_network(self, network: Network) -> list[tuple[Container, Endpoint | None]]:
        """The running containers in a network, with their endpoints (None in ``host`` and ``none``)."""
        if network.driver in ("host", "null"):
            return [
                (container, None)
                for container in self._store.all()
                if container.state.running and self._effective_mode(container) == network.name
            ]
        result: list[tuple[Container, Endpoint | None]] = []
        for endpoint in self._networks.endpoints(network.id):
            container = self._store.find(endpoint.container_id)
            if container is not None:
                result.append((container, endpoint))
        return result

    def _effective_mode(self, container: Container) -> str:
        mode = container.host_config.network_mode
        if mode in ("", "default"):
            return next(iter(container.networking.endpoints_config), "bridge")
        return mode

    def sandbox(self, container: Container) -> Sandbox | None:
        """What the container has; another container's when it shares that one's network."""
        mode = container.host_config.network_mode
        return None if mode.startswith("container:") else self._networks.sandbox(container.id)


def has_own_networks(mode: str) -> bool:
    """Whether a container of this network mode has endpoints: not so for host, none and another's."""
    return mode not in ("host", "none") and not mode.startswith("container:")
