"""Networks: the way in. What exists is in the store; what stands in the kernel is brought in line with it."""

import asyncio
import ipaddress
import logging
from collections.abc import Collection

from minid.config import Config
from minid.errors import Forbidden, InvalidParameter, MinidError, NotFound
from minid.events import EventBus
from minid.kernel import sysctls
from minid.network import creation, default, fixed, ipam, options
from minid.network.devices import Devices
from minid.network.firewall import Firewall, NetworkRules
from minid.network.holder import PortHolder
from minid.network.model import CreateNetwork, Endpoint, Network, Sandbox
from minid.network.news import News
from minid.network.ports import Ports
from minid.network.publishing import Publishing
from minid.network.sandboxes import Sandboxes
from minid.network.store import Store
from minid.state import Database

log = logging.getLogger(__name__)


class Networks:
    """One per daemon. Reading is for anybody at any time; writing happens on the event loop."""

    def __init__(
        self, database: Database, events: EventBus, config: Config, engine_id: str, holder: PortHolder
    ) -> None:
        self._store = Store(database)
        self._config = config
        self._lock = asyncio.Lock()  # of creating and removing networks
        self._builtin = fixed.networks(engine_id)
        self._devices = Devices(config.mtu)
        firewall = Firewall(
            _table(config, engine_id),
            host_policy=config.published_ports == "host-policy",
            accept_forwarded=config.forward_policy == "accept",
        )
        self._publishing = Publishing(firewall, Ports(), holder, self._devices.run)
        self.news = News(events)
        self.sandboxes = Sandboxes(
            self._store, self._devices, self._publishing, self.news, self.get, config.ip
        )

    # -- reading

    def all(self) -> list[Network]:
        """All, the fixed ones too; in no order that means anything."""
        return [*self._store.networks.values(), *self._builtin]

    def find(self, ref: str) -> Network | None:
        """By name, id or unique prefix of an id, in this order."""
        networks = self.all()
        for network in networks:
            if network.name == ref:
                return network
        found = [network for network in networks if ref and network.id.startswith(ref)]
        return found[0] if len(found) == 1 else None

    def get(self, ref: str) -> Network:
        """As ``find``. Raises NotFound; InvalidParameter for a prefix that several share."""
        network = self.find(ref)
        if network is None:
            count = sum(one.id.startswith(ref) for one in self.all()) if ref else 0
            if count > 1:
                raise InvalidParameter(f"network {ref} is ambiguous ({count} matches found on ID)")
            raise NotFound(f"network {ref} not found")
        return network

    @property
    def default(self) -> Network | None:
        """The network that containers join when nothing else was asked for; None with ``--bridge none``."""
        return next((one for one in self._store.networks.values() if one.name == default.NAME), None)

    def sandbox(self, container_id: str) -> Sandbox | None:
        """The endpoints of a container that runs, or is about to."""
        return self.sandboxes.find(container_id)

    def endpoints(self, network_id: str) -> list[Endpoint]:
        """Everybody in a network."""
        return self._store.endpoints(network_id)

    # -- the daemon's start and stop

    async def start(self) -> None:
        """The default network exists; every bridge stands. Trouble with one of them is kept for whoever
        wants to use it.
        """
        await self._ensure_default()
        for network in self._bridges():
            if not self._devices.standing(network):
                await self._devices.stand_up(network)
        if self._store.networks:
            await self._devices.run(self._forwarding)
        rules = [_rules(network) for network in self._bridges() if self._devices.standing(network)]
        await self._publishing.start(rules, self.sandboxes.published())

    async def close(self) -> None:
        """Bridges that nobody is in go away; the others wait for the next daemon with their containers."""
        self.sandboxes.close()
        endpoints = [one for sandbox in self._store.sandboxes.values() for one in sandbox.endpoints]
        await self._publishing.close(remove=not endpoints)
        used = {endpoint.network_id for endpoint in endpoints}
        await self._devices.close([one for one in self._store.networks.values() if one.id not in used])

    async def repair(self) -> None:
        """Put back what somebody has taken away: bridges, the firewall's table."""
        for network in self._bridges():
            await self._devices.stand_up(network)
        if await self._publishing.repair():
            log.warning("the firewall table was gone or changed: it has been put back")

    def _bridges(self) -> list[Network]:
        return [network for network in self._store.networks.values() if network.driver == "bridge"]

    async def _ensure_default(self) -> None:
        known = self.default
        if self._config.bridge == "none":
            if known is not None and not self._store.endpoints(known.id):
                self._store.remove_network(known.id)
            return
        device = default.device(self._config)
        try:
            present = await self._devices.addresses(device)
            wanted = default.plan(self._config, known, present, await self._taken(except_device=device))
        except (MinidError, OSError) as error:
            log.error("the default network can't be made", extra={"bridge": device, "error": error})
            return
        if known is None:
            self._store.add_network(wanted)
        elif wanted != known:
            if self._store.endpoints(known.id):
                log.warning(
                    "the default network changes once no container is in it", extra={"bridge": device}
                )
                wanted = known
            else:
                self._store.replace_network(wanted)
                if wanted.device != known.device:
                    await self._devices.take_down(known)
        await self._devices.stand_up(wanted)

    def _forwarding(self) -> None:
        """Packets have to pass from the bridges to the world and back, as Docker arranges it."""
        if not self._config.ip_forward:
            return
        if sysctls.ensure("1", "ipv4", "ip_forward"):
            log.info("IPv4 forwarding is on now (net.ipv4.ip_forward=1): containers need it")
        if any(network.ipv6 for network in self._bridges()):
            if sysctls.find("ipv6", "conf", "all", "forwarding") == "0":
                sysctls.keep_router_advertisements()
            changed = [sysctls.ensure("1", "ipv6", "conf", one, "forwarding") for one in ("default", "all")]
            if any(changed):
                log.info("IPv6 forwarding is on now (net.ipv6.conf.all.forwarding=1): containers need it")

    # -- networks

    async def create(self, request: CreateNetwork) -> Network:
        """Raises a MinidError; nothing is left behind when it fails."""
        async with self._lock:
            network = creation.plan(
                request,
                known=self.all(),
                pools=default.pools(self._config),
                host_subnets=await self._taken(),
            )
            if not network.config_only:
                network = await self._devices.settle(network)
            self._store.add_network(network)
            if network.driver == "bridge":
                try:
                    await self._devices.stand_up(network)
                    self._devices.check(network)
                    await self._devices.run(self._forwarding)
                    await self._publishing.add_network(_rules(network))
                except MinidError:
                    await self._take_down(network)
                    raise
        self.news.created(network)
        return network

    async def remove(self, ref: str) -> Network:
        """Raises NotFound, Forbidden (fixed, or in use)."""
        async with self._lock:
            network = self.get(ref)
            if network.builtin:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if network.config_only and any(one.config_from == network.name for one in self.all()):
                raise Forbidden(
                    f'error while removing network: configuration network "{network.name}" is in use'
                )
            if self._store.endpoints(network.id):
                raise Forbidden(
                    f"error while removing network: network {network.name} id {network.id} has active endpoints"
                )
            await self._take_down(network)
        self.news.destroyed(network)
        return network

    async def _take_down(self, network: Network) -> None:
        if network.driver == "bridge":
            await self._publishing.remove_network(network.device)
        await self._devices.take_down(network)
        self._store.remove_network(network.id)

    async def _taken(self, except_device: str = "") -> Collection[ipam.Network]:
        """Subnets of our networks, and what the host reaches otherwise."""
        ours = [
            ipaddress.ip_network(subnet.subnet)
            for network in self._store.networks.values()
            if network.device != except_device and not network.config_only
            for subnet in network.subnets
        ]
        devices = {network.device for network in self._store.networks.values()} | {except_device}
        return ours + await self._devices.host_subnets(devices)


def _rules(network: Network) -> NetworkRules:
    return NetworkRules(
        name=network.device,
        subnets=[subnet.subnet for subnet in network.subnets],
        internal=network.internal,
        icc=options.icc(network),
        masquerade=options.masquerade(network),
    )


def _table(config: Config, engine_id: str) -> str:
    """The firewall table's name: another one for each daemon on a machine."""
    device = default.device(config)
    if device == "none":
        return f"minid-{engine_id[:8]}"
    return "minid" if device == default.DEVICE else f"minid-{device}"
