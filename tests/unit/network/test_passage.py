"""Rules of ours at the end of another firewall's chain: what has to be added and taken away."""

from minid.kernel.nftables import objects
from minid.kernel.nftables.objects import ListedRule
from minid.network import passage

THEIRS = [ListedRule("FORWARD", 3, ""), ListedRule("FORWARD", 4, "minid-other: from br0")]
OURS = [ListedRule("FORWARD", 8, "minid: from minid0"), ListedRule("FORWARD", 9, "minid: to minid0")]


def told(rules: list[ListedRule], *bridges: str) -> list[tuple[str, str]]:
    kinds = {objects.NEWRULE: "add", objects.DELRULE: "delete"}
    return [
        (kinds[request.kind], request.about.rpartition("FORWARD")[2].strip())
        for request in passage.changes(2, "minid", rules, bridges)
    ]


def test_they_come_last() -> None:
    added = [("add", "minid: from minid0"), ("add", "minid: to minid0")]
    assert told(THEIRS, "minid0") == added
    assert told([*THEIRS, *OURS], "minid0") == []
    assert told([*OURS, *THEIRS], "minid0") == [("delete", ""), ("delete", ""), *added], (
        "something came behind"
    )
    assert told([*THEIRS, OURS[0]], "minid0") == [("delete", ""), *added], "one is gone"


def test_they_go_with_their_bridge_and_their_reason() -> None:
    assert told([*THEIRS, *OURS]) == [("delete", ""), ("delete", "")]
    assert told(THEIRS) == []
    assert told([*THEIRS, *OURS], "br-1", "minid0")[2:4] == [
        ("add", "minid: from br-1"),
        ("add", "minid: to br-1"),
    ]
