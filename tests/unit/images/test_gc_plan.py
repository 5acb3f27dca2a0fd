"""What a collection takes by each limit, and what it says of all the rest."""

from hypothesis import given
from hypothesis import strategies as st

from minid.images.gc_plan import NS, Plan, Policy, Thing, make_plan, span

DAY_S = 86400
NOW = 1000 * DAY_S * NS


def image(
    name: str, days: float, *parts: str, tag: bool = False, needed: str = "", parent: str = ""
) -> Thing:
    tags = (f"{name}:latest",) if tag else ()
    used = NOW - int(days * DAY_S * NS)
    parent_id = f"sha256:{parent}" if parent else ""
    return Thing("image", f"sha256:{name}", used, frozenset(parts), tags, tags, parent_id, needed)


def planned(things: list[Thing], policy: Policy, *, free: int = 1000, pinned: tuple[str, ...] = ()) -> Plan:
    sizes = {part: 100 for thing in things for part in thing.parts}
    return make_plan(things, sizes, pinned, policy, now_ns=NOW, free_bytes=free)


def ids(plan: Plan) -> list[str]:
    return [verdict.thing.id.removeprefix("sha256:") for verdict in plan.collected]


def test_by_age_without_tags_containers_and_children() -> None:
    things = [
        image("old", 40, "a"),
        image("new", 2, "b"),
        image("tagged", 50, "c", tag=True),
        image("used", 60, "d", needed="container 123 uses it"),
        image("base", 70, "e"),
        image("made", 1, "e", "f", parent="base"),
    ]
    plan = planned(things, Policy(max_age_s=30 * DAY_S))
    assert ids(plan) == ["old"]
    assert plan.collected[0].reason == "used 40 days ago, more than 30 days is too long"
    assert plan.freed_bytes == 100 and plan.total_bytes == 600
    assert {verdict.thing.id[7:]: verdict.reason for verdict in plan.kept} == {
        "new": "used 2 days ago, within the limits",
        "tagged": "has the tag tagged:latest",
        "used": "container 123 uses it",
        "base": "image made is made from it",
        "made": "used 1 day ago, within the limits",
    }
    assert ids(planned(things, Policy(max_age_s=30 * DAY_S, tagged=True))) == ["tagged", "old"]
    assert ids(planned(things, Policy(max_age_s=DAY_S / 2))) == ["old", "new", "made", "base"]


def test_by_size_the_least_recently_used_first_until_it_fits() -> None:
    things = [image("a", 3, "1", "shared"), image("b", 2, "2", "shared"), image("c", 1, "3")]
    plan = planned(things, Policy(max_size_bytes=300))
    assert ids(plan) == ["a"]
    assert [verdict.size_bytes for verdict in plan.collected] == [100]
    assert "images take 400 of 300 bytes" in plan.collected[0].reason
    plan = planned(things, Policy(max_size_bytes=299))
    assert ids(plan) == ["a", "b"]
    assert [verdict.size_bytes for verdict in plan.collected] == [
        100,
        200,
    ]  # what they shared goes with the last
    assert ids(planned(things, Policy(max_size_bytes=400))) == []
    assert ids(planned(things, Policy(max_size_bytes=0))) == ["a", "b", "c"]


def test_by_free_space() -> None:
    things = [image("a", 3, "1"), image("b", 2, "2")]
    assert ids(planned(things, Policy(min_free_bytes=1000), free=1000)) == []
    assert ids(planned(things, Policy(min_free_bytes=1001), free=1000)) == ["a"]
    assert ids(planned(things, Policy(min_free_bytes=10_000), free=1000)) == ["a", "b"]


def test_what_a_container_stands_on_counts_as_not_freed() -> None:
    plan = planned([image("a", 3, "1", "2")], Policy(max_age_s=0), pinned=("2",))
    assert plan.freed_bytes == 100


def test_without_a_limit_nothing_goes() -> None:
    assert not Policy(tagged=True).has_limit
    assert ids(planned([image("a", 3000, "1")], Policy())) == []


_THINGS = st.lists(
    st.tuples(
        st.integers(0, 60),  # days
        st.sets(st.sampled_from("abcdefgh")),
        st.booleans(),  # a tag
        st.booleans(),  # needed
        st.integers(0, 12),  # parent
    ),
    max_size=12,
)
_LIMIT = st.none() | st.integers(0, 900)


@given(
    _THINGS, st.none() | st.integers(0, 50), _LIMIT, _LIMIT, st.booleans(), st.sets(st.sampled_from("abc"))
)
def test_whatever_there_is(
    drawn: list[tuple[int, set[str], bool, bool, int]],
    days: int | None,
    size: int | None,
    free: int | None,
    tagged: bool,
    pinned: set[str],
) -> None:
    things = [
        image(
            str(number),
            days,
            *parts,
            tag=tag,
            needed="x" if needed else "",
            parent=str(parent) if parent < number else "",
        )
        for number, (days, parts, tag, needed, parent) in enumerate(drawn)
    ]
    policy = Policy(days * DAY_S if days is not None else None, size, free, tagged)
    plan = planned(things, policy, free=100, pinned=tuple(pinned))
    gone = {verdict.thing.id for verdict in plan.collected}
    kept = [verdict.thing for verdict in plan.kept]
    assert len(gone) + len(kept) == len(things)
    assert all(not thing.needed and (tagged or not thing.tags) for thing in things if thing.id in gone)
    assert not any(thing.parent_id in gone for thing in kept)
    left = {part for thing in kept for part in thing.parts} | pinned
    everything = {part for thing in things for part in thing.parts}
    assert plan.freed_bytes == 100 * len(everything - left)
    removable = [
        thing
        for thing in kept
        if not thing.needed
        and (tagged or not thing.tags)
        and not any(each.parent_id == thing.id for each in kept)
    ]
    if removable:  # then every limit is kept
        oldest = min(thing.last_used_ns for thing in removable)
        assert days is None or NOW - oldest <= days * DAY_S * NS
        assert size is None or plan.total_bytes - plan.freed_bytes <= size
        assert free is None or 100 + plan.freed_bytes >= free
    assert all(verdict.reason for verdict in (*plan.collected, *plan.kept))


def test_spans() -> None:
    assert [span(value) for value in (0, 1, 59, 60, 7199, 7200, 86400, 200000)] == [
        "0 seconds",
        "1 second",
        "59 seconds",
        "1 minute",
        "1 hour",
        "2 hours",
        "1 day",
        "2 days",
    ]
