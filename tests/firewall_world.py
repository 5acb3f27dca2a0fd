"""A host with four networks, containers on them, and another host: what the firewall is tested with."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from minid.kernel import syscall
from minid.network.firewall import Firewall, NetworkRules, PublishedPort
from minid.network.holder import PortHolder
from minid.network.model import PortSpec
from minid.network.ports import Ports
from minid.shim.client import Forkserver
from tests.netns import Namespace

T = TypeVar("T")
BRIDGES = {"minid0": 30, "br-other": 31, "br-internal": 32, "br-silent": 33}
NETWORKS = (
    NetworkRules("minid0", ("172.30.0.0/24", "fd30::/64")),
    NetworkRules("br-other", ("172.31.0.0/24", "fd31::/64")),
    NetworkRules("br-internal", ("172.32.0.0/24", "fd32::/64"), internal=True),
    NetworkRules("br-silent", ("172.33.0.0/24", "fd33::/64"), icc=False),
)
HOST4, HOST6 = "10.9.0.1", "fd09::1"
OUTSIDE4, OUTSIDE6 = "10.9.0.2", "fd09::2"


class World:
    def __init__(self, bridged: str = "0", *, host_policy: bool = False) -> None:
        """``bridged``: "1" if the IP hooks are called for frames within a bridge (br_netfilter)."""
        self.spaces: list[Namespace] = []
        self.host = self.space()
        self.host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        for family in ("iptables", "ip6tables"):
            with contextlib.suppress(FileNotFoundError):
                self.host.write(f"/proc/sys/net/bridge/bridge-nf-call-{family}", bridged)
        for bridge, net in BRIDGES.items():
            self.host.sh(
                f"ip link add {bridge} address 02:42:0a:00:00:{net} type bridge",  # else it changes with its ports
                f"ip link set {bridge} up",
                f"ip addr add 172.{net}.0.1/24 dev {bridge}",
                f"ip addr add fd{net}::1/64 dev {bridge} nodad",
            )
        self.outside = self.space()
        self.outside.join(self.host, "", "out0", f"{OUTSIDE4}/24", f"{OUTSIDE6}/64")
        self.host.sh(f"ip addr add {HOST4}/24 dev out0", f"ip addr add {HOST6}/64 dev out0 nodad")
        self.a1, self.a2 = self.container("minid0", 2), self.container("minid0", 3)
        self.b1 = self.container("br-other", 2)
        self.i1, self.i2 = self.container("br-internal", 2), self.container("br-internal", 3)
        self.s1, self.s2 = self.container("br-silent", 2), self.container("br-silent", 3)
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.firewall = Firewall(host_policy=host_policy)
        self.ports = Ports((32768, 32999))
        self.do(lambda: self.firewall.ensure(NETWORKS))
        self.forkserver, self.holder = self.inside(self._start_holder())

    def _run(self) -> None:
        """The daemon's thread: in the host's namespace, and so is whatever it starts."""
        syscall.setns(self.host.fd, syscall.CLONE_NEWNET)
        self.loop.run_forever()

    async def _start_holder(self) -> tuple[Forkserver, PortHolder]:
        forkserver = Forkserver()
        return forkserver, PortHolder(forkserver, Path(self.directory.name) / "ports.sock")

    def inside(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it as the daemon would, in the host's namespace."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def space(self) -> Namespace:
        self.spaces.append(Namespace())
        return self.spaces[-1]

    def container(self, bridge: str, number: int) -> Namespace:
        net = BRIDGES[bridge]
        made = self.space()
        device = f"v{net}-{number}"
        made.join(self.host, bridge, device, f"172.{net}.0.{number}/24", f"fd{net}::{number}/64")
        made.sh(f"ip route add default via 172.{net}.0.1", f"ip route add default via fd{net}::1")
        if bridge == "br-silent":
            self.host.sh(f"bridge link set dev {device} isolated on")  # as plumbing.py does
        return made

    def do(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        self.inside(call())

    def publish(
        self,
        host_port: int = 5000,
        protocol: str = "tcp",
        host_ip: str = "",
        ip4: str = "172.30.0.2",
        ip6: str = "fd30::2",
        bridge: str = "minid0",
    ) -> PublishedPort:
        """Lead a host port to port 80 of a1."""
        port = PublishedPort(protocol, host_ip, host_port, ip4, ip6, 80, bridge)

        async def publish() -> None:
            reserved = self.ports.reserve([PortSpec(protocol, 80, host_ip, (host_port, host_port))])
            self.firewall.publish(port)
            await self.holder.hold(reserved[0], port, {})
            self.firewall.settle()

        self.inside(publish())
        return port

    def unpublish_all(self) -> None:
        async def unpublish() -> None:
            self.firewall.unpublish(*self.firewall.ports)
            for reservation in tuple(self.ports):
                await self.holder.release(reservation)
                self.ports.release([reservation])
            self.firewall.settle()

        self.inside(unpublish())

    def clear(self) -> None:
        """No ports, no sockets; ready for the next test."""
        self.unpublish_all()
        for space in self.spaces:
            space.close_sockets()

    def close(self) -> None:
        self.unpublish_all()
        self.do(self.holder.close)
        self.do(self.forkserver.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.firewall.close()
        for space in self.spaces:
            space.close()
        self.directory.cleanup()
