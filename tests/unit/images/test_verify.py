"""``image verify``: a byte flipped, a file truncated, a file removed, for each kind of thing, and each repaired."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minid.errors import Failed, NotFound
from minid.images.registry.authorizer import Auth
from minid.images.verify import Finding
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import Built, InProcessRegistry, layer_tar

LAYERS = [layer_tar("a", 5000), layer_tar("b", 300_000)]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = {"damaged": flip, "shorter": truncate, "missing": remove}


@pytest.fixture
async def built(place: Place, registry: InProcessRegistry) -> Built:
    built = registry.add_image("app", layers=LAYERS)
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    place.lines.clear()
    return built


async def verify(
    place: Place, *names: str, repair: bool = False, auths: dict[str, Auth] | None = None
) -> list[Finding]:
    found: list[Finding] = []
    await place.images.verify(names, found.append, repair=repair, auths=auths)
    return found


def digests(built: Built) -> dict[str, str]:
    return {
        "manifest": built.manifest_digest,
        "config": built.config_digest,
        "layer blob": built.layer_digests[1],
        "unpacked layer": built.diff_ids[1],
    }


def path_of(place: Place, digest: str, kind: str) -> Path:
    if kind == "unpacked layer":
        return place.layers.root / digest
    return place.images._content.path(digest)


async def test_nothing_is_wrong(place: Place, registry: InProcessRegistry, built: Built) -> None:
    found = await verify(place, f"{registry.address}/app")
    assert [(item.kind, item.state) for item in found] == [
        ("manifest", "ok"),
        ("config", "ok"),
        ("layer blob", "ok"),
        ("layer blob", "ok"),
        ("unpacked layer", "ok"),
        ("unpacked layer", "ok"),
    ]
    assert {item.how for item in found} == {"re-hashed", "compared with its blob, unpacked again"}
    assert await verify(place) == found  # all images, and there is no other


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("kind", ["manifest", "config", "layer blob", "unpacked layer"])
@pytest.mark.parametrize("how", DAMAGES)
async def test_damage_is_found_and_mended(
    place: Place, registry: InProcessRegistry, built: Built, kind: str, how: str, restarted: bool
) -> None:
    digest = digests(built)[kind]
    path = path_of(place, digest, kind)
    good = path.read_bytes()
    DAMAGES[how](path)
    if restarted:
        await place.restart()
    before = registry.requests.copy()
    found = {item.digest: item for item in await verify(place, built.config_digest)}
    state = "missing" if how == "missing" else "damaged"
    assert found[digest].state == state and not found[digest].repaired
    others = [item for item in found.values() if item.digest != digest]
    if kind == "manifest":
        assert {item.state for item in others} == {"ok", "unchecked"}  # it says which blob is which layer's
    elif kind == "layer blob":
        assert sorted(item.state for item in others) == ["ok"] * 4 + ["unchecked"]
    else:
        assert {item.state for item in others} == {"ok"}
    assert registry.requests == before  # looking changes nothing and asks nobody
    assert path.exists() == (how != "missing")

    found = {item.digest: item for item in await verify(place, built.config_digest, repair=True)}
    assert found[digest].state == state and found[digest].repaired, found[digest]
    assert all(item.is_good for item in found.values())
    assert path.read_bytes() == good
    assert all(item.state == "ok" for item in await verify(place))


async def test_what_cannot_be_had_again_says_so(
    place: Place, registry: InProcessRegistry, built: Built
) -> None:
    digest = built.layer_digests[0]
    flip(path_of(place, digest, "layer blob"))
    del registry.blobs[digest]
    found = {item.digest: item for item in await verify(place, repair=True)}
    assert not found[digest].is_good
    assert f"not repaired: registry {registry.address} does not have" in found[digest].detail
    assert found[built.diff_ids[0]].state == "unchecked"


async def test_a_layer_under_a_container_is_left_alone(
    place: Place, registry: InProcessRegistry, built: Built
) -> None:
    path = path_of(place, built.diff_ids[0], "unpacked layer")
    flip(path)
    damaged = path.read_bytes()
    place.images.held_layers = lambda: built.diff_ids
    found = {item.digest: item for item in await verify(place, repair=True)}
    assert "not repaired: containers stand on it: remove them first" in found[built.diff_ids[0]].detail
    assert path.read_bytes() == damaged
    place.images.held_layers = lambda: ()
    with place.images.hold(place.images.get(built.config_digest)):  # one that is just being made
        found = {item.digest: item for item in await verify(place, repair=True)}
    assert "not repaired: containers stand on it" in found[built.diff_ids[0]].detail
    assert path.read_bytes() == damaged
    found = {item.digest: item for item in await verify(place, repair=True)}
    assert found[built.diff_ids[0]].repaired


@pytest.mark.parametrize("when", ["before its turn", "at its manifest", "at its config"])
async def test_an_image_that_is_removed_meanwhile(
    place: Place, registry: InProcessRegistry, built: Built, when: str
) -> None:
    registry.add_image("other", layers=LAYERS)
    await place.images.pull(f"{registry.address}/other", progress=place.tell)
    first, second = place.images._catalog.ids()
    removed: list[asyncio.Task[object]] = []
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        mine = finding.image_id == second
        now = {
            "before its turn": True,
            "at its manifest": mine,
            "at its config": mine and finding.kind == "config",
        }
        if now[when] and not removed:
            removed.append(asyncio.create_task(place.images.delete(second, force=True)))

    await place.images.verify([], tell)
    await removed[0]
    assert all(item.is_good for item in found) and found[0].image_id == first
    assert [image.id for image in place.images.list()] == [first]


async def test_credentials_are_those_of_the_source(
    place: Place, registry: InProcessRegistry, built: Built
) -> None:
    remove(path_of(place, built.layer_digests[1], "layer blob"))
    registry.basic = ("me", "pw")
    found = await verify(place, repair=True, auths={"other.example": Auth("me", "pw")})
    assert [item for item in found if not item.is_good and item.state == "missing"]
    found = await verify(place, repair=True, auths={registry.address: Auth("me", "pw")})
    assert all(item.is_good for item in found)


async def test_shared_things_are_checked_once(
    place: Place, registry: InProcessRegistry, built: Built
) -> None:
    registry.add_image("other", layers=LAYERS)
    await place.images.pull(f"{registry.address}/other", progress=place.tell)
    found = await verify(place)
    assert len(found) == len({item.digest for item in found}) == 8


async def test_an_image_that_is_not_there(place: Place) -> None:
    with pytest.raises(NotFound):
        await verify(place, "nobody")
    assert await verify(place) == []


# on the way: what is read is checked


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, how) for kind in ("manifest", "config") for how in DAMAGES),
        ("layer blob", "shorter"),
        ("layer blob", "missing"),
        ("unpacked layer", "missing"),  # its files are not read by a pull
    ],
)
async def test_a_pull_mends_what_it_sees(
    place: Place, registry: InProcessRegistry, built: Built, kind: str, how: str
) -> None:
    path = path_of(place, digests(built)[kind], kind)
    good = path.read_bytes()
    DAMAGES[how](path)
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    assert path.read_bytes() == good


async def test_a_pull_mends_what_was_found_before(
    place: Place, registry: InProcessRegistry, built: Built
) -> None:
    """A flipped bit costs reading everything to see; who has seen it tells."""
    digest = built.layer_digests[1]
    path = path_of(place, digest, "layer blob")
    good = path.read_bytes()
    flip(path)
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    assert path.read_bytes() != good
    await verify(place)
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    assert path.read_bytes() == good
    assert "Damaged on the disk, fetching it again" in [line.status for line in place.lines]


async def test_a_second_pull_reads_no_layer(place: Place, registry: InProcessRegistry, built: Built) -> None:
    registry.requests.clear()
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    assert registry.requests == [("HEAD", "/v2/app/manifests/latest")]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("kind", ["config", "manifest", "layer blob"])
async def test_a_damaged_image_can_be_removed(
    place: Place, registry: InProcessRegistry, built: Built, kind: str, how: str
) -> None:
    DAMAGES[how](path_of(place, digests(built)[kind], kind))
    await place.restart()
    await place.images.delete(f"{registry.address}/app")
    assert place.files() == [] and place.images._catalog.ids() == []


async def test_reading_a_damaged_config_says_what_to_do(
    place: Place, registry: InProcessRegistry, built: Built
) -> None:
    flip(path_of(place, built.config_digest, "config"))
    await place.restart()
    with pytest.raises(
        Failed, match="has been changed on disk: pull the image again, or run minictl image verify --repair"
    ):
        place.images.get(f"{registry.address}/app")
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    place.images.get(f"{registry.address}/app")


@pytest.mark.parametrize("damage", list(DAMAGES.values()), ids=list(DAMAGES))
async def test_saving_notices(
    place: Place, registry: InProcessRegistry, built: Built, damage: Callable[[Path], None]
) -> None:
    damage(path_of(place, built.layer_digests[1], "layer blob"))
    with pytest.raises(Failed, match=r"verify --repair|is not in the store"):
        async for _ in place.images.save([built.config_digest]):
            pass
    await verify(place, repair=True)
    async for _ in place.images.save([built.config_digest]):
        pass
