"""The devices that networks stand on: bridges of ours, parents of macvlan and ipvlan; and the thread that
talks to the kernel about them.

One thread does all of it: the kernel does one such change at a time anyway (its RTNL lock), and that thread
may step into a container's network namespace for a moment.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from minid.errors import MinidError
from minid.network import bridge, options, plumbing, vlan
from minid.network.ipam import Network as IpNetwork
from minid.network.model import Endpoint, Network
from minid.network.plumbing import Wiring

T = TypeVar("T")
log = logging.getLogger(__name__)


class Devices:
    """One per daemon. ``mtu``: of networks that say nothing about theirs."""

    def __init__(self, mtu: int) -> None:
        self._mtu = mtu
        self._thread = ThreadPoolExecutor(1, "network")
        self._holds: dict[str, bridge.Hold] = {}
        self._indexes: dict[str, int] = {}  # of bridges that stand, by network
        self._broken: dict[str, MinidError] = {}  # networks whose device could not be made, and why

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call it in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def standing(self, network: Network) -> bool:
        """Whether its bridge is there."""
        return network.id in self._indexes

    def check(self, network: Network) -> None:
        """Raises what was wrong when its device was to be made, if anything was."""
        if network.id in self._broken:
            raise self._broken[network.id]

    async def settle(self, network: Network) -> Network:
        """A network that is new with what is known of its device now; a parent that it needs is made."""
        if network.driver != "bridge":
            return await self.run(vlan.settle, network)
        exists = await self.run(bridge.exists, network.device)
        return network if not exists else bridge.not_ours(network)

    async def stand_up(self, network: Network) -> None:
        """Its bridge exists as it should. Trouble is logged, and kept for whoever wants to use it."""
        try:
            if network.device not in self._holds:
                self._holds[network.device] = bridge.Hold(network.device)
            mtu = options.mtu(network, self._mtu)
            self._indexes[network.id] = await self.run(bridge.ensure, network, mtu)
            self._broken.pop(network.id, None)
        except OSError as error:
            self._broken[network.id] = bridge.refused(error, f"the bridge {network.device} can't be made")
        except MinidError as error:
            self._broken[network.id] = error
        if network.id in self._broken:
            log.error(str(self._broken[network.id]), extra={"network": network.name})

    async def take_down(self, network: Network) -> None:
        """Its device is gone, if it was ours. Idempotent."""
        if network.owns_device and network.device:
            await self.run(bridge.remove if network.driver == "bridge" else vlan.remove, network.device)
        self._indexes.pop(network.id, None)
        self._broken.pop(network.id, None)
        hold = self._holds.pop(network.device, None)
        if hold is not None:
            hold.close()

    async def addresses(self, device: str) -> list[bridge.Interface]:
        """What somebody gave a bridge already."""
        return await self.run(bridge.find_addresses, device)

    async def host_subnets(self, except_devices: Collection[str]) -> list[IpNetwork]:
        """What the host reaches through other devices than these."""
        return await self.run(bridge.host_subnets, frozenset(except_devices))

    def wiring(self, network: Network, endpoint: Endpoint) -> Wiring:
        """How the endpoint's interface is made. Raises what ``check`` raises."""
        self.check(network)
        mtu = options.mtu(network, self._mtu)
        if network.driver != "bridge":
            return vlan.wiring(network, endpoint, mtu)
        return plumbing.on_bridge(
            network,
            endpoint,
            bridge_index=self._indexes[network.id],
            mtu=mtu,
            isolated=not options.icc(network),
        )

    async def sweep(self, known: Collection[str]) -> None:
        """Take away ports of our bridges that are not ``known``: the kernel does that by itself when a
        network namespace ends, but somebody may hold it (a container that shared it, nsenter).
        """
        try:
            await self.run(bridge.remove_strangers, frozenset(self._indexes.values()), frozenset(known))
        except OSError as error:
            log.warning("unused interfaces could not be removed", extra={"error": error})

    async def close(self, unused: Iterable[Network]) -> None:
        """Let go of everything; bridges of ours that nobody is in (``unused``) go away."""
        for network in unused:
            if network.id in self._indexes and network.owns_device:
                try:
                    await self.run(bridge.remove, network.device)
                except OSError as error:
                    told = {"device": network.device, "error": error}
                    log.warning("a bridge could not be removed", extra=told)
        for hold in self._holds.values():
            hold.close()
        self._thread.shutdown()
