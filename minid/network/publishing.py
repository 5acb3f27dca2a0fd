"""Published ports from end to end: a host port that is ours, a rule of the firewall that leads it to the
container, and the port holder for what no rule can lead.

Records of ports (``Sandbox.ports``) are mappings with ``protocol``, ``host_ip`` ("" every address),
``host_port`` and ``container_port``.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from minid.errors import Conflict, Failed, InvalidParameter, MinidError
from minid.kernel.nftables.watch import Watch
from minid.network.firewall import Firewall, NetworkRules, PublishedPort
from minid.network.holder import PortHolder, key_of
from minid.network.model import Endpoint, Network, PortSpec, Sandbox
from minid.network.ports import Ports, Reservation
from minid.network.ruleset import LinkedPort

Record = Mapping[str, Any]
InThread = Callable[..., Awaitable[Any]]

log = logging.getLogger(__name__)

SETTLE_S = 0.5  # after a change of the firewall's rules, before we look at ours: others come in dozens


class Publishing:
    """One per daemon. ``in_thread`` runs a function in the thread that the firewall belongs to."""

    def __init__(self, firewall: Firewall, ports: Ports, holder: PortHolder, in_thread: InThread) -> None:
        self._firewall = firewall
        self._ports = ports
        self._holder = holder
        self._in_thread = in_thread
        self._watch: Watch | None = None  # of the firewall's rules, while we run
        self._changed = False  # since we looked last
        self._repairing: asyncio.Future[None] | None = None
        self._told: list[str] = []  # what stands in the firewall's way
        self._reservations: dict[str, list[Reservation]] = {}  # by container

    async def start(
        self, rules: Sequence[NetworkRules], published: Mapping[str, tuple[Sandbox, Sequence[PublishedPort]]]
    ) -> None:
        """What earlier daemons published goes on; what nobody wants any more ends. By container."""
        held = await self._holder.ports()
        wanted: list[PublishedPort] = []
        for container_id, (sandbox, ports) in published.items():
            found = [_adopt(self._ports, record) for record in sandbox.ports]
            self._reservations[container_id] = found
            wanted += ports
            for reservation in found:
                if held.pop(key_of(reservation), None) is None:
                    await self._hold_again(container_id, reservation, ports)
        for record in held.values():
            await self._holder.release(_reservation(record))
        await self._in_thread(self._firewall.ensure, rules, wanted)
        await self._tell_obstacles()
        self._watch = Watch()
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._rules_changed)

    async def _tell_obstacles(self) -> None:
        """Each is said once."""
        obstacles = await self._in_thread(self._firewall.obstacles)
        for obstacle in obstacles:
            if obstacle not in self._told:
                log.warning(obstacle)
        self._told = obstacles

    def _rules_changed(self) -> None:
        """By anybody, us too: look at our table when it is quiet."""
        assert self._watch is not None
        self._watch.drain()
        self._changed = True
        if self._repairing is None:
            self._repairing = asyncio.ensure_future(self._repair_soon())

    async def _repair_soon(self) -> None:
        while self._changed:
            await asyncio.sleep(SETTLE_S)
            self._changed = False
            try:
                if await self.repair():
                    log.warning("the firewall table was gone, changed or obstructed: it has been built anew")
                    await self._tell_obstacles()
            except MinidError as error:
                log.error("the firewall table could not be put back", extra={"error": error})
        self._repairing = None

    async def _hold_again(
        self, container_id: str, reservation: Reservation, ports: Sequence[PublishedPort]
    ) -> None:
        """The port holder has let go of a port, or has gone: take it anew."""
        self._ports.release([reservation])
        mine = self._reservations[container_id]
        mine.remove(reservation)
        spec = PortSpec(
            reservation.protocol,
            reservation.container_port,
            reservation.host_ip,
            (reservation.host_port, reservation.host_port),
        )
        try:
            (new,) = self._ports.reserve([spec])
            mine.append(new)
            for port in ports:
                if _belongs(port, new):
                    await self._holder.hold(new, port, _record(new))
        except MinidError as error:
            log.error(
                "a published port could not be taken again", extra={"container": container_id, "error": error}
            )

    def reserve(self, container_id: str, name: str, specs: Iterable[PortSpec]) -> tuple[Record, ...]:
        """Host ports for a container that is about to start. Raises Failed in Docker's words."""
        try:
            reserved = self._ports.reserve(specs)
        except (Conflict, InvalidParameter) as error:
            raise Failed(
                f"driver failed programming external connectivity on endpoint {name}: {error}"
            ) from error
        if reserved:
            self._reservations[container_id] = reserved
        return tuple(_record(one) for one in reserved)

    async def publish(self, container_id: str, ports: Sequence[PublishedPort]) -> None:
        """Lead reserved ports to the container."""
        if not ports:
            return
        await self._in_thread(self._firewall.publish, *ports)
        for reservation in self._reservations.get(container_id, ()):
            for port in ports:
                if _belongs(port, reservation):
                    await self._holder.hold(reservation, port, _record(reservation))

    async def add(
        self,
        sandbox: Sandbox,
        specs: Sequence[PortSpec],
        destinations: Callable[[Sandbox], Sequence[PublishedPort]],
    ) -> Sandbox:
        """More ports for a container that runs; its new record. Raises Failed, with nothing changed."""
        container_id = sandbox.container_id
        before = self._reservations.get(container_id, [])
        records = self.reserve(container_id, sandbox.name, specs)
        fresh = self._reservations.pop(container_id, []) if records else []
        self._reservations[container_id] = [*before, *fresh]
        ports = destinations(dataclasses.replace(sandbox, ports=records))
        try:
            await self._in_thread(self._firewall.publish, *ports)
        except MinidError:
            self._reservations[container_id] = before
            self._ports.release(fresh)
            raise
        for reservation in fresh:
            for port in ports:
                if _belongs(port, reservation):
                    await self._holder.hold(reservation, port, _record(reservation))
        return dataclasses.replace(sandbox, ports=(*sandbox.ports, *records))

    async def remove(
        self,
        sandbox: Sandbox,
        records: Sequence[Record],
        destinations: Callable[[Sandbox], Sequence[PublishedPort]],
    ) -> Sandbox:
        """Fewer ports for a container that runs; its new record."""
        gone = destinations(dataclasses.replace(sandbox, ports=tuple(records)))
        await self._in_thread(self._firewall.unpublish, *gone)
        mine = self._reservations.get(sandbox.container_id, [])
        for reservation in [one for one in mine if _record(one) in records]:
            mine.remove(reservation)
            await self._holder.release(reservation)
            self._ports.release([reservation])
        return dataclasses.replace(sandbox, ports=tuple(one for one in sandbox.ports if one not in records))

    async def move(
        self, container_id: str, old: Sequence[PublishedPort], new: Sequence[PublishedPort]
    ) -> None:
        """The same host ports lead elsewhere, or nowhere."""
        if list(old) == list(new):
            return
        await self._in_thread(self._firewall.unpublish, *old)
        if new:
            await self._in_thread(self._firewall.publish, *new)
        for reservation in tuple(self._reservations.get(container_id, ())):
            await self._holder.release(reservation)
            await self._hold_again(container_id, reservation, new)

    async def withdraw(self, container_id: str, ports: Sequence[PublishedPort]) -> None:
        """The host ports are free afterwards. Idempotent."""
        if ports:
            try:
                await self._in_thread(self._firewall.unpublish, *ports)
            except MinidError as error:
                log.error("a published port could not be withdrawn", extra={"error": error})
        reservations = self._reservations.pop(container_id, [])
        for reservation in reservations:
            await self._holder.release(reservation)
        self._ports.release(reservations)

    async def open(self, links: frozenset[LinkedPort]) -> None:
        """What containers may connect to that may not talk to each other."""
        await self._in_thread(self._firewall.open, links)

    async def add_network(self, rules: NetworkRules) -> None:
        await self._in_thread(self._firewall.add_network, rules)

    async def remove_network(self, device: str) -> None:
        await self._in_thread(self._firewall.remove_network, device)

    async def repair(self) -> bool:
        """Put our table back if somebody has taken it away; whether that was needed."""
        if await self._in_thread(self._firewall.present):
            return False
        await self._in_thread(self._firewall.ensure)
        return True

    async def close(self, *, remove: bool) -> None:
        """Let go; ``remove``: nothing of ours is needed any more."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        if self._repairing is not None:
            self._repairing.cancel()  # what it has begun in the thread is over before what we do there now
        if remove:
            try:
                await self._in_thread(self._firewall.remove)
            except MinidError as error:
                log.warning("the firewall table could not be removed", extra={"error": error})
        await self._in_thread(self._firewall.close)
        self._holder.close()


def destinations(
    sandbox: Sandbox,
    gateways: tuple[Endpoint | None, Endpoint | None],
    network: Callable[[Endpoint], Network],
) -> list[PublishedPort]:
    """Where the ports of a sandbox lead: to the networks that its default routes go through. Pure."""
    four, six = (one if one is not None and network(one).driver == "bridge" else None for one in gateways)
    endpoint = four or six
    if endpoint is None:
        return []
    return [
        PublishedPort(
            protocol=record["protocol"],
            host_ip=record["host_ip"],
            host_port=record["host_port"],
            container_ip4=endpoint.ip4,
            container_ip6=endpoint.ip6,
            container_port=record["container_port"],
            bridge=network(endpoint).device,
        )
        for record in sandbox.ports
    ]


def _belongs(port: PublishedPort, reservation: Reservation) -> bool:
    return (port.protocol, port.host_ip, port.host_port) == (
        reservation.protocol,
        reservation.host_ip,
        reservation.host_port,
    )


def _record(reservation: Reservation) -> dict[str, Any]:
    return {
        "protocol": reservation.protocol,
        "host_ip": reservation.host_ip,
        "host_port": reservation.host_port,
        "container_port": reservation.container_port,
    }


def _reservation(record: Record) -> Reservation:
    return Reservation(record["protocol"], record["host_ip"], record["host_port"], record["container_port"])


def _adopt(ports: Ports, record: Record) -> Reservation:
    return ports.adopt(record["protocol"], record["host_ip"], record["host_port"], record["container_port"])
