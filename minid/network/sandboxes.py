"""Sandboxes: what one run of a container has of networks, from before its start until after its end."""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from minid.errors import Forbidden
from minid.network import bridge, endpoints, plumbing, vlan
from minid.network.devices import Devices
from minid.network.firewall import PublishedPort
from minid.network.model import Endpoint, EndpointRequest, Network, PortSpec, Sandbox
from minid.network.news import News
from minid.network.publishing import Publishing, destinations
from minid.network.ruleset import LinkedPort
from minid.network.store import Store

SWEEP_AFTER_S = 2.0  # the kernel takes interfaces away within milliseconds, where nobody holds them


class Sandboxes:
    """One per daemon. ``host_ip``: where ports are published that name no address ("" everywhere)."""

    def __init__(
        self,
        store: Store,
        devices: Devices,
        publishing: Publishing,
        news: News,
        get_network: Callable[[str], Network],
        host_ip: str,
    ) -> None:
        self._store = store
        self._devices = devices
        self._publishing = publishing
        self._news = news
        self._get_network = get_network
        self._host_ip = "" if host_ip == "0.0.0.0" else host_ip
        self._sweeping: asyncio.Task[None] | None = None

    def find(self, container_id: str) -> Sandbox | None:
        """Of a container that runs, or is about to."""
        return self._store.sandboxes.get(container_id)

    def published(self) -> dict[str, tuple[Sandbox, Sequence[PublishedPort]]]:
        """All, with where their ports lead, by container."""
        return {
            container_id: (sandbox, self._destinations(sandbox))
            for container_id, sandbox in self._store.sandboxes.items()
        }

    async def reserve(
        self,
        container_id: str,
        name: str,
        requests: Sequence[EndpointRequest],
        ports: Sequence[PortSpec] = (),
    ) -> Sandbox:
        """Addresses and host ports for a container that is about to start, in the database when this
        returns. Raises NotFound (network), InvalidParameter, Forbidden (address), Failed (no address left,
        port taken), with nothing kept.
        """
        await self.release(container_id)
        found: list[Endpoint] = []
        for request in requests:
            network = self._get_network(request.network)
            if network.config_only:
                raise Forbidden("cannot create endpoint on configuration-only network")
            if network.driver not in ("host", "null"):
                found.append(self._plan(network, container_id, request, found))
        specs = [self._bound(spec) for spec in ports] if found else []
        published = self._publishing.reserve(container_id, name, specs)
        sandbox = Sandbox(secrets.token_hex(32), container_id, name, tuple(found), published)
        self._store.add_sandbox(sandbox)
        return sandbox

    async def plumb(self, container_id: str, pid: int, start_ticks: int) -> None:
        """The reserved endpoints get their interfaces in the network namespace of the process."""
        sandbox = self._store.sandboxes[container_id]
        if not sandbox.endpoints:
            return
        wirings = [self._devices.wiring(self._network(one), one) for one in sandbox.endpoints]
        try:
            await self._devices.run(plumbing.connect, pid, start_ticks, wirings, self.gateways(sandbox))
        except OSError as error:
            raise bridge.refused(
                error, f"failed to set up container networking for {sandbox.name}"
            ) from error
        await self._publishing.publish(container_id, self._destinations(sandbox))
        for endpoint in sandbox.endpoints:
            self._news.connected(self._network(endpoint), endpoint)

    async def release(self, container_id: str) -> None:
        """After the end of a container: its addresses and ports are free. Idempotent."""
        sandbox = self._store.sandboxes.get(container_id)
        if sandbox is None:
            return
        if sandbox.ports:
            await self._publishing.withdraw(container_id, self._destinations(sandbox))
        self._store.remove_sandbox(container_id)
        for endpoint in sandbox.endpoints:
            self._disconnected(endpoint)
        if any(endpoint.device for endpoint in sandbox.endpoints):
            self._sweep_soon()

    async def retain(self, container_ids: Collection[str]) -> None:
        """Containers that run; addresses and ports of all others are free again."""
        for container_id in tuple(self._store.sandboxes):
            if container_id not in container_ids:
                await self.release(container_id)
        await self._sweep()

    async def edit_ports(
        self, container_id: str, add: Sequence[PortSpec], remove: Sequence[Mapping[str, Any]]
    ) -> None:
        """Change what a container that runs publishes; ``remove``: records of its sandbox. Raises Failed."""
        sandbox = self._store.sandboxes[container_id]
        if remove:
            sandbox = await self._publishing.remove(sandbox, remove, self._destinations)
            self._store.replace_sandbox(sandbox)
        if add:
            specs = [self._bound(spec) for spec in add]
            sandbox = await self._publishing.add(sandbox, specs, self._destinations)
            self._store.replace_sandbox(sandbox)

    async def connect(
        self, container_id: str, request: EndpointRequest, pid: int, start_ticks: int
    ) -> Endpoint:
        """One more network for a container that runs. Raises a MinidError, with nothing changed."""
        network = self._get_network(request.network)
        sandbox = self._store.sandboxes[container_id]
        if sandbox.endpoint(network.id) is not None:
            raise Forbidden(f"endpoint with name {sandbox.name} already exists in network {network.name}")
        old = self._destinations(sandbox)
        endpoint = self._plan(network, container_id, request, sandbox.endpoints)
        sandbox = self._store.add_endpoint(endpoint)
        try:
            wirings = [self._devices.wiring(network, endpoint)]
            await self._devices.run(plumbing.connect, pid, start_ticks, wirings, self.gateways(sandbox))
        except OSError as error:
            self._store.remove_endpoint(endpoint)
            raise bridge.refused(error, f"failed to connect {sandbox.name} to {network.name}") from error
        await self._publishing.move(container_id, old, self._destinations(sandbox))
        self._news.connected(network, endpoint)
        return endpoint

    async def disconnect(self, container_id: str, network: Network, pid: int, start_ticks: int) -> None:
        """One network less for a container that runs."""
        sandbox = self._store.sandboxes.get(container_id)
        endpoint = sandbox.endpoint(network.id) if sandbox is not None else None
        if endpoint is None:
            raise Forbidden(f"container {container_id} is not connected to network {network.name}")
        assert sandbox is not None
        old = self._destinations(sandbox)
        run = self._devices.run
        try:
            await run(plumbing.disconnect, pid, start_ticks, endpoint)
            sandbox = self._store.remove_endpoint(endpoint)
            gateways, on_link = self.gateways(sandbox), self._on_link(sandbox)
            await run(plumbing.set_gateways, pid, start_ticks, gateways, on_link)
        except ProcessLookupError:
            pass  # it has just ended
        except OSError as error:
            raise bridge.refused(error, f"failed to disconnect {sandbox.name}") from error
        await self._publishing.move(container_id, old, self._destinations(sandbox))
        self._disconnected(endpoint)

    async def open(self, links: frozenset[LinkedPort]) -> None:
        """These and no others are what containers may connect to that may not talk to each other."""
        await self._publishing.open(links)

    def rename(self, container_id: str, name: str, names: Callable[[Endpoint], tuple[str, ...]]) -> None:
        """A container that runs has a new name."""
        sandbox = self._store.sandboxes.get(container_id)
        if sandbox is None:
            return
        self._store.replace_sandbox(dataclasses.replace(sandbox, name=name))
        for endpoint in sandbox.endpoints:
            self._store.replace_endpoint(dataclasses.replace(endpoint, names=names(endpoint)))
            self._news.on_change(endpoint.network_id)

    def gateways(self, sandbox: Sandbox) -> tuple[Endpoint | None, Endpoint | None]:
        """Through which endpoint the default routes go (IPv4, IPv6): as with Docker, of the networks that
        lead out the one with the highest priority, then the first by name.
        """
        named = sorted(
            (one for one in sandbox.endpoints if not self._network(one).internal),
            key=lambda one: (-one.gateway_priority, self._network(one).name),
        )
        on_link = self._on_link(sandbox)
        return (
            next((one for one in named if one.ip4 and (one.gateway4 or one.id in on_link)), None),
            next((one for one in named if one.ip6 and (one.gateway6 or one.id in on_link)), None),
        )

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _plan(
        self, network: Network, container_id: str, request: EndpointRequest, others: Sequence[Endpoint]
    ) -> Endpoint:
        self._devices.check(network)
        return endpoints.plan(network, container_id, request, others, self._store.taken[network.id])

    def _bound(self, spec: PortSpec) -> PortSpec:
        """With the host address that the configuration says, where none was asked for."""
        if spec.host_ip or not self._host_ip:
            return spec
        return dataclasses.replace(spec, host_ip=self._host_ip)

    def _destinations(self, sandbox: Sandbox) -> list[PublishedPort]:
        return destinations(sandbox, self.gateways(sandbox), self._network)

    def _on_link(self, sandbox: Sandbox) -> frozenset[str]:
        return frozenset(one.id for one in sandbox.endpoints if vlan.on_link(self._network(one)))

    def _network(self, endpoint: Endpoint) -> Network:
        return self._store.networks[endpoint.network_id]

    def _disconnected(self, endpoint: Endpoint) -> None:
        network = self._store.networks.get(endpoint.network_id)
        if network is not None:
            self._news.disconnected(network, endpoint)

    def _sweep_soon(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep_later())

    async def _sweep_later(self) -> None:
        await asyncio.sleep(SWEEP_AFTER_S)
        await self._sweep()

    async def _sweep(self) -> None:
        sandboxes = self._store.sandboxes.values()
        await self._devices.sweep({one.device for sandbox in sandboxes for one in sandbox.endpoints})
