"""The firewall: one nftables table of ours, kept as networks and published ports need it.

What it says is in ``ruleset``. Nothing else on the machine is touched. When somebody has flushed our table
(``nft flush ruleset``), the next change notices and builds it again; so does ``ensure``.

Calls block for the time of one or two netlink round trips (a tenth of a millisecond) and must come from one
thread at a time; the network namespace is that of the thread that makes the first call.
"""

import contextlib
import errno
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from minid.errors import Conflict, Failed, Unsupported
from minid.kernel import conntrack, sysctls
from minid.kernel.nftables import objects
from minid.kernel.nftables.transaction import Changed, Connection
from minid.network import neighbours, passage, ruleset
from minid.network.ruleset import LinkedPort, NetworkRules, PublishedPort

__all__ = ["Firewall", "NetworkRules", "PublishedPort"]

log = logging.getLogger(__name__)

Key = tuple[str, bytes, bool]  # name of the set, key, whether an interval's end
_ATTEMPTS = 16


class Firewall:
    """Our table as it should be, and the means to make it so. Raises Failed with the kernel's word."""

    def __init__(
        self,
        table: str = "minid",
        *,
        host_policy: bool = False,
        proxied: bool = True,
        accept_forwarded: bool = False,
    ) -> None:
        """``host_policy``: ports published to other machines obey the host's input rules.

        ``accept_forwarded``: our packets shall pass chains of others that drop by policy (``passage``).

        ``proxied``: the port holder serves what arrives at its sockets, so that packets may be left to them.
        """
        if host_policy and not proxied:
            raise ValueError("published ports can't obey the host's input rules without a proxy")
        self.table = table
        self._host_policy = host_policy
        self._proxied = proxied
        self._accept_forwarded = accept_forwarded
        self._passing = ruleset.BOTH  # IP versions of which the table leads packets from elsewhere
        self._bridged = False  # whether the table is made for br_netfilter
        self._networks: dict[str, NetworkRules] = {}
        self._ports: dict[PublishedPort, ruleset.Elements] = {}
        self._links: frozenset[LinkedPort] = frozenset()
        self._connection: Connection | None = None
        self._generation: int | None = None  # of the ruleset when our table was last seen to be whole
        self._hairpins: Counter[bytes] = Counter()  # how many ports have an element of that set
        self._lock = threading.Lock()  # of the next two
        self._stale: set[conntrack.Stale] = set()
        self._forgetting: threading.Thread | None = None
        self._applied: set[Key] = set()  # what is in the sets then
        self._handles: list[int] = []  # of the rules then

    @property
    def networks(self) -> Sequence[NetworkRules]:
        return tuple(self._networks.values())

    @property
    def ports(self) -> Sequence[PublishedPort]:
        return tuple(self._ports)

    def ensure(
        self, networks: Iterable[NetworkRules] | None = None, ports: Iterable[PublishedPort] | None = None
    ) -> None:
        """Build the whole table in one transaction, for these networks and ports (``None``: those it knows).

        Packets never see it half done; connections go on.
        """
        if networks is not None:
            self._networks = {rules.name: rules for rules in networks}
        if ports is not None:
            self._ports = {port: ruleset.port_elements(port) for port in ports}
        self._rebuild()
        self._route_localnet(self._networks)

    def add_network(self, rules: NetworkRules) -> None:
        """Idempotent; in place of what was said of the same bridge before."""
        before = self._networks.get(rules.name)
        new = ruleset.network_elements(rules)
        if before == rules:
            self._change([], [])
            return
        self._networks[rules.name] = rules
        try:
            self._change([] if before is None else ruleset.network_elements(before), new)
        except Failed:
            del self._networks[rules.name]
            raise
        self._route_localnet([rules.name])
        self._ensure_passage(self._networks)

    def remove_network(self, name: str) -> None:
        """Idempotent."""
        rules = self._networks.pop(name, None)
        if rules is not None:
            self._change(ruleset.network_elements(rules), [])
            self._ensure_passage(self._networks)

    def publish(self, *ports: PublishedPort) -> None:
        """Lead these host ports to their containers, all or none. Raises Conflict if one is taken."""
        elements = {port: ruleset.port_elements(port) for port in ports if port not in self._ports}
        keys: set[Key] = set()
        for port, some in elements.items():
            for key in _keys(some):
                if key in keys or key in self._applied:
                    raise Conflict(
                        f"Bind for {port.host_ip or '0.0.0.0'}:{port.host_port} failed: port is already allocated"
                    )
                keys.add(key)
        self._ports |= elements
        added = [one for some in elements.values() for one in some]
        try:
            self._change([], added + self._neighbours(elements))
        except Failed:
            for port in elements:
                del self._ports[port]
            self._neighbours(elements, leaving=True)
            raise
        self._forget({(port.host_port, "") for port in elements if port.protocol == "udp"})

    def open(self, links: frozenset[LinkedPort]) -> None:
        """These and no others are what containers may connect to that may not talk to each other."""
        before, self._links = self._links, links
        gone = [one for link in before - links for one in ruleset.linked_elements(link)]
        new = [one for link in links - before for one in ruleset.linked_elements(link)]
        self._change(gone, new)
        self._route_between({link.bridge for link in links})

    def unpublish(self, *ports: PublishedPort) -> None:
        """Idempotent."""
        gone = {port: self._ports.pop(port) for port in ports if port in self._ports}
        if gone:
            elements = [one for some in gone.values() for one in some]
            self._change(elements + self._neighbours(gone, leaving=True), [])
        self._forget(
            {
                (port.host_port, address)
                for port in gone
                if port.protocol == "udp"
                for address in (port.container_ip4, port.container_ip6)
                if address
            }
        )

    def _forget(self, flows: set[conntrack.Stale]) -> None:
        """UDP clients that go on sending shall reach whoever has the port now.

        In a thread, because the kernel looks through its whole table of flows, which takes 20 ms.
        """
        with self._lock:
            self._stale |= flows
            if self._stale and self._forgetting is None:
                self._forgetting = threading.Thread(target=self._forget_all, name="conntrack")
                self._forgetting.start()

    def _forget_all(self) -> None:
        while True:
            with self._lock:
                flows, self._stale = self._stale, set()
                if not flows:
                    self._forgetting = None
                    return
            try:
                conntrack.forget_udp(flows)
            except OSError as error:  # not worth failing for
                log.warning("known UDP flows could not be forgotten", extra={"error": error})

    def settle(self) -> None:
        """Wait until what was published and unpublished holds for UDP clients too that were there before."""
        thread = self._forgetting
        if thread is not None:
            thread.join()

    def _neighbours(self, ports: Iterable[PublishedPort], *, leaving: bool = False) -> ruleset.Elements:
        """What the set ``hairpin`` must get or lose with ``ports``; several ports may share an element."""
        changed: ruleset.Elements = []
        for port in ports:
            for name, element in ruleset.hairpin_elements(port):
                before = self._hairpins[element.key]
                self._hairpins[element.key] += -1 if leaving else 1
                if (before == 1) if leaving else (before == 0):
                    changed.append((name, element))
        return changed if self._bridged else []

    def present(self) -> bool:
        """Whether our table is in the kernel as we made it; False when somebody flushed or changed it.

        One round trip while nobody has changed any rule on the machine.
        """
        if self._generation is None or self._bridged != self._bridged_now():
            return False
        try:
            generation = self._kernel().generation()
            if generation != self._generation:
                self._ensure_passage(self._networks)
                generation = self._kernel().generation()
                if not self._is_whole() or self._passing != self._passing_now():
                    return False
                self._generation = generation
        except OSError as error:
            raise _failed(error) from error
        return True

    def obstacles(self) -> list[str]:
        """Who else drops what is forwarded to and from containers, and what to do about it, for the log."""
        try:
            return [
                neighbours.advice(chain, names, tuple(self._networks)) for chain, names in self._dropping()
            ]
        except OSError as error:
            raise _failed(error) from error

    def _dropping(self) -> list[tuple[objects.ListedChain, set[str]]]:
        """Chains of others that drop forwarded packets, each with the names of all chains in its table.

        A packet must pass every table: no rule of ours brings back what another one drops. Tables with a
        rule that names one of our bridges are left out: somebody has seen to it. See docs/decisions.
        """
        kernel = self._kernel()
        found = []
        chains = self._chains()
        for chain in chains:
            if neighbours.drops_forwarded(chain) and chain.table != self.table:
                rules = kernel.ask(objects.list_rules(chain.table, chain.family))
                said = b"".join(rule.fields.get(4, b"") for rule in rules)
                if not any(bridge.encode() in said for bridge in self._networks):
                    mine = (chain.family, chain.table)
                    found.append((chain, {one.name for one in chains if (one.family, one.table) == mine}))
        return found

    def _chains(self) -> list[objects.ListedChain]:
        """All chains on the machine."""
        answers = self._kernel().ask(objects.list_chains())
        return [objects.listed_chain(one.family, one.fields) for one in answers]

    def _ensure_passage(self, bridges: Iterable[str]) -> None:
        """Where others drop what is forwarded, if that is wanted."""
        if self._accept_forwarded:
            try:
                passage.ensure(self._kernel(), self.table, self._chains(), sorted(bridges))
            except OSError as error:
                raise _failed(error) from error

    def _passing_now(self) -> frozenset[int]:
        """The IP versions of which packets that are led to a container from elsewhere arrive there.

        Of the others, published ports are left to the port holder, which needs no forwarding.
        """
        if not self._proxied:
            return ruleset.BOTH
        stopped = (neighbours.stops_published(chain) for chain, _ in self._dropping())
        return ruleset.BOTH.difference(*stopped)

    def remove(self) -> None:
        """Take our table away; nothing of ours is left. Idempotent."""
        requests = [objects.new_table(self.table), objects.delete_table(self.table)]
        try:
            self._ensure_passage(())
            self._kernel().commit(requests)
        except OSError as error:
            raise _failed(error) from error
        finally:
            self._route_localnet(self._networks, on=False)
            self._networks.clear()
            self._ports.clear()
            self._links = frozenset()
            self._generation = None
            self.close()

    def _route_localnet(self, bridges: Iterable[str], *, on: bool = True) -> None:
        """Let packets from 127.0.0.1 leave by our bridges: on only while our rules keep containers from
        sending any to 127.0.0.1 there (``Documentation/networking/ip-sysctl.rst`` § route_localnet).
        """
        for bridge in bridges:
            with contextlib.suppress(FileNotFoundError):  # no such device, or not yet
                sysctls.ensure("1" if on else "0", "ipv4", "conf", bridge, "route_localnet")

    def _route_between(self, bridges: Iterable[str]) -> None:
        """The ports of a bridge without ``icc`` are isolated, so what may pass between them has to be routed:
        the host answers for the neighbours' addresses (RFC 3069; ``ip-sysctl.rst`` § proxy_arp_pvlan), at
        once, and tells nobody of a shorter way.
        """
        for bridge in bridges:
            with contextlib.suppress(FileNotFoundError):
                sysctls.ensure("0", "ipv4", "neigh", bridge, "proxy_delay")
                sysctls.ensure("0", "ipv4", "conf", bridge, "send_redirects")
                sysctls.ensure("1", "ipv4", "conf", bridge, "proxy_arp_pvlan")

    def close(self) -> None:
        """Close the netlink socket; the table stays."""
        self.settle()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _kernel(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = Connection()
            except OSError as error:
                if error.errno == errno.EPROTONOSUPPORT:
                    raise Unsupported("this kernel has no nftables (CONFIG_NF_TABLES)") from error
                raise
        return self._connection

    def _change(self, deleted: ruleset.Elements, added: ruleset.Elements) -> None:
        """Commit the change if the table is whole, else build the table as it should be now."""
        requests = ruleset.delete(self.table, deleted) + ruleset.add(self.table, added)
        if not requests:
            if not self.present():
                self._rebuild()
            return
        while self._generation is not None:
            try:
                self._kernel().commit(requests, self._generation)
            except Changed:
                if not self.present():
                    break
            except OSError:
                break
            else:
                self._generation = _next(self._generation)
                self._applied -= _keys(deleted)
                self._applied |= _keys(added)
                return
        self._rebuild()

    def _bridged_now(self) -> bool:
        """Whether the kernel calls the IP hooks for frames within a bridge, and the port holder can help."""
        return self._proxied and "1" in (
            sysctls.find("bridge", "bridge-nf-call-iptables"),
            sysctls.find("bridge", "bridge-nf-call-ip6tables"),
        )

    def _rebuild(self) -> None:
        elements = [one for rules in self._networks.values() for one in ruleset.network_elements(rules)]
        elements += [one for some in self._ports.values() for one in some]
        elements += [one for link in self._links for one in ruleset.linked_elements(link)]
        self._bridged = self._bridged_now()
        self._hairpins.clear()
        elements += self._neighbours(self._ports)
        kernel = self._kernel()
        self._generation = None
        self._ensure_passage(self._networks)
        try:
            for _ in range(_ATTEMPTS):
                generation = kernel.generation()
                self._passing = self._passing_now()
                requests = ruleset.base(
                    self.table,
                    from_others=frozenset() if self._host_policy else self._passing,
                    from_containers=self._passing,
                )
                try:
                    kernel.commit(requests + ruleset.add(self.table, elements), generation)
                except Changed:
                    continue
                self._handles = self._read_handles()
                if kernel.generation() == _next(generation):
                    self._generation = _next(generation)
                    self._applied = _keys(elements)
                    return
        except OSError as error:
            raise _failed(error) from error
        raise Failed("the firewall's rules are changed by others all the time; see who runs `nft monitor`")

    def _read_handles(self) -> list[int]:
        """The kernel's numbers of our rules: others, if somebody else has made them anew."""
        answers = self._kernel().ask(objects.list_rules(self.table))
        return [objects.rule_handle(answer.fields) for answer in answers]

    def _is_whole(self) -> bool:
        """Compare all rules and elements in the kernel with what we have put there."""
        try:
            if self._read_handles() != self._handles:
                return False
            found: set[Key] = set()
            for described in ruleset.SETS:
                for answer in self._kernel().ask(objects.list_elements(self.table, described.name)):
                    found.update((described.name, *key) for key in objects.element_keys(answer.fields))
        except FileNotFoundError:
            return False
        return found == self._applied


def _keys(elements: ruleset.Elements) -> set[Key]:
    found = set()
    for name, element in elements:
        found.add((name, element.key, False))
        if element.end:
            found.add((name, element.end, True))
    return found


def _next(generation: int) -> int:
    """The kernel counts in 32 bits and leaves out 0."""
    return (generation + 1) & 0xFFFFFFFF or 1


def _failed(error: OSError) -> Failed:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Failed(f"minid may not change the firewall (CAP_NET_ADMIN): {error.strerror}")
    return Failed(f"firewall: {error.strerror}")
