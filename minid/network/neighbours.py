"""Other firewalls on the machine: which of them drop forwarded packets, and how each is told not to. Pure.

See docs/decisions on why no table of ours can do it.
"""

from collections.abc import Collection, Sequence

from minid.kernel.nftables.objects import HOOKS, ListedChain

_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_IPTABLES = {2: "iptables", 10: "ip6tables"}


def drops_forwarded(chain: ListedChain) -> bool:
    """A policy of drop where packets are forwarded, or firewalld, which ends its chain with a reject."""
    if chain.hook != HOOKS["forward"]:
        return False
    return chain.drops or (chain.table == "firewalld" and chain.name == "filter_FORWARD")


def stops_published(chain: ListedChain) -> frozenset[int]:
    """The IP versions of which it drops packets to published ports; firewalld accepts what is led (DNATed)."""
    if not chain.drops:
        return frozenset()
    return {2: frozenset((4,)), 10: frozenset((6,))}.get(chain.family, frozenset((4, 6)))


def advice(chain: ListedChain, chains: Collection[str], bridges: Sequence[str]) -> str:
    """One line for the log. ``chains``: the names of all in the chain's table."""
    where = f"{_FAMILIES.get(chain.family, 'nftables')} {chain.table} {chain.name}"
    if chain.table == "firewalld":
        what = "rejects what containers send out by an interface that is in none of its zones"
    else:
        what = (
            "drops what containers and other machines send each other, and no rule in minid's own table can "
            "prevent that (published ports are proxied meanwhile; --forward-policy=accept puts rules at its end)"
        )
    return f"the firewall chain `{where}` {what}; {_remedy(chain, chains, bridges)}"


def _remedy(chain: ListedChain, chains: Collection[str], bridges: Sequence[str]) -> str:
    if chain.table == "firewalld":
        interfaces = "".join(f" --add-interface={bridge}" for bridge in bridges)
        return f"let it: firewall-cmd --permanent --zone=trusted{interfaces} && firewall-cmd --reload"
    if "ufw-user-forward" in chains or "ufw6-user-forward" in chains:
        return "let it: " + "; ".join(
            f"ufw route allow {way} on {bridge}" for bridge in bridges for way in ("in", "out")
        )
    if chain.table == "filter" and chain.family in _IPTABLES:
        program = _IPTABLES[chain.family]
        into = "DOCKER-USER" if "DOCKER-USER" in chains else chain.name
        return "let it: " + "; ".join(
            f"{program} -I {into} {way} {bridge} -j ACCEPT" for bridge in bridges for way in ("-i", "-o")
        )
    return f"accept there what comes from and goes to {', '.join(bridges)}"
