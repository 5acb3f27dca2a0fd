"""Volumes: names, options, life, and what a crash leaves. Needs no root."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minid.errors import Conflict, InvalidParameter, NotFound, Unsupported
from minid.events import EventBus
from minid.layout import Layout
from minid.state import Database
from minid.volumes.service import Volumes


class World:
    def __init__(self, root: Path) -> None:
        self.layout = Layout(root, root / "exec")
        self.database = Database(self.layout.database)
        self.events = EventBus()
        self.used: dict[str, list[str]] = {}
        self.volumes = self.open()

    def open(self) -> Volumes:
        volumes = Volumes(self.layout, self.database, self.events)
        volumes.users = lambda name: self.used.get(name, [])
        return volumes

    def told(self) -> list[tuple[str, str]]:
        return [
            (event.action, event.actor_id)
            for event in self.events.history(lambda event: event.type == "volume")
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.database.close()


def test_create_is_idempotent(world: World) -> None:
    first = world.volumes.create("data", labels={"a": "b"})
    assert world.volumes.create("data", labels={"other": "x"}) == first
    assert (first.name, first.driver, dict(first.labels), first.anonymous) == (
        "data",
        "local",
        {"a": "b"},
        False,
    )
    assert first.mountpoint == str(world.layout.volumes / "data/_data")
    assert stat.S_IMODE(os.stat(first.mountpoint).st_mode) == 0o755
    assert world.told() == [("create", "data")]


def test_a_volume_without_a_name(world: World) -> None:
    volume = world.volumes.create()
    assert volume.anonymous and len(volume.name) == 64 and set(volume.name) <= set("0123456789abcdef")
    assert "com.docker.volume.anonymous" in volume.labels
    assert world.volumes.create().name != volume.name


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "-x", "a b", "a\n", "ä1", "x" * 256, "a\0b"])
def test_names_that_are_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidParameter, match="includes invalid characters for a local volume name"):
        world.volumes.create(name)
    assert os.listdir(world.layout.volumes) == []


def test_a_name_of_one_letter(world: World) -> None:
    with pytest.raises(InvalidParameter, match="volume name is too short"):
        world.volumes.create("x")


def test_the_longest_name_can_be_removed_too(world: World) -> None:
    world.volumes.create("x" * 255)
    asyncio.run(world.volumes.remove("x" * 255))
    assert os.listdir(world.layout.volumes) == []


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"colour": "red"}, InvalidParameter, 'create vol: invalid option: "colour"'),
        ({"type": "nfs"}, InvalidParameter, 'missing required option: "device"'),
        ({"type": "none", "device": "etc", "o": "bind"}, InvalidParameter, "not an absolute path"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, Unsupported, "--mount type=tmpfs"),
        ({"type": "none", "device": "/etc", "o": "bind,ro"}, Unsupported, "o=bind,ro is not supported"),
        ({"size": "1g"}, Unsupported, "no quota support"),
    ],
)
def test_options_that_are_refused(
    world: World, options: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        world.volumes.create("vol", options=options)
    assert world.volumes.find("vol") is None


def test_a_directory_of_the_host_as_volume(world: World, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("x")
    options = {"type": "none", "o": "bind", "device": str(host)}
    volume = world.volumes.create("bound", options=options)
    assert os.listdir(volume.mountpoint) == ["file"] and dict(volume.options) == options
    assert asyncio.run(world.volumes.size("bound")) == 0
    asyncio.run(world.volumes.remove("bound"))
    assert (host / "file").read_text() == "x"


def test_an_unknown_driver(world: World) -> None:
    with pytest.raises(NotFound, match='plugin "rexray" not found'):
        world.volumes.create("vol", driver="rexray")


def test_remove(world: World) -> None:
    volume = world.volumes.create("data")
    Path(volume.mountpoint, "deep/er").mkdir(parents=True)
    world.used["data"] = ["c1", "c2"]
    with pytest.raises(Conflict, match=r"remove data: volume is in use - \[c1, c2\]"):
        asyncio.run(world.volumes.remove("data", force=True))
    world.used.clear()
    asyncio.run(world.volumes.remove("data"))
    assert os.listdir(world.layout.volumes) == [] and world.volumes.list() == []
    with pytest.raises(NotFound, match="get data: no such volume"):
        asyncio.run(world.volumes.remove("data"))
    asyncio.run(world.volumes.remove("data", force=True))
    assert world.told() == [("create", "data"), ("destroy", "data")]


def test_filters(world: World) -> None:
    for name, labels in (
        ("web-data", {"tier": "web"}),
        ("db-data", {"tier": "db", "big": ""}),
        ("cache", {}),
    ):
        world.volumes.create(name, labels=labels)
    world.used["db-data"] = ["c1"]

    def names(**filters: tuple[str, ...]) -> list[str]:
        return [volume.name for volume in world.volumes.list(filters)]

    assert names() == ["cache", "db-data", "web-data"]
    assert names(name=("data",)) == ["db-data", "web-data"]
    assert names(label=("tier",)) == ["db-data", "web-data"]
    assert names(label=("tier=db",)) == names(label=("tier", "big")) == ["db-data"]
    assert names(dangling=("true",)) == ["cache", "web-data"]
    assert names(dangling=("0",)) == ["db-data"]
    assert names(driver=("other",)) == []
    assert names(name=("data",), label=("tier=web",)) == ["web-data"]


def test_prune_takes_what_nobody_uses(world: World) -> None:
    used, unused = world.volumes.create(), world.volumes.create()
    Path(unused.mountpoint, "file").write_bytes(b"12345")
    world.volumes.create("named", labels={"keep": ""})
    world.volumes.create("other")
    world.used[used.name] = ["c"]
    pruned = asyncio.run(world.volumes.prune())
    assert (pruned.names, pruned.reclaimed_bytes) == ((unused.name,), 5)
    pruned = asyncio.run(world.volumes.prune(all=True, filters={"label!": ("keep",)}))
    assert pruned.names == ("other",)
    assert {volume.name for volume in world.volumes.list()} == {used.name, "named"}


def test_volumes_are_there_after_a_restart(world: World) -> None:
    volume = world.volumes.create("data", labels={"a": "b"}, options={})
    assert world.open().get("data") == volume


def test_a_crash_in_the_middle_of_a_removal(world: World) -> None:
    world.volumes.create("data")
    (world.layout.volumes / "data").rename(world.layout.volumes / ".removed-0123")
    assert world.open().list() == []
    assert os.listdir(world.layout.volumes) == []


def test_data_without_a_row_is_kept(world: World) -> None:
    path = Path(world.volumes.create("data").mountpoint, "precious")
    path.write_text("x")
    with world.database.transaction() as connection:
        connection.execute("DELETE FROM volumes")
    assert [volume.name for volume in world.open().list()] == ["data"]
    assert path.read_text() == "x"
