"""Pulling from a registry that can be told to misbehave, into a real database and blob store."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from minid.errors import (
    Failed,
    InvalidParameter,
    MinidError,
    NotFound,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from minid.images.model import Progress
from minid.images.registry.authorizer import Auth
from minid.images.registry.transport import Transient
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import OCI, InProcessRegistry, TokenServer, digest_of, layer_tar

BIG = 3_000_000


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_pull_in_dockers_words(place: Place, registry: InProcessRegistry, compression: str) -> None:
    built = registry.add_image(
        "org/app", "1.0", layers=[layer_tar("a"), layer_tar("b", BIG)], compression=compression
    )
    name = f"{registry.address}/org/app"
    image = await place.images.pull(name, tag="1.0", progress=place.tell)

    assert image.id == built.config_digest
    assert image.manifest_digest == built.manifest_digest
    assert image.tags == (f"{name}:1.0",)
    assert image.digests == (f"{name}@{built.manifest_digest}",)
    assert image.diff_ids == tuple(built.diff_ids)
    assert image.size_bytes == len(layer_tar("a")) + len(layer_tar("b", BIG))
    assert image.config["config"]["Cmd"] == ["sh"]
    assert image.last_tagged_ns > 0

    assert place.statuses("1.0") == ["Pulling from org/app"]
    assert place.statuses() == [
        f"Digest: {built.manifest_digest}",
        f"Status: Downloaded newer image for {name}:1.0",
    ]
    for digest in built.layer_digests:
        statuses = place.statuses(digest[7:19])
        assert statuses[0] == "Pulling fs layer"
        assert [status for status in statuses if status != "Downloading"] == [
            "Pulling fs layer",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]
    blobs = [built.manifest_digest, built.config_digest, *built.layer_digests]
    assert place.files() == sorted(
        [f"blobs/sha256/{digest[7:]}" for digest in blobs]
        + [f"snapshots/{diff_id}" for diff_id in built.diff_ids]
    )
    assert [event.action for event in place.events.history(lambda event: event.type == "image")] == ["pull"]


async def test_nothing_is_downloaded_twice(place: Place, registry: InProcessRegistry) -> None:
    shared = layer_tar("shared")
    first = registry.add_image("one", layers=[shared, layer_tar("x")])
    second = registry.add_image("two", layers=[shared, layer_tar("y")])
    await place.images.pull(f"{registry.address}/one", progress=place.tell)
    place.lines.clear()
    await place.images.pull(f"{registry.address}/two", progress=place.tell)
    assert place.statuses(second.layer_digests[0][7:19]) == ["Already exists"]
    assert registry.count("GET", first.layer_digests[0]) == 1

    registry.requests.clear()
    place.lines.clear()
    await place.images.pull(f"{registry.address}/one", progress=place.tell)
    assert place.statuses()[-1] == f"Status: Image is up to date for {registry.address}/one:latest"
    assert [method for method, _ in registry.requests] == ["HEAD"]


async def test_a_tag_that_moves_leaves_the_old_image_without_its_name(
    place: Place, registry: InProcessRegistry
) -> None:
    name = f"{registry.address}/app"
    registry.add_image("app", layers=[layer_tar("old")])
    old = await place.images.pull(name, progress=place.tell)
    registry.add_image("app", layers=[layer_tar("new")])
    new = await place.images.pull(name, progress=place.tell)
    assert place.images.get(name).id == new.id != old.id
    assert place.images.get(old.id).tags == ()
    assert place.statuses()[-1].startswith("Status: Downloaded newer image")


async def test_the_platform_is_chosen_from_an_index(place: Place, registry: InProcessRegistry) -> None:
    entries = []
    built = {}
    for architecture in ("amd64", "arm64"):
        built[architecture] = registry.add_image(
            "multi", "", layers=[layer_tar(architecture)], architecture=architecture
        )
        data, media_type = registry.manifests["multi", built[architecture].manifest_digest]
        entries.append(
            {
                "mediaType": media_type,
                "digest": digest_of(data),
                "size": len(data),
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    index = registry.add_manifest(
        "multi",
        "latest",
        {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries},
        f"{OCI}.index.v1+json",
    )
    name = f"{registry.address}/multi"
    image = await place.images.pull(name, progress=place.tell)
    assert image.id == built["amd64"].config_digest
    assert image.manifest_digest == built["amd64"].manifest_digest
    assert image.digests == (f"{name}@{index}",)
    assert place.statuses()[0] == f"Digest: {index}"

    other = await place.images.pull(name, platform="linux/arm64/v8", progress=place.tell)
    assert other.id == built["arm64"].config_digest
    assert place.images.get(name).id == other.id

    with pytest.raises(NotFound, match=r"no matching manifest for linux/s390x .*linux/amd64, linux/arm64"):
        await place.images.pull(name, platform="linux/s390x", progress=place.tell)
    by_digest = await place.images.pull(name, tag=index, progress=place.tell)
    assert by_digest.id == image.id


async def test_a_single_manifest_of_another_platform(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("arm", layers=[layer_tar("a")], architecture="arm64")
    with pytest.raises(NotFound, match="does not provide the specified platform"):
        await place.images.pull(f"{registry.address}/arm", platform="linux/amd64", progress=place.tell)
    assert await place.images.pull(f"{registry.address}/arm", progress=place.tell)


async def test_all_tags(place: Place, registry: InProcessRegistry) -> None:
    for tag in ("1", "2", "3", "4", "5"):
        registry.add_image("app", tag, layers=[layer_tar(tag)])
    await place.images.pull(f"{registry.address}/app", all_tags=True, progress=place.tell)
    assert len(place.images.list()) == 5


# failures of the image


def spoil_layer_bytes(registry: InProcessRegistry, digest: str) -> None:
    data = bytearray(registry.blobs[digest])
    data[len(data) // 2] ^= 1
    registry.blobs[digest] = bytes(data)


async def assert_no_trace(place: Place, name: str) -> None:
    assert place.images.find(name) is None
    assert place.files() == []
    assert place.database.connection.execute("SELECT count(*) FROM layers").fetchone()[0] == 0


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_a_wrong_digest_leaves_no_trace(
    place: Place, registry: InProcessRegistry, compression: str
) -> None:
    built = registry.add_image("bad", layers=[layer_tar("a"), layer_tar("b", BIG)], compression=compression)
    spoil_layer_bytes(registry, built.layer_digests[1])
    with pytest.raises(Failed, match=f"blob {built.layer_digests[1]} was received with another content"):
        await place.images.pull(f"{registry.address}/bad", progress=place.tell)
    await assert_no_trace(place, f"{registry.address}/bad")


async def test_garbage_behind_a_good_layer_leaves_no_trace(place: Place, registry: InProcessRegistry) -> None:
    """The unpacker may be content with such a stream: the digest of the whole still decides."""

    def spoil(manifest: dict[str, Any], config: dict[str, Any]) -> None:
        digest, size = manifest["layers"][0]["digest"], manifest["layers"][0]["size"]
        registry.blobs[digest] += b"garbage"
        manifest["layers"][0]["size"] = size + len(b"garbage")

    registry.add_image("bad", layers=[layer_tar("a", BIG)], change=spoil)
    with pytest.raises(Failed, match="received with another content"):
        await place.images.pull(f"{registry.address}/bad", progress=place.tell)
    await assert_no_trace(place, f"{registry.address}/bad")


async def test_a_wrong_diff_id_leaves_no_trace(place: Place, registry: InProcessRegistry) -> None:
    def spoil(manifest: dict[str, Any], config: dict[str, Any]) -> None:
        config["rootfs"]["diff_ids"][1] = "sha256:" + "0" * 64

    registry.add_image("bad", layers=[layer_tar("a"), layer_tar("b")], change=spoil)
    with pytest.raises(Failed, match="the layer is not sha256:000"):
        await place.images.pull(f"{registry.address}/bad", progress=place.tell)
    await assert_no_trace(place, f"{registry.address}/bad")


async def test_a_truncated_layer_leaves_no_trace(place: Place, registry: InProcessRegistry) -> None:
    def spoil(manifest: dict[str, Any], config: dict[str, Any]) -> None:
        registry.blobs[manifest["layers"][0]["digest"]] = registry.blobs[manifest["layers"][0]["digest"]][
            :-100
        ]

    for chunked in (False, True):
        registry.chunked = chunked
        registry.add_image("bad", layers=[layer_tar("a", BIG)], change=spoil)
        with pytest.raises(Failed, match="truncated"):
            await place.images.pull(f"{registry.address}/bad", progress=place.tell)
        await assert_no_trace(place, f"{registry.address}/bad")


async def test_a_failed_pull_takes_nothing_from_other_images(
    place: Place, registry: InProcessRegistry
) -> None:
    shared = layer_tar("shared")
    registry.add_image("good", layers=[shared])
    good = await place.images.pull(f"{registry.address}/good", progress=place.tell)
    before = place.files()
    built = registry.add_image("bad", layers=[shared, layer_tar("b")])
    spoil_layer_bytes(registry, built.layer_digests[1])
    with pytest.raises(Failed):
        await place.images.pull(f"{registry.address}/bad", progress=place.tell)
    assert place.files() == before
    assert place.images.get(good.id).size_bytes == len(shared)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m, c: c["rootfs"]["diff_ids"].pop(), InvalidParameter, "1 layers and its config 0 diff IDs"),
        (lambda m, c: m["layers"][0].update(mediaType="x/y"), Unsupported, "no layer"),
        (lambda m, c: m.update(schemaVersion=1), Unsupported, "schema 1"),
        (lambda m, c: m["config"].update(mediaType="application/x"), Unsupported, "not a container image"),
        (lambda m, c: c.update(rootfs={}), InvalidParameter, "rootfs.type is None"),
    ],
)
async def test_broken_images_leave_no_trace(
    place: Place, registry: InProcessRegistry, change: Any, error: type[MinidError], message: str
) -> None:
    registry.add_image("bad", layers=[layer_tar("a")], change=change)
    with pytest.raises(error, match=message):
        await place.images.pull(f"{registry.address}/bad", progress=place.tell)
    await assert_no_trace(place, f"{registry.address}/bad")


async def test_a_manifest_with_a_wrong_digest(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("bad", layers=[layer_tar("a")])
    data, media_type = registry.manifests["bad", built.manifest_digest]
    registry.manifests["bad", built.manifest_digest] = (data + b" ", media_type)
    with pytest.raises(Failed, match="has the digest"):
        await place.images.pull(f"{registry.address}/bad", tag=built.manifest_digest, progress=place.tell)


async def test_missing_things_are_named(place: Place, registry: InProcessRegistry) -> None:
    name = f"{registry.address}/nothing"
    with pytest.raises(NotFound, match=f"manifest for {name}:latest not found: manifest unknown"):
        await place.images.pull(name, progress=place.tell)
    built = registry.add_image("app", layers=[layer_tar("a")])
    del registry.blobs[built.layer_digests[0]]
    with pytest.raises(NotFound, match="blob unknown"):
        await place.images.pull(f"{registry.address}/app", progress=place.tell)
    for bad in ("Bad/Name:x", "scratch", "a b"):
        with pytest.raises(InvalidParameter):
            await place.images.pull(bad, progress=place.tell)


# failures of the network


async def test_cut_connections_are_resumed_by_range(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("cut", layers=[layer_tar("a", BIG)])
    digest = built.layer_digests[0]
    registry.cuts[digest] = [1_000_000, 500_000, 0]
    await place.images.pull(f"{registry.address}/cut", progress=place.tell)
    ranges = [headers.get("Range") for headers in registry.headers]
    assert registry.count("GET", digest) == 4
    assert next(text for text in ranges if text).startswith("bytes=")
    assert "Retrying in 0 seconds" in place.statuses(digest[7:19])
    assert place.layers.unpacked == built.diff_ids


async def test_a_registry_without_ranges_begins_anew(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("cut", layers=[layer_tar("a", BIG)])
    registry.ranges = False
    registry.cuts[built.layer_digests[0]] = [1_000_000, 2_000_000]
    image = await place.images.pull(f"{registry.address}/cut", progress=place.tell)
    assert image.size_bytes == len(layer_tar("a", BIG))


async def test_what_arrived_is_used_by_the_next_pull(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("cut", layers=[layer_tar("small"), layer_tar("a", BIG)])
    digest = built.layer_digests[1]
    registry.cuts[digest] = [2_000_000] + [0] * 10
    with pytest.raises(Transient, match=r"closed too early|connection failed"):
        await place.images.pull(f"{registry.address}/cut", progress=place.tell)
    assert place.images.find(f"{registry.address}/cut") is None
    partial = place.root / "blobs/partial" / digest[7:]
    kept = partial.stat().st_size
    assert kept > 0

    registry.cuts.clear()
    registry.headers.clear()
    await place.restart()
    await place.images.clean_up()
    place.lines.clear()
    await place.images.pull(f"{registry.address}/cut", progress=place.tell)
    assert f"bytes={kept}-" in [headers.get("Range") for headers in registry.headers]
    assert place.statuses(built.layer_digests[0][7:19]) == ["Already exists"]
    assert not partial.exists()


async def test_a_damaged_partial_is_noticed_and_thrown_away(
    place: Place, registry: InProcessRegistry
) -> None:
    built = registry.add_image("cut", layers=[layer_tar("a", BIG)])
    partial = place.root / "blobs/partial" / built.layer_digests[0][7:]
    partial.write_bytes(b"x" * 1000)
    image = await place.images.pull(f"{registry.address}/cut", progress=place.tell)
    assert image.diff_ids == tuple(built.diff_ids)
    assert "bytes=1000-" in [headers.get("Range") for headers in registry.headers]
    assert registry.count("GET", built.layer_digests[0]) == 2


async def test_a_blob_without_its_layer_is_unpacked_again(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("app", layers=[layer_tar("a")])
    name = f"{registry.address}/app"
    await place.images.pull(name, progress=place.tell)
    await place.layers.remove(built.diff_ids[0])
    await place.images.pull(name, progress=place.tell)
    assert registry.count("GET", built.layer_digests[0]) == 1

    await place.layers.remove(built.diff_ids[0])
    place.images._content.path(built.layer_digests[0]).write_bytes(b"damaged on disk")
    await place.images.pull(name, progress=place.tell)
    assert registry.count("GET", built.layer_digests[0]) == 2
    assert place.layers.has(built.diff_ids[0])


async def test_a_client_that_goes_away_stops_the_pull_and_the_next_goes_on(
    place: Place, registry: InProcessRegistry
) -> None:
    built = registry.add_image("slow", layers=[layer_tar("a", BIG)])
    digest = built.layer_digests[0]
    registry.stall[digest] = 2_000_000
    arrived = asyncio.Event()

    def tell(line: Progress) -> None:
        if line.current_bytes:
            arrived.set()

    pulling = asyncio.create_task(place.images.pull(f"{registry.address}/slow", progress=tell))
    await registry.stalled.wait()
    await arrived.wait()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    kept = (place.root / "blobs/partial" / digest[7:]).stat().st_size
    assert kept > 0
    assert place.files() == [f"blobs/partial/{digest[7:]}"]
    registry.stall.clear()
    await place.images.pull(f"{registry.address}/slow", progress=place.tell)
    assert f"bytes={kept}-" in [headers.get("Range") for headers in registry.headers]


async def test_two_pulls_share_a_download(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("slow", layers=[layer_tar("a", BIG)])
    registry.add_image("other", layers=[layer_tar("a", BIG)])
    digest = built.layer_digests[0]
    registry.stall[digest] = 1_000_000
    first = asyncio.create_task(place.images.pull(f"{registry.address}/slow", progress=place.tell))
    await registry.stalled.wait()
    joined = asyncio.Event()
    second = asyncio.create_task(
        place.images.pull(
            f"{registry.address}/other",
            progress=lambda line: joined.set() if line.status == "Downloading" else None,
        )
    )
    await joined.wait()
    first.cancel()  # the second still wants it
    with pytest.raises(asyncio.CancelledError):
        await first
    del registry.stall[digest]
    registry.released.set()
    image = await second
    assert image.diff_ids == tuple(built.diff_ids)
    assert place.layers.unpacked == built.diff_ids


async def test_a_closing_daemon_ends_pulls(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("slow", layers=[layer_tar("a", BIG)])
    registry.stall[built.layer_digests[0]] = 1_000_000
    pulling = asyncio.create_task(place.images.pull(f"{registry.address}/slow", progress=place.tell))
    await registry.stalled.wait()
    await place.images.close()
    with pytest.raises(Unavailable, match="minid is stopping"):
        await pulling
    assert place.images.find(f"{registry.address}/slow") is None


async def test_busy_registries_are_asked_again(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("busy", layers=[layer_tar("a")])
    registry.statuses["/manifests/latest"] = [503, 429]
    registry.statuses[built.config_digest] = [502]
    registry.statuses[built.layer_digests[0]] = [500, 503]
    await place.images.pull(f"{registry.address}/busy", progress=place.tell)

    registry.statuses["/manifests/latest"] = [503] * 10
    with pytest.raises(Transient, match=r"answered 503 for .*busy/manifests/latest"):
        await place.images.pull(f"{registry.address}/busy:latest", progress=place.tell)


async def test_nobody_there(place: Place) -> None:
    with pytest.raises(Unavailable, match=r"registry 127.0.0.1:1: connection refused \(http\)"):
        await place.images.pull("127.0.0.1:1/x", progress=place.tell)


async def test_other_registries_are_never_asked_by_plain_http(
    place: Place, registry: InProcessRegistry
) -> None:
    """A host that is not insecure gets HTTPS only, whatever answers there."""
    registry.add_image("app", layers=[layer_tar("a")])
    place.images.registries.transport.rules = type(place.images.registries.transport.rules)(frozenset(), ())
    host = f"ip6-localhost.invalid:{registry.port}"
    with pytest.raises(Unavailable, match="cannot be resolved"):
        await place.images.pull(f"{host}/app", progress=place.tell)
    assert registry.requests == []


# authentication


async def test_basic_authentication(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    registry.basic = ("me", "secret")
    name = f"{registry.address}/app"
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        await place.images.pull(name, progress=place.tell)
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        await place.images.pull(name, auth=Auth("me", "wrong"), progress=place.tell)
    await place.images.pull(name, auth=Auth("me", "secret"), progress=place.tell)
    assert "secret" not in repr(Auth("me", "secret"))


async def test_anonymous_tokens(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("org/app", layers=[layer_tar("a")])
    async with TokenServer() as tokens:
        registry.bearer = tokens
        await place.images.pull(f"{registry.address}/org/app", progress=place.tell)
        assert tokens.queries == [{"service": "test", "scope": "repository:org/app:pull"}]


async def test_tokens_for_accounts(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    name = f"{registry.address}/app"
    async with TokenServer(accounts={"me": "secret"}, refresh_tokens={"r1"}, anonymous=False) as tokens:
        registry.bearer = tokens
        with pytest.raises(Unauthorized, match="refused an anonymous token"):
            await place.images.pull(name, progress=place.tell)
        with pytest.raises(Unauthorized, match="incorrect username or password"):
            await place.images.pull(name, auth=Auth("me", "wrong"), progress=place.tell)
        await place.images.pull(name, auth=Auth("me", "secret"), progress=place.tell)
        assert tokens.queries[-1]["account"] == "me"
        await place.images.delete(name)
        await place.images.pull(name, auth=Auth(identity_token="r1"), progress=place.tell)
        assert tokens.queries[-1]["grant_type"] == "refresh_token"


async def test_an_expired_token_is_renewed(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("app", layers=[layer_tar(str(number)) for number in range(3)])
    async with TokenServer() as tokens:
        registry.bearer = tokens
        real = registry._manifest

        def expire_after(name: str, reference: str) -> web.Response:
            tokens.valid.clear()
            return real(name, reference)

        registry._manifest = expire_after  # type: ignore[method-assign]
        image = await place.images.pull(f"{registry.address}/app", progress=place.tell)
        assert image.diff_ids == tuple(built.diff_ids)
        assert tokens.issued == 2


async def test_a_token_that_never_works(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    async with TokenServer() as tokens:
        registry.bearer = TokenServer(url=tokens.url)  # accepts none of its tokens
        with pytest.raises(Unauthorized, match=r"pull access denied for .*app"):
            await place.images.pull(f"{registry.address}/app", progress=place.tell)


async def test_credentials_do_not_follow_redirects(place: Place, registry: InProcessRegistry) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    seen: list[dict[str, str]] = []

    async def storage(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(body=registry.blobs[request.match_info["digest"]])

    app = web.Application()
    app.router.add_get("/store/{digest}", storage)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        registry.basic = ("me", "secret")
        registry.redirect_blobs = f"http://user:pw@127.0.0.1:{runner.addresses[0][1]}/store"
        await place.images.pull(f"{registry.address}/app", auth=Auth("me", "secret"), progress=place.tell)
    finally:
        await runner.cleanup()
    assert len(seen) == 2
    assert all("Authorization" not in headers for headers in seen)


async def test_a_token_server_by_plain_http_elsewhere_is_refused(
    place: Place, registry: InProcessRegistry
) -> None:
    registry.add_image("app", layers=[layer_tar("a")])
    registry.bearer = TokenServer(url="http://tokens.example.com/token")
    with pytest.raises(
        Failed, match=r"tokens.example.com would be reached by plain HTTP, which is not allowed"
    ):
        await place.images.pull(f"{registry.address}/app", auth=Auth("me", "secret"), progress=place.tell)


async def test_progress_is_throttled(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("app", layers=[layer_tar("a", 20_000_000)], compression="none")
    await place.images.pull(f"{registry.address}/app", progress=place.tell)
    lines = [line for line in place.lines if line.id == built.layer_digests[0][7:19]]
    assert len([line for line in lines if line.status == "Downloading"]) <= 30
    assert json.dumps([line.status for line in lines[-2:]]) == '["Extracting", "Pull complete"]'
