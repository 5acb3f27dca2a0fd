"""Passage through another firewall whose policy drops what is forwarded: rules of ours at the end of its chain.

Only with ``--forward-policy=accept``. At the end they change nothing but the policy, and that for packets from
and to our bridges only: whatever the other firewall says by a rule goes before. They are written as iptables-nft(8)
writes its own, so that it can read them, and carry a comment with our table's name, by which they are found again.
The chain is ``FORWARD`` of iptables, which is what ufw and Docker use; firewalld's is made anew at each reload,
and can be told by its own means.
"""

from collections.abc import Collection, Iterable, Sequence

from minid.kernel.nftables import expressions as e
from minid.kernel.nftables import objects as o
from minid.kernel.nftables.objects import ListedChain, ListedRule
from minid.kernel.nftables.transaction import Connection

TABLE, CHAIN = "filter", "FORWARD"
FAMILIES = (e.NFPROTO_IPV4, e.NFPROTO_IPV6)
_WAYS = (("from", "iifname"), ("to", "oifname"))


def ensure(kernel: Connection, table: str, chains: Iterable[ListedChain], bridges: Sequence[str]) -> bool:
    """Chains that drop by policy let the bridges' packets pass, others have no rule of ours; whether anything
    had to be done. ``table``: ours. Raises OSError.
    """
    requests: list[o.Request] = []
    for chain in chains:
        if chain.family in FAMILIES and (chain.table, chain.name) == (TABLE, CHAIN):
            rules = _rules(kernel, chain.family)
            requests += changes(chain.family, table, rules, bridges if chain.drops else ())
    if requests:
        kernel.commit(requests)
    return bool(requests)


def changes(
    family: int, table: str, rules: Sequence[ListedRule], bridges: Collection[str]
) -> list[o.Request]:
    """What makes ``rules``, those of the chain, end with ours for these bridges. Pure."""
    wanted = [f"{table}: {way} {bridge}" for bridge in bridges for way, _ in _WAYS]
    ours = [rule for rule in rules if rule.comment.startswith(f"{table}: ")]
    last = [rule.comment for rule in rules[len(rules) - len(wanted) :]]
    if len(ours) == len(wanted) and last == wanted:
        return []
    requests = [o.delete_rule(TABLE, CHAIN, rule.handle, family) for rule in ours]
    for bridge in bridges:
        for way, key in _WAYS:
            device = e.meta(key) + e.equal(bridge.encode() + b"\0")
            parts = (device, e.counter(), e.accept())
            requests.append(
                o.new_rule(TABLE, CHAIN, *parts, comment=f"{table}: {way} {bridge}", family=family)
            )
    return requests


def _rules(kernel: Connection, family: int) -> list[ListedRule]:
    answers = kernel.ask(o.list_rules(TABLE, family))
    return [rule for rule in (o.listed_rule(answer.fields) for answer in answers) if rule.chain == CHAIN]
