"""What a daemon finds at its start after having been killed, and after the machine went down."""

from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import InProcessRegistry, layer_tar


async def test_the_marker_lasts_until_all_is_on_the_disk(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    await place.synced()
    assert not place.marker.exists()
    assert place.images._catalog.unsynced() == ([], [])
    await place.images.delete(f"{registry.address}/app")
    await place.synced()
    assert not place.marker.exists()
    assert place.files() == []


async def test_a_pull_that_changes_nothing_does_not_wait_for_the_disk(
    place: Place, registry: InProcessRegistry
) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    await place.synced()
    place.marker.mkdir()  # nobody could write it now
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    assert place.statuses()[-1].startswith("Status: Image is up to date")


async def killed(place: Place, boot_id: str) -> None:
    """End the service as SIGKILL would: nothing was synced, the marker is of the boot ``boot_id``."""
    await place.synced()
    place.marker.write_text(boot_id)
    connection = place.database.connection
    connection.execute("UPDATE images SET synced = 0")
    connection.execute("UPDATE layers SET synced = 0")
    await place.restart()


def this_boot(place: Place) -> str:
    return place.images._durability._boot_id


async def test_a_killed_daemon_loses_nothing(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("app", layers=[layer_tar("a"), layer_tar("b")])
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    before = place.files()
    await killed(place, this_boot(place))
    await place.images.clean_up()
    assert place.images.get(f"{registry.address}/app").id == built.config_digest
    assert place.files() == before
    await place.synced()
    assert not place.marker.exists()
    assert place.images._catalog.unsynced() == ([], [])


async def test_after_a_power_cut_nothing_unsynced_is_trusted(
    place: Place, registry: InProcessRegistry
) -> None:
    shared = layer_tar("shared")
    registry.add_image("safe", layers=[shared])
    await place.images.pull(f"{registry.address}/safe", progress=place.tell)
    await place.synced()
    safe_files = place.files()
    boot = this_boot(place)
    registry.add_image("lost", layers=[shared, layer_tar("b")])
    lost = await place.images.pull(f"{registry.address}/lost", progress=place.tell)
    await killed(place, "another boot")
    place.database.connection.execute("UPDATE images SET synced = 1 WHERE id <> ?", (lost.id,))
    place.database.connection.execute("UPDATE layers SET synced = 1 WHERE diff_id = ?", (lost.diff_ids[0],))
    (place.root / "blobs/partial/0123").write_bytes(b"half")
    (place.layers.root / ("sha256:" + "1" * 64)).write_bytes(b"a layer without a row")

    await place.images.clean_up()
    assert place.images.find(lost.id) is None
    assert place.images.get(f"{registry.address}/safe").tags
    assert place.files() == safe_files
    await place.synced()
    assert not place.marker.exists()
    assert boot == this_boot(place)


async def test_a_removal_that_came_back_is_completed(place: Place, registry: InProcessRegistry) -> None:
    """After a power cut, the rows of a removed image may be back without its files."""
    registry.add_image("app", layers=[layer_tar("a")])
    image = await place.images.pull(f"{registry.address}/app", progress=place.tell)
    await place.synced()
    place.images._content.remove(image.id)
    place.marker.write_text("another boot")
    await place.restart()
    await place.images.clean_up()
    assert place.images.find(image.id) is None
    await place.images.sweep()
    assert place.files() == []


async def test_a_whole_layer_without_a_row_is_adopted(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("app", layers=[layer_tar("a")])
    (place.layers.root / built.diff_ids[0]).write_bytes(layer_tar("a"))
    await place.images.clean_up()
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    assert place.statuses(built.layer_digests[0][7:19]) == ["Already exists"]
