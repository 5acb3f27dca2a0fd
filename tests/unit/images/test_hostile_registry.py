"""Registries that misbehave while an image is pulled: each ends in a retry or a clear error, in bounded memory and time.

What a push meets is in test_image_push.py, wrong digests and sizes in test_image_pull.py, hostile layers and documents
in test_manifest.py and tests/system/test_hostile_layers.py.
"""

import asyncio
import contextlib
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from minid.errors import Failed, MinidError, NotFound, Unavailable
from minid.images.registry.transport import Transient, backoff_s
from tests.certificates import self_signed
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import Built, InProcessRegistry, layer_tar

MB = 1 << 20
BOUND_S = 15
Answer = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[bool]]


class Hostile:
    """In front of a good registry: ``answers`` (by the end of the path) are given instead of its own.

    An answer writes what it likes and says whether the connection stays.
    """

    def __init__(self, behind: InProcessRegistry) -> None:
        self.behind = behind
        self.answers: dict[str, Answer] = {}
        self.sent_bytes = 0
        self.asked: list[str] = []
        self.times: list[float] = []

    async def __aenter__(self) -> "Hostile":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._connections: set[asyncio.Task[Any]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = await reader.readexactly(1)
        if first == b"\x16":  # it does not speak TLS
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        path = target.partition("?")[0]
        self.asked.append(f"{method} {path}")
        self.times.append(asyncio.get_running_loop().time())
        for ending, answer in self.answers.items():
            if path.endswith(ending):
                return await answer(method, headers, writer)
        return await self._good(method, target, headers, writer)

    async def _good(
        self, method: str, target: str, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        reader, upstream = await asyncio.open_connection("127.0.0.1", self.behind.port)
        sent = "".join(
            f"{name}: {value}\r\n" for name, value in headers.items() if name and name != "connection"
        )
        upstream.write(f"{method} {target} HTTP/1.1\r\n{sent}Connection: close\r\n\r\n".encode())
        while piece := await reader.read(65536):
            await self.send(writer, piece)
        upstream.close()
        return False

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent_bytes += len(data)

    # answers

    def say(self, head: str, body: bytes = b"", *, times: int = 1 << 30) -> Answer:
        """A fixed answer, the first ``times``; then the good registry's."""
        left = times

        async def answer(method: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
            nonlocal left
            left -= 1
            await self.send(writer, f"HTTP/1.1 {head}\r\n\r\n".encode() + (b"" if method == "HEAD" else body))
            return False

        async def choose(method: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
            if left > 0:
                return await answer(method, headers, writer)
            return await self._good(method, self.asked[-1].partition(" ")[2], headers, writer)

        return choose

    def endless(self, head: str, *, chunked: bool, pause_s: float = 0, piece: bytes = b"x" * 65536) -> Answer:
        async def answer(method: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
            more = "\r\nTransfer-Encoding: chunked" if chunked else "\r\nContent-Length: 104857600"
            await self.send(writer, f"HTTP/1.1 {head}{more}\r\n\r\n".encode())
            while True:
                await self.send(writer, b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await asyncio.sleep(pause_s)

        return answer


@pytest.fixture
async def hostile(registry: InProcessRegistry) -> AsyncIterator[Hostile]:
    async with Hostile(registry) as server:
        yield server


@pytest.fixture
def built(registry: InProcessRegistry) -> Built:
    return registry.add_image("app", layers=[layer_tar("a", 3000), layer_tar("b", 400_000)])


async def pull(place: Place, host: str, name: str = "app", **more: Any) -> None:
    async with asyncio.timeout(BOUND_S):
        await place.images.pull(f"{host}/{name}", progress=place.tell, **more)


async def refused(place: Place, host: str, match: str, **more: Any) -> MinidError:
    with pytest.raises(MinidError, match=match) as caught:
        await pull(place, host, **more)
    assert place.images.list() == []
    return caught.value


# redirects


@pytest.mark.parametrize("part", ["manifest", "layer"])
@pytest.mark.parametrize("target", ["itself", "a circle of two", "ever new places"])
async def test_redirects_without_end(
    place: Place, hostile: Hostile, built: Built, part: str, target: str
) -> None:
    ending = "/latest" if part == "manifest" else built.layer_digests[1]
    count = 0

    async def answer(method: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        nonlocal count
        count += 1
        where = {"itself": "", "a circle of two": f"?n={count % 2}", "ever new places": f"?n={count}"}[target]
        location = f"{hostile.asked[-1].partition(' ')[2]}{where}"
        await hostile.send(
            writer, f"HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        return True

    hostile.answers[ending] = answer
    error = await refused(place, hostile.address, "more than 5 redirects")
    assert isinstance(error, Failed) and count <= 12


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/shadow",
        "ftp://x/y",
        "gopher://x",
        "http://",
        "//",
        "http://[::1",
        "unix:///run/x.sock",
        "javascript:1",
    ],
)
async def test_redirects_to_strange_places(
    place: Place, hostile: Hostile, built: Built, location: str
) -> None:
    hostile.answers["/latest"] = hostile.say(f"302 Found\r\nLocation: {location}\r\nContent-Length: 0")
    await refused(place, hostile.address, "redirected to|more than 5 redirects")


async def test_a_redirect_to_a_host_that_must_be_secure(place: Place, hostile: Hostile, built: Built) -> None:
    """From HTTPS it would be refused anyway; from the plain HTTP of this machine it is not a way to get credentials."""
    hostile.answers["/latest"] = hostile.say(
        "302 Found\r\nLocation: http://registry.invalid/v2/app/manifests/latest\r\nContent-Length: 0"
    )
    await refused(place, hostile.address, r"registry\.invalid")


# wrong lengths


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (0, "its answer is not HTTP: bad status line$"),  # what is behind would be the next answer
        (1, "its answer is not HTTP: bad status line$"),
        (100, "its answer is not HTTP: bad status line$"),
        (10**15, "the connection was closed too early"),
        (10**30, "its answer is not HTTP: content-length overflow$"),
        (-5, "its answer is not HTTP: invalid character in content-length$"),
    ],
)
async def test_a_manifest_of_another_length(
    place: Place, hostile: Hostile, registry: InProcessRegistry, built: Built, declared: int, message: str
) -> None:
    data, kind = registry.manifests["app", "latest"]
    hostile.answers["/latest"] = hostile.say(
        f"200 OK\r\nContent-Type: {kind}\r\nContent-Length: {declared}", data
    )
    await refused(place, hostile.address, message)


async def test_two_lengths(place: Place, hostile: Hostile, registry: InProcessRegistry, built: Built) -> None:
    data, kind = registry.manifests["app", "latest"]
    hostile.answers["/latest"] = hostile.say(
        f"200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nContent-Length: 5", data
    )
    await refused(place, hostile.address, "registry 127")


@pytest.mark.parametrize("by", [-1, 1, 10_000, 10**12])
async def test_a_layer_of_another_length(
    place: Place, hostile: Hostile, registry: InProcessRegistry, built: Built, by: int
) -> None:
    digest = built.layer_digests[1]
    data = registry.blobs[digest]
    hostile.answers[digest] = hostile.say(
        f"200 OK\r\nContent-Length: {len(data) + by}", data + b"x" * max(0, min(by, 20_000))
    )
    await refused(place, hostile.address, f"has {len(data) + by} bytes, its manifest says {len(data)}")
    assert place.files() == []


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-9/{size}",
        "bytes {start}-{end}/1",
        "bytes */{size}",
        "bytes x",
        "",
        "bytes 1-2/*",
    ],
)
async def test_a_range_that_was_not_asked_for(
    place: Place, hostile: Hostile, registry: InProcessRegistry, built: Built, content_range: str
) -> None:
    digest = built.layer_digests[1]
    data = registry.blobs[digest]
    partial = place.root / "blobs/partial" / digest[7:]
    partial.write_bytes(data[:1000])

    async def answer(method: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        start = int(headers["range"].removeprefix("bytes=").removesuffix("-")) if "range" in headers else 0
        told = content_range.format(size=len(data), start=start, end=len(data) - 1)
        body = data[start:]
        await hostile.send(
            writer,
            f"HTTP/1.1 206 Partial\r\nContent-Range: {told}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body,
        )
        return False

    hostile.answers[digest] = answer
    await refused(place, hostile.address, "asked from byte|its manifest says")


async def test_a_layer_without_end(place: Place, hostile: Hostile, built: Built) -> None:
    """Chunked, so that nothing tells how long it is; the manifest does."""
    hostile.answers[built.layer_digests[1]] = hostile.endless("200 OK", chunked=True)
    await refused(place, hostile.address, "is longer than the 4")
    assert hostile.sent_bytes < 8 * MB
    assert place.files() == []


# wrong media types


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/html", b"<html>log in to this network", "is not valid JSON"),
        ("application/json", b"[1, 2]", "is not a JSON object"),
        ("application/json", b'"text"', "is not a JSON object"),
        ("application/vnd.oci.image.manifest.v1+json", b"\xff\xfe{}", "is not UTF-8"),
        ("application/vnd.oci.image.manifest.v1+json", b"", "is not valid JSON"),
        ("application/vnd.oci.image.manifest.v1+json", b'{"schemaVersion": 2}', "config is missing"),
        ("application/vnd.oci.image.manifest.v1+json", b"[" * 100_000, "nested|not valid JSON"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion": 1}', "schema 1"),
        ("application/vnd.oci.image.index.v1+json", b'{"schemaVersion": 2, "manifests": []}', "it has none"),
        ("application/octet-stream", b"\x1f\x8b\x08\0\0\0\0\0", "is not"),
    ],
)
async def test_something_else_than_a_manifest(
    place: Place, hostile: Hostile, built: Built, content_type: str, body: bytes, message: str
) -> None:
    hostile.answers["/latest"] = hostile.say(
        f"200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}", body
    )
    await refused(place, hostile.address, message)
    assert place.files() == []


async def test_a_manifest_that_calls_itself_something_else(
    place: Place, hostile: Hostile, registry: InProcessRegistry, built: Built
) -> None:
    data, _ = registry.manifests["app", "latest"]
    kind = "application/vnd.oci.image.index.v1+json"
    hostile.answers["/latest"] = hostile.say(
        f"200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}", data
    )
    await refused(place, hostile.address, "was sent as .*index.* and calls itself")


# too much


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("part", ["manifest", "error", "config", "tags", "token"])
async def test_a_document_of_100_mb(
    place: Place, hostile: Hostile, built: Built, part: str, chunked: bool
) -> None:
    """It is not read to its end, and takes no memory to speak of."""
    where = {"config": built.config_digest, "tags": "/tags/list", "token": "/token"}.get(part, "/latest")
    head = "500 Oops" if part == "error" else "200 OK"
    hostile.answers[where] = hostile.endless(
        f"{head}\r\nContent-Type: application/vnd.oci.image.manifest.v1+json", chunked=chunked
    )
    if part == "token":
        challenge = f'Bearer realm="http://{hostile.address}/token",service="x"'
        hostile.answers["/latest"] = hostile.say(
            f"401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0"
        )
    tracemalloc.start()
    try:
        await refused(place, hostile.address, "is longer than|answered 500", all_tags=part == "tags")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * MB, peak
    assert hostile.sent_bytes < 60 * MB  # several tries, and what fits into sockets' buffers


@pytest.mark.parametrize("what", ["one header", "many headers", "no end of the head"])
async def test_headers_of_100_mb(place: Place, hostile: Hostile, built: Built, what: str) -> None:
    async def answer(method: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        await hostile.send(writer, b"HTTP/1.1 200 OK\r\n" + (b"X-A: " if what == "one header" else b""))
        for number in range(1600):
            line = b"x" * 65536 if what == "one header" else b"X-%d: %b\r\n" % (number, b"y" * 4000)
            await hostile.send(writer, line)
        return False

    hostile.answers["/latest"] = answer
    await refused(place, hostile.address, "registry 127")
    assert hostile.sent_bytes < 40 * MB


# too slow


async def test_a_layer_byte_by_byte(
    place: Place, hostile: Hostile, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never silent, never done: a layer comes at a minimum rate, or it is tried again, and given up."""
    monkeypatch.setattr("minid.images.registry.client.STALL_TIMEOUT_S", 0.3)
    digest = built.layer_digests[1]
    hostile.answers[digest] = hostile.endless("200 OK", chunked=True, pause_s=0.02, piece=b"x")
    error = await refused(place, hostile.address, "sends too slowly")
    assert isinstance(error, Unavailable)
    assert hostile.asked.count(f"GET /v2/app/blobs/{digest}") == 3


@pytest.mark.parametrize("part", ["manifest", "config", "error", "token"])
async def test_a_document_byte_by_byte(
    place: Place, hostile: Hostile, built: Built, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minid.images.registry.transport.DOCUMENT_TIMEOUT_S", 0.3)
    where = {"config": built.config_digest, "token": "/token"}.get(part, "/latest")
    head = "503 Oops" if part == "error" else "200 OK"
    hostile.answers[where] = hostile.endless(head, chunked=True, pause_s=0.02, piece=b" ")
    if part == "token":
        challenge = f'Bearer realm="http://{hostile.address}/token",service="x"'
        hostile.answers["/latest"] = hostile.say(
            f"401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0"
        )
    await refused(place, hostile.address, "no answer in time|answered 503")


# bad moments


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_heeded(place: Place, hostile: Hostile, built: Built, status: int) -> None:
    hostile.answers["/latest"] = hostile.say(
        f"{status} Later\r\nRetry-After: 1\r\nContent-Length: 0", times=1
    )
    await pull(place, hostile.address)
    first, second = (
        when for when, what in zip(hostile.times, hostile.asked, strict=True) if what.endswith("/latest")
    )
    assert 1 <= second - first < 3


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("7", 7.0),
        ("0", 0.3),
        ("100000000", 60.0),
        ("9" * 400, 60.0),
        ("-5", 0.3),
        ("1e9", 0.3),
        ("nan", 0.3),
        ("", 0.3),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 0.3),
    ],
)
async def test_any_retry_after(
    place: Place,
    hostile: Hostile,
    built: Built,
    value: str,
    expected_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bounded, whatever it says."""
    waited: list[float] = []

    def note(attempt: int, error: Transient, delays_s: tuple[float, ...]) -> float:
        waited.append(backoff_s(attempt, error, (0.3,)))
        return 0.0

    monkeypatch.setattr("minid.images.registry.client.backoff_s", note)
    hostile.answers["/latest"] = hostile.say(
        f"429 Later\r\nRetry-After: {value}\r\nContent-Length: 0", times=1
    )
    await pull(place, hostile.address)
    assert waited == [expected_s]


async def test_bursts_of_500(place: Place, hostile: Hostile, built: Built) -> None:
    """Each thing fails as often as there are tries, but once; then it is there."""
    for ending in ("/latest", built.config_digest, *built.layer_digests):
        hostile.answers[ending] = hostile.say("500 Oops\r\nContent-Length: 0", times=2)
    await pull(place, hostile.address)


@pytest.mark.parametrize("status", [400, 402, 405, 418, 451, 501, 599])
async def test_other_statuses_end_at_once(place: Place, hostile: Hostile, built: Built, status: int) -> None:
    hostile.answers["/latest"] = hostile.say(f"{status} X\r\nContent-Length: 0")
    await refused(place, hostile.address, f"answered {status}")
    assert hostile.asked.count("GET /v2/app/manifests/latest") <= 1


@pytest.mark.parametrize("status", [100, 101, 204, 304])
async def test_statuses_that_have_no_body(place: Place, hostile: Hostile, built: Built, status: int) -> None:
    hostile.answers["/latest"] = hostile.say(f"{status} X")
    await refused(place, hostile.address, "registry 127")


async def test_a_challenge_again_and_again(place: Place, hostile: Hostile, built: Built) -> None:
    challenge = f'Bearer realm="http://{hostile.address}/token",service="x"'
    hostile.answers["/token"] = hostile.say(
        "200 OK\r\nContent-Length: 14", json.dumps({"token": "t"}).encode()
    )
    hostile.answers["/latest"] = hostile.say(f"401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0")
    await refused(place, hostile.address, "refused the token that it was given")
    assert len(hostile.asked) < 20


async def test_not_found_is_not_tried_again(place: Place, hostile: Hostile) -> None:
    error = await refused(place, hostile.address, "manifest unknown")
    assert isinstance(error, NotFound) and len(hostile.asked) == 1


# TLS


async def test_tls_cut_in_the_middle(place: Place, tmp_path: Path) -> None:
    """Without a close_notify, in the middle of a layer, and again: it goes on where it was."""
    pair = self_signed(tmp_path / "tls", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    async with InProcessRegistry(tls=context) as registry:
        built = registry.add_image("app", layers=[layer_tar("a", 2_000_000)])
        digest = built.layer_digests[0]
        registry.cuts[digest] = [500_000, 100_000, 0]
        await pull(place, registry.address)
        assert registry.count("GET", digest) == 4
        assert [item["Range"] for item in registry.headers if "Range" in item]
        assert place.images._content.read(digest, 4 * MB) == registry.blobs[digest]


@pytest.mark.parametrize("after", ["nothing", "a hello", "garbage", "an alert"])
async def test_tls_that_ends_in_the_handshake(
    place: Place, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if after != "nothing":
                await reader.read(100)
            if after == "garbage":
                writer.write(b"\x16\x03\x03\x40\x00" + b"\xff" * 100)
            elif after == "an alert":
                writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
            await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await refused(place, host, f"registry {host}")
