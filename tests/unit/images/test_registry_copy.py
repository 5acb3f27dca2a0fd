"""Copies from one registry to another through a daemon: what is asked and sent, and what happens when either misbehaves."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import pytest

from minid.errors import InvalidParameter, MinidError, NotFound, Unauthorized
from minid.images.copies import ImageCopies
from minid.images.service import Auth
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import Built, InProcessRegistry, layer_tar
from tests.unit.images.uploading_registry import UploadingRegistry

BIG = 3_000_000


@pytest.fixture
async def source() -> AsyncIterator[InProcessRegistry]:
    async with InProcessRegistry() as server:
        yield server


@pytest.fixture
async def target() -> AsyncIterator[UploadingRegistry]:
    async with UploadingRegistry() as server:
        yield server


def image(source: InProcessRegistry) -> Built:
    return source.add_image("app", layers=[layer_tar("small"), layer_tar("big", BIG)], compression="none")


async def copied(
    place: Place, source: InProcessRegistry, target: UploadingRegistry, to: str = "copy:1", **more: Auth
) -> None:
    copies: ImageCopies = place.images.copies
    await copies.to_registry(
        f"registry://{source.address}/app",
        f"registry://{target.address}/{to}",
        source_auth=more.get("source_auth"),
        auth=more.get("auth"),
        progress=place.tell,
    )


def arrived(target: UploadingRegistry, built: Built, repository: str = "copy") -> None:
    assert target.manifests[repository, "1"][0] == target.manifests[repository, built.manifest_digest][0]
    for digest in (*built.layer_digests, built.config_digest):
        assert (repository, digest) in target.held


async def test_everything_once_and_nothing_stays(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    await copied(place, source, target)
    arrived(target, built)
    assert target.manifests["copy", "1"] == source.manifests["app", "latest"]
    assert place.files() == [] and place.images.list() == []
    assert place.statuses()[0] == f"Copying {source.address}/app:latest to {target.address}/copy"
    assert place.statuses()[-2].startswith("Copied 3 of 3 blobs, ")
    assert [
        (event.action, event.attributes["source"]) for event in place.events.history(lambda event: True)
    ] == [("push", f"registry://{source.address}/app")]

    target.requests.clear()
    source.requests.clear()
    await copied(place, source, target)
    assert [method for method, _ in target.requests] == ["HEAD"] * 3 + ["PUT"]
    assert not any("/blobs/" in path for _, path in source.requests)


async def test_a_source_that_breaks_off(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    source.cuts[built.layer_digests[1]] = [1_000_000, 500_000]
    await copied(place, source, target)
    arrived(target, built)
    assert "bytes=" in " ".join(headers.get("Range", "") for headers in source.headers)


async def test_a_target_that_breaks_off(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    target.upload_cuts = [1_000_000, 500_000]
    await copied(place, source, target)
    arrived(target, built)


async def test_a_target_that_forgets(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    target.upload_cuts, target.forgetful = [1_000_000], True
    await copied(place, source, target)
    arrived(target, built)


async def test_a_source_without_ranges(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    source.ranges = False
    target.upload_cuts = [1_000_000]
    await copied(place, source, target)
    arrived(target, built)


@pytest.mark.parametrize("which", ["blob", "truncated", "gone"])
async def test_a_source_with_other_bytes(
    place: Place, source: InProcessRegistry, target: UploadingRegistry, which: str
) -> None:
    """The registry never gets a whole blob of them, nor a manifest that names one."""
    built = image(source)
    digest = built.layer_digests[1]
    if which == "blob":
        source.blobs[digest] = source.blobs[digest][:-1] + b"?"
    elif which == "truncated":
        source.blobs[digest] = source.blobs[digest][:-1000]
    else:
        del source.blobs[digest]
    with pytest.raises(MinidError) as raised:
        await copied(place, source, target)
    assert {"blob": "another content", "truncated": "truncated", "gone": "does not have"}[which] in str(
        raised.value
    )
    assert ("copy", digest) not in target.held
    assert target.manifests == {}
    assert target.wrong_digests == 0


async def test_each_registry_sees_its_own_credentials(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    source.basic, target.basic = ("reader", "one"), ("writer", "two")
    with pytest.raises((Unauthorized, NotFound)):
        await copied(place, source, target, auth=Auth(username="writer", password="two"))
    await copied(
        place,
        source,
        target,
        source_auth=Auth(username="reader", password="one"),
        auth=Auth(username="writer", password="two"),
    )
    arrived(target, built)
    for registry, other in ((source, b"writer:two"), (target, b"reader:one")):
        sent = {headers.get("Authorization", "") for headers in registry.headers}
        assert f"Basic {base64.b64encode(other).decode()}" not in sent


async def test_a_copy_that_is_cancelled_leaves_nothing(
    place: Place, source: InProcessRegistry, target: UploadingRegistry
) -> None:
    built = image(source)
    source.stall[built.layer_digests[1]] = 1_000_000
    copying = asyncio.create_task(copied(place, source, target))
    await asyncio.wait_for(source.stalled.wait(), 10)
    copying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await copying
    assert target.manifests == {} and place.files() == []


@pytest.mark.parametrize(
    ("given", "to"),
    [("app", "copy:1"), ("registry://x/app", "not-a-registry:1"), ("registry://x/app", "registry://No Name")],
)
async def test_what_cannot_be(place: Place, given: str, to: str) -> None:
    with pytest.raises((InvalidParameter, NotFound)):
        target = to if "registry" in to else f"registry://127.0.0.1:1/{to}"
        await place.images.copies.to_registry(given, target, source_auth=None, auth=None, progress=place.tell)
