"""Collections in a real database and blob store: what stays for whom, when images were used, pulls in progress."""

import asyncio
import time
from collections.abc import Callable

from minid.images.gc import HELD, GcReport, Schedule
from minid.images.gc_plan import NS, Policy
from minid.images.model import Image
from minid.images.reference import parse
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import InProcessRegistry, layer_tar

HOUR_S = 3600
EVERYTHING = Policy(max_age_s=0, tagged=True)


async def pulled(
    place: Place, registry: InProcessRegistry, name: str, *layers: str, untag: bool = True, hours: float = 0
) -> Image:
    """``hours`` ago, and without its names unless said otherwise."""
    registry.add_image(name, layers=[layer_tar(seed) for seed in layers])
    image = await place.images.pull(f"{registry.address}/{name}", progress=place.tell)
    if untag:
        place.images._catalog.unname(parse(f"{registry.address}/{name}:latest"))
    if hours:
        used_ns = time.time_ns() - int(hours * HOUR_S * NS)
        place.images._uses._latest[image.id] = place.images._uses._written[image.id] = used_ns
    return image


async def until(condition: Callable[[], bool]) -> None:
    """For states that nothing announces."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never happened")


def by_id(report: GcReport) -> dict[str, str]:
    return {verdict.thing.id: verdict.reason for verdict in report.kept}


async def test_old_images_go_and_the_rest_says_why_it_stays(
    place: Place, registry: InProcessRegistry
) -> None:
    old = await pulled(place, registry, "old", "a", "shared", hours=50)
    new = await pulled(place, registry, "new", "b", "shared", hours=5)
    tagged = await pulled(place, registry, "tagged", "c", untag=False, hours=50)
    used = await pulled(place, registry, "used", "d", hours=50)
    place.images.in_use = lambda image_id: ["0123456789abcdef"] if image_id == used.id else []
    before = place.files()

    dry = await place.images.collect(Policy(max_age_s=24 * HOUR_S), dry_run=True)
    assert dry.dry_run and place.files() == before
    assert [verdict.thing.id for verdict in dry.collected] == [old.id]
    assert by_id(dry) == {
        new.id: "used 5 hours ago, within the limits",
        tagged.id: f"has the tag {registry.address}/tagged:latest",
        used.id: "container 0123456789ab uses it",
    }
    sizes = [path.stat().st_size for path in place.root.glob("blobs/sha256/*")]
    assert dry.total_bytes == sum(sizes) + sum(
        place.layers.get(item).size_bytes for item in place.layers.all()
    )

    done = await place.images.collect(Policy(max_age_s=24 * HOUR_S))
    assert [verdict.thing.id for verdict in done.collected] == [old.id]
    assert done.freed_bytes == dry.freed_bytes > 0
    assert place.images.find(old.id) is None
    assert place.layers.has(new.diff_ids[1]) and not place.layers.has(old.diff_ids[0])
    events = [
        event for event in place.events.history(lambda event: event.type == "image") if event.action != "pull"
    ]
    assert [event.action for event in events] == ["untag", "delete", "prune"]
    assert events[-1].attributes == {"reclaimed": str(done.freed_bytes), "images": "1", "by": "gc"}

    place.images.in_use = lambda image_id: []
    await place.images.collect(EVERYTHING)
    assert place.files() == []


async def test_a_container_counts_as_use_until_it_is_gone(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a", hours=1000)
    place.images.in_use = lambda image_id: ["c"]
    place.images.note_uses()
    place.images.in_use = lambda image_id: []
    report = await place.images.collect(Policy(max_age_s=HOUR_S))
    assert by_id(report) == {image.id: "used 0 seconds ago, within the limits"}


async def test_uses_are_remembered(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a", hours=1000)
    with place.images.hold(place.images.get(image.id)):  # a container is being made
        report = await place.images.collect(EVERYTHING)
        assert by_id(report) == {image.id: HELD}
    used_ns = place.images._uses.last_ns(image.id)
    assert time.time_ns() - used_ns < 60 * NS
    writes = place.database.connection.total_changes
    for _ in range(100):
        place.images._uses.touch([image.id])
    assert place.database.connection.total_changes == writes  # in memory
    latest = place.images._uses.last_ns(image.id)
    await place.restart()
    assert place.images._uses.last_ns(image.id) == latest  # written when the daemon stopped


async def test_a_pull_in_progress_loses_nothing(place: Place, registry: InProcessRegistry) -> None:
    """Its finished layer, its unfinished blob, and the layer that it has found here: all of them of no image."""
    shared = await pulled(place, registry, "other", "shared", hours=1000)
    big = 200_000
    built = registry.add_image(
        "app", layers=[layer_tar("shared"), layer_tar("quick"), layer_tar("slow", big)], compression="none"
    )
    registry.stall[built.layer_digests[2]] = big // 2
    pull = asyncio.create_task(place.images.pull(f"{registry.address}/app", progress=place.tell))
    await asyncio.wait_for(registry.stalled.wait(), 10)
    await until(lambda: place.images._catalog.has_layer(built.diff_ids[1]))

    report = await place.images.collect(EVERYTHING)
    assert [verdict.thing.id for verdict in report.collected] == [shared.id]
    assert place.layers.has(built.diff_ids[0]) and place.layers.has(built.diff_ids[1])
    assert {verdict.reason for verdict in report.kept} == {HELD}
    assert {verdict.thing.kind for verdict in report.kept} == {"layer", "blob", "partial"}

    registry.released.set()
    image = await asyncio.wait_for(pull, 10)
    assert image.diff_ids == tuple(built.diff_ids)
    assert registry.count("GET", built.layer_digests[0]) == 0


async def test_what_an_interrupted_pull_has_left_goes_by_age(
    place: Place, registry: InProcessRegistry
) -> None:
    big = 200_000
    built = registry.add_image("app", layers=[layer_tar("quick"), layer_tar("slow", big)], compression="none")
    registry.stall[built.layer_digests[1]] = big // 2
    pull = asyncio.create_task(place.images.pull(f"{registry.address}/app", progress=place.tell))
    await asyncio.wait_for(registry.stalled.wait(), 10)
    await until(lambda: place.images._catalog.has_layer(built.diff_ids[0]))
    pull.cancel()
    await asyncio.wait([pull])
    assert len(place.files()) >= 3

    young = await place.images.collect(Policy(max_age_s=HOUR_S))
    assert young.collected == () and {verdict.thing.kind for verdict in young.kept} == {
        "layer",
        "blob",
        "partial",
    }
    done = await place.images.collect(Policy(max_age_s=0))
    assert {verdict.thing.kind for verdict in done.collected} == {"layer", "blob", "partial"}
    assert place.files() == []


async def test_what_is_used_between_the_plan_and_its_turn_stays(
    place: Place, registry: InProcessRegistry
) -> None:
    first = await pulled(place, registry, "first", "a", hours=30)
    second = await pulled(place, registry, "second", "b", hours=20)
    third = await pulled(place, registry, "third", "c", hours=10)
    removing = asyncio.Event()
    remove = place.layers.remove

    async def slowly(diff_id: str) -> None:
        removing.set()
        await asyncio.sleep(0.05)
        await remove(diff_id)

    place.layers.remove = slowly  # type: ignore[method-assign]
    collecting = asyncio.create_task(place.images.collect(EVERYTHING))
    await removing.wait()
    with place.images.hold(place.images.get(second.id)):
        place.images.tag(third.id, "kept:1")
        place.images._uses.touch([third.id])
        report = await collecting
    assert [verdict.thing.id for verdict in report.collected] == [first.id]
    assert by_id(report) == {second.id: HELD, third.id: "has been used meanwhile"}
    assert all(place.layers.has(image.diff_ids[0]) for image in (second, third))


async def test_by_schedule_and_changed_while_it_waits(place: Place, registry: InProcessRegistry) -> None:
    image = await pulled(place, registry, "app", "a", hours=30)
    running = asyncio.create_task(place.images.collect_by_schedule())
    place.images.schedule_collection(Schedule(Policy(max_age_s=HOUR_S), 1000.0))
    await asyncio.sleep(0.05)
    assert place.images.find(image.id)
    place.images.schedule_collection(Schedule(Policy(max_age_s=HOUR_S), 0.05))
    await until(lambda: place.images.find(image.id) is None)
    running.cancel()
    await asyncio.wait([running])
