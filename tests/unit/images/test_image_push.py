"""Pushes: what is asked, what is sent, and what happens when the network or the registry misbehaves."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from yarl import URL

from minid.errors import Failed, InvalidParameter, MinidError, NotFound, Unauthorized, Unavailable
from minid.images.model import Progress
from minid.images.registry.endpoint import Certificates, InsecureRules
from minid.images.registry.transport import Transient, Transport, read_limited
from minid.images.service import Auth
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import Built, TokenServer, layer_tar
from tests.unit.images.uploading_registry import UploadingRegistry

BIG = 3_000_000


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server of raw connections; its ``host:port``. Nothing of it is left afterwards."""
    tasks: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close their sockets in a callback


@functools.cache
def small_layer() -> bytes:
    return layer_tar("a")


@functools.cache
def big_layer() -> bytes:
    return layer_tar("b", BIG)


@pytest.fixture
async def source() -> AsyncIterator[UploadingRegistry]:
    async with UploadingRegistry() as server:
        yield server


@pytest.fixture
async def target() -> AsyncIterator[UploadingRegistry]:
    async with UploadingRegistry() as server:
        yield server


@dataclass
class Prepared:
    """An image of a small and a big layer, pulled from ``source`` and tagged for ``target``."""

    place: Place
    target: UploadingRegistry
    built: Built
    name: str
    origin: UploadingRegistry

    @property
    def big(self) -> str:
        return self.built.layer_digests[1]

    async def push(self, **more: object) -> None:
        self.place.lines.clear()
        await self.place.images.push(self.name, progress=self.place.tell, **more)  # type: ignore[arg-type]

    def is_complete(self) -> bool:
        stored = self.target.manifests.get(("copy/app", "1"))
        return stored is not None and all(
            self.target.blobs.get(digest) == data for digest, data in self.source_blobs.items()
        )

    @property
    def source_blobs(self) -> dict[str, bytes]:
        wanted = {*self.built.layer_digests, self.built.config_digest}
        return {digest: data for digest, data in self.origin.blobs.items() if digest in wanted}


@pytest.fixture
async def prepared(place: Place, source: UploadingRegistry, target: UploadingRegistry) -> Prepared:
    built = source.put_image("app", layers=[small_layer(), big_layer()])
    await place.images.pull(f"{source.address}/app", progress=place.tell)
    name = f"{target.address}/copy/app:1"
    place.images.tag(f"{source.address}/app", name)
    return Prepared(place, target, built, name, source)


async def test_everything_arrives_bit_for_bit(prepared: Prepared) -> None:
    await prepared.push()
    assert prepared.is_complete()
    data, media_type = prepared.target.manifests["copy/app", "1"]
    assert (data, media_type) == prepared.origin.manifests["app", "latest"]
    last = prepared.place.lines[-1].pushed
    assert last is not None
    assert (last.tag, last.digest, last.size_bytes) == ("1", prepared.built.manifest_digest, len(data))
    assert prepared.place.lines[-2].status == f"1: digest: {last.digest} size: {len(data)}"
    layer = prepared.built.diff_ids[1].removeprefix("sha256:")[:12]
    assert prepared.place.statuses(layer) == ["Preparing", "Pushing", "Pushed"]


async def test_large_blobs_go_by_patch_and_small_ones_by_one_put(prepared: Prepared) -> None:
    await prepared.push()
    size = len(prepared.origin.blobs[prepared.big])
    small = sorted(len(data) for digest, data in prepared.source_blobs.items() if digest != prepared.big)
    assert sorted(prepared.target.bodies) == sorted(
        [("PATCH", size), ("PUT", 0), *(("PUT", length) for length in small)]
    )


async def test_what_is_there_costs_one_head_each(prepared: Prepared) -> None:
    await prepared.push()
    prepared.target.requests.clear()
    await prepared.push()
    methods = [method for method, _ in prepared.target.requests]
    assert sorted(methods) == ["HEAD", "HEAD", "HEAD", "PUT"]
    assert prepared.target.requests[-1] == ("PUT", "/v2/copy/app/manifests/1")
    assert [line.status for line in prepared.place.lines].count("Layer already exists") == 2


async def test_blobs_are_mounted_from_where_they_were_pulled(prepared: Prepared) -> None:
    name = f"{prepared.origin.address}/other/app:1"
    prepared.place.images.tag(prepared.name, name)
    prepared.origin.bodies.clear()
    await prepared.place.images.push(name, progress=prepared.place.tell)
    assert prepared.origin.bodies == []
    assert [line.status for line in prepared.place.lines].count("Mounted from app") == 2
    assert prepared.origin.manifests["other/app", "1"] == prepared.origin.manifests["app", "latest"]


async def test_a_refused_mount_becomes_an_upload(prepared: Prepared) -> None:
    prepared.origin.mounting = False
    name = f"{prepared.origin.address}/other/app:1"
    prepared.place.images.tag(prepared.name, name)
    await prepared.place.images.push(name, progress=prepared.place.tell)
    assert ("other/app", prepared.big) in prepared.origin.held
    posts = [path for method, path in prepared.origin.requests if method == "POST"]
    assert len(posts) == 3  # the answer to the mount begins the upload


async def test_where_blobs_are_is_remembered_over_a_restart(prepared: Prepared) -> None:
    await prepared.place.restart()
    name = f"{prepared.origin.address}/other/app:1"
    prepared.place.images.tag(prepared.name, name)
    prepared.origin.bodies.clear()
    await prepared.place.images.push(name, progress=prepared.place.tell)
    assert prepared.origin.bodies == []


async def test_a_broken_upload_goes_on_where_it_broke(prepared: Prepared) -> None:
    size = len(prepared.origin.blobs[prepared.big])
    prepared.target.upload_cuts = [1_000_000]
    prepared.place.images._exchange.pusher._limit = 1  # one after the other, the big one first
    await prepared.push()
    assert prepared.is_complete()
    sent = sum(length for method, length in prepared.target.bodies if method == "PATCH")
    assert sent == size, prepared.target.bodies
    ranges = [headers["Content-Range"] for headers in prepared.target.headers if "Content-Range" in headers]
    assert ranges == [f"1000000-{size - 1}"]
    layer = prepared.built.diff_ids[1].removeprefix("sha256:")[:12]
    assert [status for status in prepared.place.statuses(layer) if status.startswith("Retrying in")]


@pytest.mark.parametrize("fault", ["forgetful", "deaf"])
async def test_a_lost_upload_begins_anew(prepared: Prepared, fault: str) -> None:
    setattr(prepared.target, fault, True)
    prepared.target.upload_cuts = [500_000]
    await prepared.push()
    assert prepared.is_complete()


async def test_an_answer_that_is_lost_is_no_failure(prepared: Prepared) -> None:
    prepared.target.lost_answers = 2
    await prepared.push()
    assert prepared.is_complete()


async def test_a_registry_that_never_gets_on_ends_in_an_error(prepared: Prepared) -> None:
    prepared.target.upload_cuts = [0] * 100
    prepared.target.forgetful = True
    with pytest.raises(MinidError, match=f"registry {prepared.target.address}"):
        await asyncio.wait_for(prepared.push(), 20)
    assert ("copy/app", "1") not in prepared.target.manifests


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_bad_moments_are_waited_out(prepared: Prepared, status: int) -> None:
    prepared.target.statuses["/blobs/uploads/"] = [status, status]
    prepared.target.statuses[prepared.big] = [status]
    prepared.target.statuses["/manifests/1"] = [status]
    await prepared.push()
    assert prepared.is_complete()


@pytest.mark.parametrize("count", [0, 2])
async def test_an_upload_has_exactly_one_location(prepared: Prepared, count: int) -> None:
    prepared.target.location = lambda name, upload: [f"/v2/{name}/blobs/uploads/{upload}"] * count
    with pytest.raises(Failed, match=f"an upload has {count} Locations, expected exactly one"):
        await prepared.push()


@pytest.mark.parametrize("form", ["absolute", "relative to the request", "with a query"])
async def test_forms_of_location(prepared: Prepared, form: str) -> None:
    address = prepared.target.address
    forms: dict[str, Callable[[str, str], list[str]]] = {
        "absolute": lambda name, upload: [f"http://{address}/v2/{name}/blobs/uploads/{upload}"],
        "relative to the request": lambda name, upload: [f"/v2/{name}/blobs/uploads/{upload}"],
        "with a query": lambda name, upload: [f"/v2/{name}/blobs/uploads/{upload}?a=%2F%20&b="],
    }
    prepared.target.location = forms[form]
    await prepared.push()
    assert prepared.is_complete()


async def test_parts_are_as_large_as_the_registry_wants(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.target.part_min_bytes = 2_000_000
    prepared.target.upload_cuts = [100_000]
    prepared.place.images._exchange.pusher._limit = 1
    monkeypatch.setattr("minid.images.push.RETRY_PART_BYTES", 1_000_000)
    await prepared.push()
    assert prepared.is_complete()
    size = len(prepared.origin.blobs[prepared.big])
    patches = [length for method, length in prepared.target.bodies if method == "PATCH"]
    assert patches == [100_000, 2_000_000, size - 2_100_000]
    ranges = [headers["Content-Range"] for headers in prepared.target.headers if "Content-Range" in headers]
    assert ranges == ["100000-2099999", f"2100000-{size - 1}"]


def damage(prepared: Prepared, how: str) -> None:
    path = prepared.place.root / "blobs/sha256" / prepared.big.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    if how == "a bit":
        data[1000] ^= 1
    path.write_bytes(data[:-5000] if how == "too short" else data)


@pytest.mark.parametrize("how", ["a bit", "too short"])
async def test_a_blob_that_has_changed_on_disk_is_fetched_again(prepared: Prepared, how: str) -> None:
    damage(prepared, how)
    await prepared.push()
    assert prepared.is_complete()
    assert prepared.origin.count("GET", prepared.big) == 2


@pytest.mark.parametrize("how", ["a bit", "too short"])
async def test_a_blob_that_has_changed_on_disk_and_is_nowhere_else(prepared: Prepared, how: str) -> None:
    damage(prepared, how)
    del prepared.origin.blobs[prepared.big]
    with pytest.raises(
        Failed, match="is damaged on the disk, and not to be had from where the image came from"
    ):
        await prepared.push()
    assert ("copy/app", "1") not in prepared.target.manifests


async def test_a_registry_that_computes_wrongly(prepared: Prepared) -> None:
    prepared.target.wrong_digests = 100
    with pytest.raises(Failed, match="digest invalid"):
        await prepared.push()


async def test_cancelling_stops_and_a_later_push_works(prepared: Prepared) -> None:
    started = asyncio.Event()

    def tell(line: Progress) -> None:
        if line.status == "Pushing":
            started.set()

    task = asyncio.create_task(prepared.place.images.push(prepared.name, progress=tell))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ("copy/app", "1") not in prepared.target.manifests
    await prepared.push()
    assert prepared.is_complete()


# credentials


async def test_basic_credentials(prepared: Prepared) -> None:
    prepared.target.basic = ("me", "secret")
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        await prepared.push()
    with pytest.raises(Unauthorized) as caught:
        await prepared.push(auth=Auth("me", "mistaken"))
    assert "mistaken" not in str(caught.value)
    await prepared.push(auth=Auth("me", "secret"))
    assert prepared.is_complete()


async def test_a_token_for_pull_and_push(prepared: Prepared) -> None:
    async with TokenServer(accounts={"me": "secret"}, anonymous=False) as tokens:
        prepared.target.bearer = tokens
        await prepared.push(auth=Auth("me", "secret"))
        assert prepared.is_complete()
        assert tokens.queries[0]["scope"] == "repository:copy/app:pull,push"
        assert len(tokens.queries) == 1


async def test_who_may_push_and_not_look(prepared: Prepared) -> None:
    for digest in prepared.source_blobs:
        prepared.target.statuses[digest] = [403]
    await prepared.push()
    assert prepared.is_complete()


async def test_a_mount_asks_for_the_right_to_its_source(prepared: Prepared) -> None:
    scopes: list[list[str]] = []

    class Recording(TokenServer):
        async def _get(self, request: web.Request) -> web.Response:
            scopes.append(request.query.getall("scope"))
            return await super()._get(request)

    async with Recording(accounts={"me": "secret"}, anonymous=False) as tokens:
        prepared.origin.bearer = tokens
        name = f"{prepared.origin.address}/other/app:1"
        prepared.place.images.tag(prepared.name, name)
        await prepared.place.images.push(name, auth=Auth("me", "secret"), progress=prepared.place.tell)
    own = "repository:other/app:pull,push"
    assert sorted(scopes) == [[own], [own, "repository:app:pull"]]
    assert [line.status for line in prepared.place.lines].count("Mounted from app") == 2


async def test_a_token_that_expires_in_the_middle(prepared: Prepared) -> None:
    async with TokenServer(accounts={"me": "secret"}, anonymous=False) as tokens:
        prepared.target.bearer = tokens

        def tell(line: Progress) -> None:
            if line.status == "Pushing" and tokens.issued == 1:
                tokens.valid.clear()

        await prepared.place.images.push(prepared.name, auth=Auth("me", "secret"), progress=tell)
        assert tokens.issued >= 2
    prepared.target.bearer = None
    assert prepared.is_complete()


async def test_credentials_stay_with_their_registry(prepared: Prepared, source: UploadingRegistry) -> None:
    """Uploads that are sent to another host go there without the password."""
    async with UploadingRegistry() as elsewhere:
        elsewhere.uploads = prepared.target.uploads
        elsewhere.blobs, elsewhere.held = prepared.target.blobs, prepared.target.held
        prepared.target.basic = ("me", "secret")
        prepared.target.location = lambda name, upload: [
            f"http://{elsewhere.address}/v2/{name}/blobs/uploads/{upload}"
        ]
        elsewhere.location = prepared.target.location
        await prepared.push(auth=Auth("me", "secret"))
        assert elsewhere.requests
        assert not [headers for headers in elsewhere.headers if "Authorization" in headers]
    assert prepared.is_complete()


async def test_an_upload_is_not_sent_to_a_host_that_must_be_secure(prepared: Prepared) -> None:
    prepared.target.location = lambda name, upload: [
        f"http://registry.example/v2/{name}/blobs/uploads/{upload}"
    ]
    with pytest.raises(
        Failed, match=r"registry\.example would be reached by plain HTTP, which is not allowed"
    ):
        await prepared.push()


async def test_a_redirected_upload_goes_there_without_the_password(prepared: Prepared) -> None:
    async with UploadingRegistry() as elsewhere:
        elsewhere.uploads = prepared.target.uploads
        elsewhere.blobs, elsewhere.held = prepared.target.blobs, prepared.target.held
        prepared.target.basic = ("me", "secret")
        prepared.target.redirect_uploads = f"http://{elsewhere.address}"
        await prepared.push(auth=Auth("me", "secret"))
        assert {method for method, _ in elsewhere.requests} == {"PATCH", "PUT"}
        assert not [headers for headers in elsewhere.headers if "Authorization" in headers]
    assert prepared.is_complete()


async def test_redirects_in_a_circle_end(prepared: Prepared) -> None:
    prepared.target.redirect_uploads = f"http://{prepared.target.address}"
    with pytest.raises(Failed, match="an upload was sent elsewhere more than 5 times"):
        await asyncio.wait_for(prepared.push(), 20)


@pytest.mark.parametrize(
    "fault", ["reads nothing", "answers nothing", "answers slowly", "answers nonsense", "ends at once"]
)
async def test_a_server_that_is_no_good(
    prepared: Prepared, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bounded time, whatever it does."""
    monkeypatch.setattr("minid.images.registry.uploads.STALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr("minid.images.registry.uploads.FINISH_TIMEOUT_S", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (first := await reader.read(1)) != b"\x16":  # it does not speak TLS
            head = first + await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HEAD"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            elif head.startswith(b"POST"):
                writer.write(b"HTTP/1.1 202 Accepted\r\nLocation: /v2/u\r\nContent-Length: 0\r\n\r\n")
            elif head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 204 No Content\r\nLocation: /v2/u\r\nRange: 0-0\r\n\r\n")
            elif fault == "answers nonsense":
                writer.write(b"\x16\x03\x01 what?\r\n\r\n")
            elif fault == "answers slowly":
                for character in b"HTTP/1.1 202 Accepted\r\n" * 20:
                    writer.write(bytes([character]))
                    await asyncio.sleep(0.05)
            elif fault == "answers nothing":
                while await reader.read(65536):
                    pass
            elif fault == "reads nothing":
                reader_transport = writer.transport
                assert isinstance(reader_transport, asyncio.ReadTransport)
                reader_transport.pause_reading()
                await asyncio.sleep(30)
            else:
                writer.close()
                return

    async with serving(serve) as host:
        name = f"{host}/copy/app:1"
        prepared.place.images.tag(prepared.name, name)
        with pytest.raises(Unavailable, match="registry 127"):
            await asyncio.wait_for(prepared.place.images.push(name, progress=prepared.place.tell), 15)


@pytest.mark.parametrize("location", ["ftp://x/y", "//", "http://", "http://[::1", "file:///etc/passwd"])
async def test_strange_locations(prepared: Prepared, location: str) -> None:
    prepared.target.location = lambda name, upload: [location]
    with pytest.raises(MinidError):
        await asyncio.wait_for(prepared.push(), 20)
    assert ("copy/app", "1") not in prepared.target.manifests


# names


async def test_all_tags(prepared: Prepared) -> None:
    place, address = prepared.place, prepared.target.address
    for tag in ("2", "x"):
        place.images.tag(prepared.name, f"{address}/copy/app:{tag}")
    place.images.tag(prepared.name, f"{address}/copy/app-not:1")
    place.images.tag(prepared.name, f"{address}/copy:1")
    await place.images.push(f"{address}/copy/app", progress=place.tell)
    pushed = [line.pushed.tag for line in place.lines if line.pushed]
    assert pushed == ["1", "2", "x"]
    assert {name for name, _ in prepared.target.manifests} == {"copy/app"}


async def test_names_that_cannot_be_pushed(prepared: Prepared) -> None:
    images, address = prepared.place.images, prepared.target.address
    tell = prepared.place.tell
    with pytest.raises(NotFound, match="An image does not exist locally with the tag"):
        await images.push(f"{address}/none", tag="1", progress=tell)
    with pytest.raises(NotFound, match="tag does not exist"):
        await images.push(f"{address}/copy/app", tag="none", progress=tell)
    with pytest.raises(InvalidParameter, match="cannot push a digest reference"):
        await images.push(f"{address}/copy/app@{prepared.built.manifest_digest}", progress=tell)
    with pytest.raises(InvalidParameter):
        await images.push("Not/A Name", progress=tell)
    with pytest.raises(InvalidParameter, match="invalid tag format"):
        await images.push(f"{address}/copy/app", tag="..", progress=tell)


async def test_the_digest_is_a_name_afterwards(prepared: Prepared) -> None:
    await prepared.push()
    image = prepared.place.images.get(prepared.name)
    digest = f"{prepared.target.address}/copy/app@{prepared.built.manifest_digest}"
    assert digest in image.digests


async def test_the_manifest_that_a_repository_had_is_the_one_it_gets(
    place: Place, source: UploadingRegistry
) -> None:
    """The same image under two manifests: each repository keeps its own."""
    layers = [layer_tar("a")]
    source.put_image("oci", layers=layers)

    def as_docker(manifest: dict[str, object], config: dict[str, object]) -> None:
        manifest["annotations"] = {"made": "otherwise"}

    source.put_image("other", layers=layers, change=as_docker)
    first = json.loads(source.manifests["oci", "latest"][0])
    second = json.loads(source.manifests["other", "latest"][0])
    if first["config"]["digest"] != second["config"]["digest"]:
        second["config"] = first["config"]  # the label has the name in it
        source.held.add(("other", first["config"]["digest"]))
        source.add_manifest("other", "latest", second, second["mediaType"])
    for name in ("oci", "other"):
        await place.images.pull(f"{source.address}/{name}", progress=place.tell)
    before = dict(source.manifests)
    for name in ("oci", "other"):
        await place.images.push(f"{source.address}/{name}", progress=place.tell)
    assert source.manifests == before


async def test_a_layer_that_came_in_another_form_is_fetched(
    place: Place, source: UploadingRegistry, target: UploadingRegistry
) -> None:
    """Its layer was there (as gzip) when the image was pulled (as zstd), so its blob was not needed till now."""
    source.put_image("gzip", layers=[big_layer()])
    built = source.put_image("zstd", layers=[big_layer()], compression="zstd")
    for name in ("gzip", "zstd"):
        await place.images.pull(f"{source.address}/{name}", progress=place.tell)
    place.images.tag(f"{source.address}/zstd", f"{source.address}/mounted:1")
    await place.images.push(f"{source.address}/mounted:1", progress=place.tell)
    assert ("mounted", built.layer_digests[0]) in source.held
    assert source.count("GET", built.layer_digests[0]) == 0
    place.images.tag(f"{source.address}/zstd", f"{target.address}/copy:1")
    await place.images.push(f"{target.address}/copy:1", progress=place.tell)
    assert source.count("GET", built.layer_digests[0]) == 1
    assert target.blobs[built.layer_digests[0]] == source.blobs[built.layer_digests[0]]
    assert target.manifests["copy", "1"] == source.manifests["zstd", "latest"]


async def test_a_layer_that_is_not_to_be_had(
    place: Place, source: UploadingRegistry, target: UploadingRegistry
) -> None:
    source.put_image("gzip", layers=[big_layer()])
    built = source.put_image("zstd", layers=[big_layer()], compression="zstd")
    for name in ("gzip", "zstd"):
        await place.images.pull(f"{source.address}/{name}", progress=place.tell)
    del source.blobs[built.layer_digests[0]]
    place.images.tag(f"{source.address}/zstd", f"{target.address}/copy:1")
    with pytest.raises(Failed, match="pull the image again"):
        await place.images.push(f"{target.address}/copy:1", progress=place.tell)


@pytest.mark.parametrize("part", ["headers", "body"])
async def test_a_server_that_sends_byte_by_byte(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never silent, never done: a request and the reading of a manifest have an end, too."""
    monkeypatch.setattr("minid.images.registry.transport.CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr("minid.images.registry.transport.DOCUMENT_TIMEOUT_S", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 4000\r\n\r\n" if part == "body" else b"X: "))
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with serving(serve) as host:
        transport = Transport(InsecureRules.parse([]), Certificates([]))
        response = None
        try:
            with pytest.raises(Transient, match="no answer in time"):
                response = await transport.send(
                    "GET", URL(f"http://{host}/v2/"), headers={}, answer_timeout_s=0.2
                )
                await asyncio.wait_for(read_limited(response, 10_000, "a manifest"), 5)
            assert (response is not None) == (part == "body")
        finally:
            if response is not None:
                response.close()
            await transport.close()
