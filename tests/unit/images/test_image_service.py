"""Looking up, listing, tagging and deleting images that were pulled from a registry in the same process."""

import hashlib

import pytest

from minid.errors import Conflict, InvalidParameter, NotFound
from minid.images.deletion import chain_ids
from minid.images.filters import pattern_to_regex
from minid.images.model import Deleted, Image
from minid.images.timestamps import moment, nanoseconds
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import InProcessRegistry, layer_tar


async def pulled(
    place: Place, registry: InProcessRegistry, name: str, *layers: str, created: str = ""
) -> Image:
    def change(manifest: dict[str, object], config: dict[str, object]) -> None:
        if created:
            config["created"] = created

    registry.add_image(name, layers=[layer_tar(seed) for seed in layers], change=change)
    return await place.images.pull(f"{registry.address}/{name}", progress=place.tell)


def deleted(items: list[Deleted]) -> list[str]:
    return [f"-{item.untagged}" if item.untagged else f"!{item.deleted}" for item in items]


async def test_the_ways_to_name_an_image(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "org/app", "a")
    name = f"{registry.address}/org/app"
    encoded = image.id.removeprefix("sha256:")
    for text in (
        name,
        f"{name}:latest",
        f"{name}@{image.manifest_digest}",
        f"{name}:ignored@{image.manifest_digest}",
        image.id,
        encoded,
        encoded[:12],
        f"sha256:{encoded[:5]}",
        image.manifest_digest,
    ):
        assert place.images.get(text).id == image.id, text
    for text in ("nothing", f"{name}:other", "0" * 64, "sha256:" + "0" * 64, f"{name}@sha256:{'0' * 64}"):
        assert place.images.find(text) is None
        with pytest.raises(NotFound, match="No such image: "):
            place.images.get(text)
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        place.images.get("nothing")
    with pytest.raises(InvalidParameter):
        place.images.get("No/Such Name")
    assert place.images.find("No/Such Name") is None


async def test_an_ambiguous_id(place: Place, registry: InProcessRegistry) -> None:
    """Seventeen images have two that begin with the same digit."""
    firsts: dict[str, str] = {}
    for number in range(17):
        image = await pulled(place, registry, f"n{number}", created=f"2024-01-01T00:00:{number:02}Z")
        digit = image.id[7]
        if digit in firsts:
            with pytest.raises(Conflict, match="more than one image"):
                place.images.get(f"sha256:{digit}")
            return
        firsts[digit] = image.id
    pytest.fail("there are sixteen digits")


async def test_tagging(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a")
    place.images.tag(image.id, "mine")
    place.images.tag("mine", "localhost/other:1.0")
    assert set(place.images.get("mine").tags) == {
        f"{registry.address}/app:latest",
        "mine:latest",
        "localhost/other:1.0",
    }
    other = await pulled(place, registry, "app2", "b")
    place.images.tag(other.id, "mine")
    assert place.images.get("mine").id == other.id
    for bad, error in (
        ("Bad", InvalidParameter),
        ("x@sha256:" + "0" * 64, InvalidParameter),
        ("scratch", InvalidParameter),
    ):
        with pytest.raises(error):
            place.images.tag("mine", bad)
    with pytest.raises(NotFound):
        place.images.tag("nothing", "x")


async def test_history(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a", "b")
    last, second, first = place.images.history(image)
    assert (last.id, last.size_bytes, last.comment, last.tags) == (image.id, 0, "the end", image.tags)
    assert (first.id, first.created_by, first.size_bytes) == ("<missing>", "layer 0", len(layer_tar("a")))
    assert second.size_bytes == len(layer_tar("b"))


async def test_deleting_by_name_and_by_id(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a", "b")
    name = f"{registry.address}/app"
    place.images.tag(name, "second:1")
    assert deleted(await place.images.delete("second:1")) == ["-second:1"]
    place.images.tag(name, "second:1")
    with pytest.raises(
        Conflict,
        match=rf"unable to delete {image.id[7:19]} \(must be forced\) - image is referenced in multiple repositories",
    ):
        await place.images.delete(image.id)
    result = deleted(await place.images.delete(image.id, force=True))
    lower, upper = chain_ids(image.diff_ids)
    assert result == [
        f"-{name}:latest",
        f"-{name}@{image.manifest_digest}",
        "-second:1",
        f"!{image.id}",
        f"!{upper}",
        f"!{lower}",
    ]
    assert place.files() == []
    assert (
        upper == "sha256:" + hashlib.sha256(f"{image.diff_ids[0]} {image.diff_ids[1]}".encode()).hexdigest()
    )
    with pytest.raises(NotFound):
        await place.images.delete(image.id)


async def test_the_last_name_takes_the_image_with_it(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a")
    name = f"{registry.address}/app"
    result = deleted(await place.images.delete(name))
    assert result == [
        f"-{name}:latest",
        f"-{name}@{image.manifest_digest}",
        f"!{image.id}",
        f"!{image.diff_ids[0]}",
    ]
    actions = [event.action for event in place.events.history(lambda event: True)]
    assert actions == ["pull", "untag", "delete"]


async def test_shared_layers_outlive_one_of_their_images(place: Place, registry: InProcessRegistry) -> None:
    await pulled(place, registry, "one", "shared", "x")
    two = await pulled(place, registry, "two", "shared", "y")
    await place.images.delete(f"{registry.address}/one")
    assert all(place.layers.has(diff_id) for diff_id in two.diff_ids)
    assert place.images.get(two.id).size_bytes == len(layer_tar("shared")) + len(layer_tar("y"))
    await place.images.delete(f"{registry.address}/two")
    assert place.files() == []


async def test_images_in_use(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a")
    name = f"{registry.address}/app"
    running: set[str] = set()
    place.images.in_use = lambda image_id: ["c" * 64] if image_id == image.id else []
    place.images.is_running = lambda container_id: container_id in running
    short = image.id[7:19]
    with pytest.raises(
        Conflict,
        match=rf'unable to remove repository reference "{name}" \(must force\) - container c{{12}} is using its referenced image {short}',
    ):
        await place.images.delete(name)
    with pytest.raises(
        Conflict,
        match=rf"unable to delete {short} \(must be forced\) - image is being used by stopped container c{{12}}",
    ):
        await place.images.delete(image.id)
    running.add("c" * 64)
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image is being used by running container"):
        await place.images.delete(image.id, force=True)

    assert deleted(await place.images.delete(name, force=True)) == [
        f"-{name}:latest",
        f"-{name}@{image.manifest_digest}",
    ]
    assert place.images.get(image.id).tags == ()

    running.clear()
    place.images.held_layers = lambda: image.diff_ids
    assert deleted(await place.images.delete(image.id, force=True)) == [f"!{image.id}"]
    assert place.layers.has(image.diff_ids[0])  # a stopped container stands on it
    place.images.held_layers = lambda: ()
    assert await place.images.sweep() > 0
    assert place.files() == []


async def test_layers_are_kept_while_somebody_holds_them(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a")
    with place.images.hold(image):
        await place.images.delete(image.id, force=True)
        assert place.layers.has(image.diff_ids[0])
    await place.images.sweep()
    assert not place.layers.has(image.diff_ids[0])


async def test_listing(place: Place, registry: InProcessRegistry) -> None:
    old = await pulled(place, registry, "old", "a", created="2020-01-01T00:00:00Z")
    new = await pulled(place, registry, "new", "b", created="2024-01-01T00:00:00.5+02:00")
    dangling = await pulled(place, registry, "gone", "c", created="2022-01-01T00:00:00Z")
    place.images._catalog.unname(place.images._catalog.names(dangling.id)[0])
    place.images._catalog.unname(place.images._catalog.names(dangling.id)[0])

    def listed(**filters: str) -> list[str]:
        return [
            image.id for image in place.images.list(filters={key: (value,) for key, value in filters.items()})
        ]

    assert listed() == [new.id, dangling.id, old.id]
    assert listed(dangling="true") == [dangling.id]
    assert listed(dangling="0") == [new.id, old.id]
    assert listed(before=new.id) == [dangling.id, old.id]
    assert listed(since=old.id) == [new.id, dangling.id]
    assert listed(until="2021-01-01T00:00:00Z") == [old.id]
    assert listed(label="name=old") == [old.id]
    assert listed(label="name") == [new.id, dangling.id, old.id]
    assert listed(label="other") == []
    assert listed(reference=f"{registry.address}/o*") == [old.id]
    assert listed(reference="*") == []
    for wrong in ({"dangling": "maybe"}, {"colour": "red"}, {"reference": "["}, {"until": "tomorrow"}):
        with pytest.raises(InvalidParameter):
            listed(**wrong)
    with pytest.raises(NotFound):
        listed(before="nothing")


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("busy*", "busybox", True),
        ("busy*", "busybox/x", False),
        ("*/*", "a/b", True),
        ("b?sybox", "busybox", True),
        ("[a-c]usybox", "busybox", True),
        ("[^a-c]usybox", "busybox", False),
        (r"a\*", "a*", True),
        ("a.b", "axb", False),
    ],
)
def test_patterns_are_those_of_path_match(pattern: str, text: str, matches: bool) -> None:
    assert bool(pattern_to_regex(pattern).fullmatch(text)) is matches


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("0001-01-01T00:00:00Z", -62135596800 * 10**9),
        ("2024-02-30T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert nanoseconds(text) == expected


def test_moments() -> None:
    assert moment("1700000000.5") == 1700000000500000000
    assert moment("1h30m", now_ns=10**13) == 10**13 - 5400 * 10**9
    assert moment("1.5s", now_ns=10**10) == 8_500_000_000
    assert moment("2024-01-01") == nanoseconds("2024-01-01T00:00:00Z")


async def test_everything_is_still_there_after_a_restart(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a")
    await place.restart()
    await place.images.clean_up()
    assert place.images.get(f"{registry.address}/app") == image
