"""Networks: the way in. What exists is in the store; what stands in the kernel is brought in line with it.

Everything that talks to the kernel runs in one thread of its own: the kernel does one such change at a time
anyway (its RTNL lock), and that thread may step into a container's network namespace for a moment.
"""

import asyncio
import dataclasses
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from minid.config import Config
from minid.errors import Failed, Forbidden, InvalidParameter, MinidError, NotFound
from minid.events import EventBus
from minid.kernel import sysctls
from minid.network import bridge, creation, fixed, ipam, options, plumbing, vlan
from minid.network.firewall import Firewall, NetworkRules, PublishedPort
from minid.network.holder import PortHolder
from minid.network.model import (
    CreateNetwork,
    Endpoint,
    EndpointRequest,
    Network,
    PortSpec,
    Sandbox,
    Subnet,
)
from minid.network.plumbing import Wiring
from minid.network.ports import Ports
from minid.network.publishing import Publishing, destinations
from minid.network.store import Store
from minid.state import Database

DEFAULT_DEVICE = "minid0"
SWEEP_AFTER_S = 2.0  # the kernel takes interfaces away within milliseconds, where nobody holds them

T = TypeVar("T")
log = logging.getLogger(__name__)


class Networks:
    """One per daemon. Reading is for anybody at any time; writing happens on the event loop."""

    def __init__(
        self, database: Database, events: EventBus, config: Config, engine_id: str, holder: PortHolder
    ) -> None:
        self._store = Store(database)
        self._events = events
        self._config = config
        self._engine_id = engine_id
        self._thread = ThreadPoolExecutor(1, "network")
        self._holds: dict[str, bridge.Hold] = {}
        self._indexes: dict[str, int] = {}  # of bridges that stand, by network
        self._broken: dict[str, MinidError] = {}  # networks whose device could not be made, and why
        self._sweeping: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()  # of creating and removing networks
        self._builtin = fixed.networks(engine_id)
        self._pools = tuple((pool.base, pool.size) for pool in config.default_address_pools)
        firewall = Firewall(self._table(), host_policy=config.published_ports == "host-policy")
        self._publishing = Publishing(firewall, Ports(), holder, self._in_thread)
        self.on_change: Callable[[str], None] = lambda network_id: None  # names or addresses of a network

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
            if ref and sum(one.id.startswith(ref) for one in self.all()) > 1:
                raise InvalidParameter(f"network {ref} is ambiguous ({self._count(ref)} matches found on ID)")
            raise NotFound(f"network {ref} not found")
        return network

    def _count(self, prefix: str) -> int:
        return sum(one.id.startswith(prefix) for one in self.all())

    @property
    def default(self) -> Network | None:
        """The network that containers join when nothing else was asked for; None with ``--bridge none``."""
        return next((one for one in self._store.networks.values() if one.name == "bridge"), None)

    def sandbox(self, container_id: str) -> Sandbox | None:
        """The endpoints of a container that runs, or is about to."""
        return self._store.sandboxes.get(container_id)

    def endpoints(self, network_id: str) -> list[Endpoint]:
        """Everybody in a network."""
        return self._store.endpoints(network_id)

    def container_name(self, container_id: str) -> str:
        sandbox = self._store.sandboxes.get(container_id)
        return sandbox.name if sandbox is not None else ""

    # -- the daemon's start and stop

    async def start(self) -> None:
        """The default network exists; every bridge stands. Trouble with one of them is kept for whoever
        wants to use it.
        """
        await self._ensure_default()
        for network in tuple(self._store.networks.values()):
            if network.driver == "bridge" and network.id not in self._indexes:
                await self._stand_up(network)
        if self._store.networks:
            await self._in_thread(self._forwarding)
        await self._publishing.start(
            [
                self._rules(network)
                for network in self._store.networks.values()
                if network.id in self._indexes
            ],
            {
                container_id: (sandbox, self._destinations(sandbox))
                for container_id, sandbox in self._store.sandboxes.items()
            },
        )

    async def close(self) -> None:
        """Bridges that nobody is in go away; the others wait for the next daemon with their containers."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._publishing.close(remove=not any(one.endpoints for one in self._store.sandboxes.values()))
        used = {
            endpoint.network_id
            for sandbox in self._store.sandboxes.values()
            for endpoint in sandbox.endpoints
        }
        for network in self._store.networks.values():
            if network.id not in used and network.id in self._indexes and network.owns_device:
                try:
                    await self._in_thread(bridge.remove, network.device)
                except OSError as error:
                    log.warning(
                        "a bridge could not be removed", extra={"device": network.device, "error": error}
                    )
        for hold in self._holds.values():
            hold.close()
        self._thread.shutdown()

    async def retain(self, container_ids: Collection[str]) -> None:
        """Containers that run; addresses and ports of all others are free again."""
        for container_id in tuple(self._store.sandboxes):
            if container_id not in container_ids:
                await self.release(container_id)
        await self.sweep()

    async def sweep(self) -> None:
        """Take away interfaces of ours that belong to nobody any more: the kernel does that by itself when
        a network namespace ends, but somebody may hold it (a container that shared it, nsenter).
        """
        known = frozenset(
            endpoint.device for sandbox in self._store.sandboxes.values() for endpoint in sandbox.endpoints
        )
        try:
            await self._in_thread(bridge.remove_strangers, frozenset(self._indexes.values()), known)
        except OSError as error:
            log.warning("unused interfaces could not be removed", extra={"error": error})

    def _sweep_soon(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep_later())

    async def _sweep_later(self) -> None:
        await asyncio.sleep(SWEEP_AFTER_S)
        await self.sweep()

    async def repair(self) -> None:
        """Put back what somebody has taken away: bridges, the firewall's table."""
        for network in tuple(self._store.networks.values()):
            if network.driver == "bridge":
                await self._stand_up(network)
        if await self._publishing.repair():
            log.warning("the firewall table was gone or changed: it has been put back")

    async def _ensure_default(self) -> None:
        known = self.default
        if self._config.bridge == "none":
            if known is not None and not self._store.endpoints(known.id):
                self._store.remove_network(known.id)
            return
        device = self._config.bridge or DEFAULT_DEVICE
        try:
            wanted = await self._plan_default(device, known)
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
                if wanted.device != known.device and known.owns_device:
                    await self._in_thread(bridge.remove, known.device)
        await self._stand_up(wanted)

    async def _plan_default(self, device: str, known: Network | None) -> Network:
        config = self._config
        present = await self._in_thread(bridge.find_addresses, device)
        old = known.subnet(4) if known is not None and known.device == device else None
        if config.bip:
            interface = ipaddress.ip_interface(config.bip)
        elif old is not None:
            interface = ipaddress.ip_interface(f"{old.gateway}/{ipaddress.ip_network(old.subnet).prefixlen}")
        elif any(address.version == 4 for address in present):
            interface = next(address for address in present if address.version == 4)
        else:
            taken = await self._taken(except_device=device)
            chosen = ipam.choose_subnet(4, self._pools or ipam.DEFAULT_POOLS, taken)
            interface = ipaddress.ip_interface(f"{ipam.first_host(chosen)}/{chosen.prefixlen}")
        aux = {"DefaultGatewayIPv4": config.default_gateway} if config.default_gateway else {}
        subnets = [Subnet(str(interface.network), str(interface.ip), config.fixed_cidr, aux)]
        if config.ipv6:
            subnets.append(await self._plan_default_v6(device, known))
        return Network(
            id=known.id if known is not None else creation.new_id(),
            name="bridge",
            driver="bridge",
            created_ns=known.created_ns if known is not None else time.time_ns(),
            subnets=tuple(subnets),
            device=device,
            ipv6=config.ipv6,
            options={
                options.DEFAULT_BRIDGE: "true",
                options.ICC: str(config.icc).lower(),
                options.MASQUERADE: str(config.ip_masq).lower(),
                options.HOST_BINDING: config.ip,
                options.BRIDGE_NAME: device,
                options.MTU: str(config.mtu),
                **config.default_network_opts.get("bridge", {}),
            },
        )

    async def _plan_default_v6(self, device: str, known: Network | None) -> Subnet:
        config = self._config
        old = known.subnet(6) if known is not None and known.device == device else None
        aux = {"DefaultGatewayIPv6": config.default_gateway_v6} if config.default_gateway_v6 else {}
        if config.bip6:
            interface = ipaddress.ip_interface(config.bip6)
            return Subnet(str(interface.network), str(interface.ip), config.fixed_cidr_v6, aux)
        if config.fixed_cidr_v6:
            network = ipaddress.ip_network(config.fixed_cidr_v6)
            return Subnet(str(network), ipam.first_host(network), "", aux)
        if old is not None:
            return old
        pools = [pool for pool in self._pools if ":" in pool[0]] or [(creation.unique_local(), 64)]
        chosen = ipam.choose_subnet(6, pools, await self._taken(except_device=device))
        return Subnet(str(chosen), ipam.first_host(chosen))

    async def _stand_up(self, network: Network) -> None:
        try:
            if network.device not in self._holds:
                self._holds[network.device] = bridge.Hold(network.device)
            mtu = options.mtu(network, self._config.mtu)
            self._indexes[network.id] = await self._in_thread(bridge.ensure, network, mtu)
            self._broken.pop(network.id, None)
        except OSError as error:
            self._broken[network.id] = bridge.refused(error, f"the bridge {network.device} can't be made")
        except MinidError as error:
            self._broken[network.id] = error
        if network.id in self._broken:
            log.error(str(self._broken[network.id]), extra={"network": network.name})

    def _forwarding(self) -> None:
        """Packets have to pass from the bridges to the world and back, as Docker arranges it."""
        if not self._config.ip_forward:
            return
        if sysctls.ensure("1", "ipv4", "ip_forward"):
            log.info("IPv4 forwarding is on now (net.ipv4.ip_forward=1): containers need it")
        if any(network.ipv6 for network in self._store.networks.values()):
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
                pools=self._pools or ipam.DEFAULT_POOLS,
                host_subnets=await self._taken(),
            )
            if network.driver != "bridge":
                network = await self._in_thread(vlan.settle, network)
            elif await self._in_thread(bridge.exists, network.device):
                network = dataclasses.replace(network, owns_device=False)
            self._store.add_network(network)
            if network.driver == "bridge":
                try:
                    await self._stand_up(network)
                    if network.id in self._broken:
                        raise self._broken.pop(network.id)
                    await self._in_thread(self._forwarding)
                    await self._publishing.add_network(self._rules(network))
                except MinidError:
                    await self._take_down(network)
                    raise
        self._publish("create", network)
        return network

    async def remove(self, ref: str) -> Network:
        """Raises NotFound, Forbidden (fixed, or in use)."""
        async with self._lock:
            network = self.get(ref)
            if network.builtin:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if self._store.endpoints(network.id):
                raise Forbidden(
                    f"error while removing network: network {network.name} id {network.id} has active endpoints"
                )
            await self._take_down(network)
        self._publish("destroy", network)
        return network

    async def _take_down(self, network: Network) -> None:
        if network.driver == "bridge":
            await self._publishing.remove_network(network.device)
        if network.owns_device:
            remove = bridge.remove if network.driver == "bridge" else vlan.remove
            await self._in_thread(remove, network.device)
        self._store.remove_network(network.id)
        self._indexes.pop(network.id, None)
        self._broken.pop(network.id, None)
        hold = self._holds.pop(network.device, None)
        if hold is not None:
            hold.close()

    async def _taken(self, except_device: str = "") -> list[ipam.Network]:
        """Subnets of our networks, and what the host reaches otherwise."""
        ours = [
            ipaddress.ip_network(subnet.subnet)
            for network in self._store.networks.values()
            if network.device != except_device
            for subnet in network.subnets
        ]
        devices = {network.device for network in self._store.networks.values()} | {except_device}
        return ours + await self._in_thread(bridge.host_subnets, frozenset(devices))

    # -- sandboxes

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
        endpoints: list[Endpoint] = []
        for request in requests:
            network = self.get(request.network)
            if network.driver not in ("host", "null"):
                endpoints.append(self._endpoint(network, container_id, request, endpoints))
        specs = [self._bound(spec) for spec in ports] if endpoints else []
        published = self._publishing.reserve(container_id, name, specs)
        sandbox = Sandbox(secrets.token_hex(32), container_id, name, tuple(endpoints), published)
        self._store.add_sandbox(sandbox)
        return sandbox

    def _bound(self, spec: PortSpec) -> PortSpec:
        """With the host address that the configuration says, where none was asked for."""
        if spec.host_ip or self._config.ip in ("", "0.0.0.0"):
            return spec
        return dataclasses.replace(spec, host_ip=self._config.ip)

    async def plumb(self, container_id: str, pid: int, start_ticks: int) -> None:
        """The reserved endpoints get their interfaces in the network namespace of the process."""
        sandbox = self._store.sandboxes[container_id]
        if not sandbox.endpoints:
            return
        wirings = [self._wiring(endpoint) for endpoint in sandbox.endpoints]
        try:
            await self._in_thread(plumbing.connect, pid, start_ticks, wirings, self.gateways(sandbox))
        except OSError as error:
            raise bridge.refused(
                error, f"failed to set up container networking for {sandbox.name}"
            ) from error
        await self._publishing.publish(container_id, self._destinations(sandbox))
        for endpoint in sandbox.endpoints:
            self._connected(endpoint)

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
        network = self.get(request.network)
        sandbox = self._store.sandboxes[container_id]
        if sandbox.endpoint(network.id) is not None:
            raise Forbidden(f"endpoint with name {sandbox.name} already exists in network {network.name}")
        old = self._destinations(sandbox)
        endpoint = self._endpoint(network, container_id, request, sandbox.endpoints)
        sandbox = self._store.add_endpoint(endpoint)
        try:
            await self._in_thread(
                plumbing.connect, pid, start_ticks, [self._wiring(endpoint)], self.gateways(sandbox)
            )
        except OSError as error:
            self._store.remove_endpoint(endpoint)
            raise bridge.refused(error, f"failed to connect {sandbox.name} to {network.name}") from error
        await self._publishing.move(container_id, old, self._destinations(sandbox))
        self._connected(endpoint)
        return endpoint

    async def disconnect(self, container_id: str, network: Network, pid: int, start_ticks: int) -> None:
        """One network less for a container that runs."""
        sandbox = self._store.sandboxes.get(container_id)
        endpoint = sandbox.endpoint(network.id) if sandbox is not None else None
        if endpoint is None:
            raise Forbidden(f"container {container_id} is not connected to network {network.name}")
        assert sandbox is not None
        old = self._destinations(sandbox)
        try:
            await self._in_thread(plumbing.disconnect, pid, start_ticks, endpoint)
            sandbox = self._store.remove_endpoint(endpoint)
            await self._in_thread(
                plumbing.set_gateways, pid, start_ticks, self.gateways(sandbox), self._on_link(sandbox)
            )
        except ProcessLookupError:
            pass  # it has just ended
        except OSError as error:
            raise bridge.refused(error, f"failed to disconnect {sandbox.name}") from error
        await self._publishing.move(container_id, old, self._destinations(sandbox))
        self._disconnected(endpoint)

    def rename(self, container_id: str, name: str, names: Callable[[Endpoint], tuple[str, ...]]) -> None:
        """A container that runs has a new name."""
        sandbox = self._store.sandboxes.get(container_id)
        if sandbox is None:
            return
        self._store.replace_sandbox(dataclasses.replace(sandbox, name=name))
        for endpoint in sandbox.endpoints:
            self._store.replace_endpoint(dataclasses.replace(endpoint, names=names(endpoint)))
            self.on_change(endpoint.network_id)

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

    def _destinations(self, sandbox: Sandbox) -> list[PublishedPort]:
        return destinations(sandbox, self.gateways(sandbox), self._network)

    def _rules(self, network: Network) -> NetworkRules:
        return NetworkRules(
            name=network.device,
            subnets=[subnet.subnet for subnet in network.subnets],
            internal=network.internal,
            icc=options.icc(network),
            masquerade=options.masquerade(network),
        )

    def _table(self) -> str:
        """The firewall table's name: another one for each daemon on a machine."""
        device = self._config.bridge or DEFAULT_DEVICE
        if device == "none":
            return f"minid-{self._engine_id[:8]}"
        return "minid" if device == DEFAULT_DEVICE else f"minid-{device}"

    def _on_link(self, sandbox: Sandbox) -> frozenset[str]:
        return frozenset(one.id for one in sandbox.endpoints if vlan.on_link(self._network(one)))

    def _network(self, endpoint: Endpoint) -> Network:
        return self._store.networks[endpoint.network_id]

    def _wiring(self, endpoint: Endpoint) -> Wiring:
        network = self._network(endpoint)
        if network.id in self._broken:
            raise self._broken[network.id]
        mtu = options.mtu(network, self._config.mtu)
        if network.driver != "bridge":
            return vlan.wiring(network, endpoint, mtu)
        return plumbing.on_bridge(
            network,
            endpoint,
            bridge_index=self._indexes[network.id],
            mtu=mtu,
            isolated=not options.icc(network),
        )

    def _endpoint(
        self, network: Network, container_id: str, request: EndpointRequest, others: Sequence[Endpoint]
    ) -> Endpoint:
        if network.id in self._broken:
            raise self._broken[network.id]
        if any(one.network_id == network.id for one in others):
            raise InvalidParameter(f"network {network.name} is given twice")
        ip4, prefix4, gateway4 = self._address(network, 4, request.ip4)
        ip6, prefix6, gateway6 = self._address(network, 6, request.ip6)
        taken_names = {one.interface for one in others}
        prefix = network.options.get(options.CONTAINER_INTERFACE_PREFIX) or "eth"
        interface = next(f"{prefix}{n}" for n in range(1000) if f"{prefix}{n}" not in taken_names)
        return Endpoint(
            id=secrets.token_hex(32),
            network_id=network.id,
            container_id=container_id,
            interface=interface,
            device=f"veth{secrets.token_hex(4)[:7]}" if network.driver == "bridge" else "",
            mac=request.mac or (ipam.mac_of(ip4) if ip4 else "02:42:" + secrets.token_bytes(4).hex(":")),
            ip4=ip4,
            prefix4=prefix4,
            gateway4="" if network.internal else gateway4,
            ip6=ip6,
            prefix6=prefix6,
            gateway6="" if network.internal else gateway6,
            aliases=request.aliases,
            names=request.names,
            driver_opts=request.driver_opts,
            gateway_priority=request.gateway_priority,
        )

    def _address(self, network: Network, version: int, wanted: str) -> tuple[str, int, str]:
        """Address, prefix length and gateway; empty where the network has no such subnet."""
        subnets = [subnet for subnet in network.subnets if subnet.version == version]
        if not subnets:
            if wanted:
                raise InvalidParameter(
                    f"network {network.name} has no IPv{version} subnet: {wanted} is not possible in it"
                )
            return "", 0, ""
        taken = self._store.taken[network.id]
        numbers = taken.numbers[version]
        failure: MinidError | None = None
        for subnet in subnets:
            addresses = ipam.Range.of(subnet)
            try:
                if wanted:
                    number = addresses.check(wanted, numbers)
                else:
                    number = addresses.next(numbers, taken.last[version])
                    taken.last[version] = number
            except (InvalidParameter, Failed) as error:
                failure = error
                continue
            gateway = subnet.aux_addresses.get(f"DefaultGatewayIPv{version}") or subnet.gateway
            return addresses.text(number), addresses.whole.prefixlen, gateway
        raise failure or Forbidden("Address already in use")

    # -- telling

    def _connected(self, endpoint: Endpoint) -> None:
        self._publish("connect", self._network(endpoint), container=endpoint.container_id)
        self.on_change(endpoint.network_id)

    def _disconnected(self, endpoint: Endpoint) -> None:
        network = self._store.networks.get(endpoint.network_id)
        if network is not None:
            self._publish("disconnect", network, container=endpoint.container_id)
            self.on_change(endpoint.network_id)

    def _publish(self, action: str, network: Network, **attributes: str) -> None:
        about: Mapping[str, str] = {"name": network.name, "type": network.driver, **attributes}
        self._events.publish("network", action, network.id, about)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
