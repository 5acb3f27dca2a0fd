"""Containers and their networks: what a container wants, what it gets while it runs, its hosts file.

What is wanted is in the container's record (``networking.endpoints_config``: the API's ``EndpointSettings``
by network name); what is given exists from before the start until after the end, in ``Networks``.
"""

import asyncio
import dataclasses
import ipaddress
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from minid.containers import etcfiles
from minid.containers.endpoints import NONE, Settings, endpoint_settings, is_mac
from minid.containers.model import Container, ContainerConfig, HostConfig, NetworkingConfig, PortBinding
from minid.containers.naming import Naming
from minid.containers.ports import Bindings, port_specs, spec_fits, specs_of, without_bindings
from minid.containers.store import Store
from minid.containers.validate import check_ports
from minid.errors import Forbidden, InvalidParameter, NotFound
from minid.layout import Layout
from minid.network.model import Endpoint, EndpointRequest, Network, Sandbox
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
        self._layout = layout
        self._store = store
        self._networks = networks
        self._naming = naming
        self._host_gateway_ips = tuple(host_gateway_ips)

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
            self._check(network, settings)
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

    def _check(self, network: Network, settings: Settings) -> None:
        """What an endpoint may be told depends on its network."""
        ipam = settings.get("IPAMConfig") or {}
        if network.builtin:
            if ipam.get("IPv4Address") or ipam.get("IPv6Address"):
                raise InvalidParameter("user specified IP address is supported on user defined networks only")
            if settings.get("Aliases"):
                raise InvalidParameter(
                    "network-scoped alias is supported only for containers in user defined networks"
                )
        for key, version in (("IPv4Address", 4), ("IPv6Address", 6)):
            text = ipam.get(key)
            if text:
                try:
                    right = ipaddress.ip_address(text).version == version
                except ValueError:
                    right = False
                if not right:
                    raise InvalidParameter(f"invalid IPv{version} address: {text}")
                subnets = [subnet for subnet in network.subnets if subnet.version == version]
                if not any(ipaddress.ip_address(text) in ipaddress.ip_network(one.subnet) for one in subnets):
                    raise InvalidParameter(f"no configured subnet or ip-range contain the IP address {text}")
        if settings.get("MacAddress") and not is_mac(settings["MacAddress"]):
            raise InvalidParameter(f"invalid MAC address: {settings['MacAddress']}")

    # -- at start and end

    async def reserve(self, container: Container) -> None:
        """Addresses and ports for the run that is about to begin; raises what ``Networks.reserve`` raises."""
        if has_own_networks(container.host_config.network_mode):
            await self._networks.sandboxes.reserve(
                container.id, container.name, self._requests(container), port_specs(container)
            )

    async def plumb(self, container: Container, pid: int, start_ticks: int) -> None:
        """The sandbox of the container stands, with ``pid`` in its network namespace."""
        if self._networks.sandbox(container.id) is not None:
            failures = await asyncio.gather(
                self._networks.sandboxes.plumb(container.id, pid, start_ticks),
                self._naming.ensure(container, pid, start_ticks, self._links),
                return_exceptions=True,
            )
            for failure in filter(None, failures):
                raise failure
            self._tell_linking(container)

    async def release(self, container_id: str) -> None:
        """The run has ended. Idempotent."""
        self._naming.close(container_id)
        await self._networks.sandboxes.release(container_id)

    async def retain_running(self) -> None:
        """After a daemon's start: what runs keeps its addresses, all others are free."""
        running = [container for container in self._store.all() if container.state.running]
        await self._networks.sandboxes.retain({container.id for container in running})
        await self._naming.reopen(
            [one for one in running if has_own_networks(one.host_config.network_mode)], self._links
        )

    def has_nameserver(self, container: Container) -> bool:
        """Whether its reserved endpoints bring one."""
        return self._naming.wanted(container)

    def _requests(self, container: Container) -> list[EndpointRequest]:
        wanted = dict(container.networking.endpoints_config) or {
            self._primary(container.host_config.network_mode): NONE
        }
        return [self._request(container, name, settings or NONE) for name, settings in wanted.items()]

    def _request(self, container: Container, name: str, settings: Settings) -> EndpointRequest:
        network = self._networks.get(name)
        ipam = settings.get("IPAMConfig") or {}
        mac = settings.get("MacAddress") or ""
        if not mac and name == self._primary(container.host_config.network_mode):
            mac = container.config.mac_address
        return EndpointRequest(
            network=network.id,
            ip4=ipam.get("IPv4Address") or "",
            ip6=ipam.get("IPv6Address") or "",
            mac=mac.lower().replace("-", ":"),
            aliases=tuple(settings.get("Aliases") or ()),
            names=() if network.builtin else dns_names(container, settings.get("Aliases") or ()),
            driver_opts=settings.get("DriverOpts") or {},
            gateway_priority=settings.get("GwPriority") or 0,
        )

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
        self._check(network, settings)
        wanted = container.networking.endpoints_config
        if network.name in wanted:
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
        if container.state.running:
            before = self.hosts_lines(container)
            await self._networks.sandboxes.connect(
                container.id,
                self._request(container, network.name, settings),
                container.state.pid,
                container.state.pid_start_ticks,
            )
            self._update_hosts(container, before)
            await self._naming.connected(container, self._links)
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
            before = self.hosts_lines(container)
            await self._networks.sandboxes.disconnect(
                container.id, network, container.state.pid, container.state.pid_start_ticks
            )
            self._update_hosts(container, before)
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

    def renamed(self, container: Container) -> None:
        """Its new name counts at once."""
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

    # -- the hosts file

    def hosts_lines(self, container: Container) -> list[str]:
        """What a network gives the hosts file beyond the fixed lines: the container itself, then links."""
        sandbox = self._networks.sandbox(container.id)
        if sandbox is None:
            return []
        config = container.config
        own = (
            f"{config.hostname}.{config.domainname} {config.hostname}"
            if config.domainname
            else config.hostname
        )
        lines = []
        for endpoint in sandbox.endpoints:
            lines += [f"{address}\t{own}" for address in (endpoint.ip4, endpoint.ip6) if address]
        for ref, alias, network_name in self._links(container):
            lines += self._link_lines(sandbox, ref, alias, network_name)
        return lines

    def host_gateways(self) -> tuple[str, ...]:
        """What ``host-gateway`` stands for. Raises InvalidParameter if there is nothing."""
        if self._host_gateway_ips:
            return self._host_gateway_ips
        default = self._networks.default
        found = tuple(subnet.gateway for subnet in default.subnets) if default is not None else ()
        if not found:
            raise InvalidParameter("unable to derive the IP value for host-gateway")
        return found

    def _links(self, container: Container) -> Iterable[tuple[str, str, str]]:
        """Container, alias, network: ``--link`` of the default network and those of single endpoints."""
        for text in container.host_config.links or ():
            yield (*parse_link(text), "")
        for name, settings in container.networking.endpoints_config.items():
            for text in (settings or NONE).get("Links") or ():
                yield (*parse_link(text), name)

    def _link_lines(self, sandbox: Sandbox, ref: str, alias: str, network_name: str) -> list[str]:
        try:
            other = self._store.get(ref)
        except (NotFound, InvalidParameter):
            return []
        others = self._networks.sandbox(other.id)
        lines = []
        for endpoint in others.endpoints if others is not None else ():
            shared = sandbox.endpoint(endpoint.network_id) is not None
            if shared and (not network_name or self._networks.get(endpoint.network_id).name == network_name):
                names = " ".join(dict.fromkeys((alias, other.config.hostname, other.name)))
                lines += [f"{address}\t{names}" for address in (endpoint.ip4, endpoint.ip6) if address]
        return lines

    def _tell_linking(self, started: Container) -> None:
        """A linked container has new addresses: the hosts files of those that link to it follow."""
        for container in self._store.all():
            if container.id == started.id or not container.state.running:
                continue
            for ref, alias, _ in self._links(container):
                if ref in (started.id, started.name) or started.id.startswith(ref):
                    ending = "\t" + " ".join(dict.fromkeys((alias, started.config.hostname, started.name)))
                    etcfiles.replace_lines(self._hosts_path(container), _ends_with(ending), [])
                    self._update_hosts(container, [])
                    break

    def _update_hosts(self, container: Container, before: Sequence[str]) -> None:
        current = self._store.find(container.id) or container
        after = self.hosts_lines(current)
        etcfiles.replace_lines(self._hosts_path(container), set(before).__contains__, after)

    def _hosts_path(self, container: Container) -> Path:
        return self._layout.container(container.id) / "hosts"


def has_own_networks(mode: str) -> bool:
    """Whether a container of this network mode has endpoints: not so for host, none and another's."""
    return mode not in ("host", "none") and not mode.startswith("container:")


def dns_names(container: Container, aliases: Iterable[str]) -> tuple[str, ...]:
    """What a container is called in a user-defined network, the canonical name first."""
    short = container.id[:12]
    return tuple(
        dict.fromkeys(name for name in (container.name, *aliases, short, container.config.hostname) if name)
    )


def parse_link(text: str) -> tuple[str, str]:
    """``container:alias`` (either may be a path, as old clients write them). Raises InvalidParameter."""
    ref, _, alias = text.partition(":")
    ref = ref.removeprefix("/")
    alias = os.path.basename(alias) or ref
    if not ref or ":" in alias:
        raise InvalidParameter(f"bad format for links: {text}")
    return ref, alias


def _ends_with(ending: str) -> Callable[[str], bool]:
    return lambda line: line.endswith(ending)
