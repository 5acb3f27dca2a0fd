import time

import pytest

from minid.containers import filters
from minid.containers.filters import Lookups
from minid.containers.model import Container, ContainerConfig, ListFilter, MountPoint, State
from minid.errors import InvalidParameter, NotFound

from .conftest import make_container


def one(number: int, name: str, status: str = "running", **fields: object) -> Container:
    config = fields.pop("config", ContainerConfig(labels={"app": name, "all": ""}, image=f"image{number}"))
    assert isinstance(config, ContainerConfig)
    state = fields.pop("state", State(status))
    return make_container(config, id=f"{number:x}" * 64, name=name, created_ns=number, state=state, **fields)


CONTAINERS = [
    one(1, "web"),
    one(2, "db", "exited", state=State("exited", exit_code=3)),
    one(3, "web2", "paused", mounts=(MountPoint("volume", "/v/data", "/data", "vol"),)),
    one(4, "new", "created"),
    one(5, "again", "restarting"),
]


def names(
    wanted: ListFilter | None = None, lookups: Lookups | None = None, **filter_values: str
) -> list[str]:
    if wanted is None:
        values = {key.replace("_", "-"): (value,) for key, value in filter_values.items()}
        wanted = ListFilter(all=True, filters=values)
    return [container.name for container in filters.select(CONTAINERS, wanted, lookups)]


def test_only_those_that_run_newest_first() -> None:
    assert names(ListFilter()) == ["again", "web2", "web"]
    assert names(ListFilter(all=True)) == ["again", "new", "web2", "db", "web"]


def test_a_limit_counts_all() -> None:
    assert names(ListFilter(limit=2)) == ["again", "new"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("id", "3333", ["web2"]),
        ("id", "^4", ["new"]),
        ("name", "web", ["web2", "web"]),
        ("name", "^/web$", ["web"]),
        ("name", "^web$", ["web"]),
        ("name", "w.b", ["web2", "web"]),
        ("name", "(((", []),
        ("label", "app=db", ["db"]),
        ("label", "all", ["again", "new", "web2", "db", "web"]),
        ("label", "none", []),
        ("status", "exited", ["db"]),
        ("status", "paused", ["web2"]),
        ("exited", "3", ["db"]),
        ("exited", "0", []),
        ("before", "web2", ["db", "web"]),
        ("since", "web2", ["again", "new"]),
        ("since", "3333", ["again", "new"]),
        ("volume", "vol", ["web2"]),
        ("volume", "/data", ["web2"]),
        ("volume", "/other", []),
        ("ancestor", "image4", ["new"]),
        ("is_task", "false", ["again", "new", "web2", "db", "web"]),
        ("is_task", "true", []),
    ],
)
def test_filters(key: str, value: str, expected: list[str]) -> None:
    assert names(**{key: value}) == expected


def test_some_filters_look_at_stopped_ones_without_all() -> None:
    assert names(ListFilter(filters={"status": ("created", "exited")})) == ["new", "db"]
    assert names(ListFilter(filters={"exited": ("3",)})) == ["db"]
    assert names(ListFilter(filters={"name": ("db",)})) == []


def test_values_are_alternatives_labels_and_keys_add_up() -> None:
    assert names(ListFilter(all=True, filters={"name": ("web", "db")})) == ["web2", "db", "web"]
    assert names(ListFilter(all=True, filters={"label": ("all", "app=db")})) == ["db"]
    assert names(ListFilter(all=True, filters={"name": ("web",), "status": ("paused",)})) == ["web2"]
    assert names(ListFilter(all=True, filters={"name": ()})) == ["again", "new", "web2", "db", "web"]


def test_what_others_know() -> None:
    lookups = Lookups(
        images=lambda name: ["sha256:" + "a" * 64] if name == "busybox" else [],
        networks=lambda container: ["none"] if container.name == "db" else ["bridge"],
        health=lambda container: "healthy" if container.name == "web" else "none",
        published=lambda container: ["80/tcp"] if container.name == "new" else [],
    )
    assert len(names(lookups=lookups, ancestor="busybox")) == 5
    assert names(lookups=lookups, ancestor="other") == []
    assert names(lookups=lookups, network="none") == ["db"]
    assert names(lookups=lookups, health="healthy") == ["web"]
    assert names(lookups=lookups, publish="80") == ["new"]
    assert names(lookups=lookups, publish="80/udp") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("foo", "1"), ("status", "foo"), ("health", "foo"), ("exited", "x"), ("is_task", "x"), ("publish", "x")],
)
def test_unknown_keys_and_values(key: str, value: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid"):
        names(**{key: value})


def test_a_neighbour_that_does_not_exist() -> None:
    with pytest.raises(NotFound, match="No such container: nope"):
        names(before="nope")


def test_a_pattern_cannot_take_for_ever() -> None:
    long = [one(6, "a" * 60)]
    started = time.perf_counter()
    for pattern in ("(a+)+$b", "a*a*a*a*a*a*a*a*b", r"(a)\1*\1*\1*b"):
        assert filters.select(long, ListFilter(all=True, filters={"name": (pattern,)})) == []
    assert time.perf_counter() - started < 1
