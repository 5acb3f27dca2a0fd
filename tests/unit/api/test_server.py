"""The frame around every operation: versions, errors, headers, bodies, clients that go away."""

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minid.containers.model import LogEntry, WaitResult
from minid.errors import Failed, NotModified
from minid.images.model import Image, Progress
from tests.unit.api.double import Answer, Daemon, read_head


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with Daemon(tmp_path) as daemon:
        yield daemon


def message(answer: Answer) -> str:
    assert answer.headers["content-type"].startswith("application/json")
    data = json.loads(answer.body)
    assert list(data) == ["message"]
    return str(data["message"])


# versions


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.30", "/v1.44"])
async def test_accepted_versions(daemon: Daemon, prefix: str) -> None:
    answer = await daemon.request("GET", f"{prefix}/_ping")
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["api-version"] == "1.44"
    assert answer.headers["ostype"] == "linux"
    assert answer.headers["docker-experimental"] == "false"
    assert answer.headers["server"].startswith("minid/")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_head_ping_has_the_headers_and_no_body(daemon: Daemon) -> None:
    answer = await daemon.request("HEAD", "/_ping")
    assert (answer.status, answer.headers["api-version"], answer.headers["swarm"]) == (
        200,
        "1.44",
        "inactive",
    )
    assert answer.headers["builder-version"] == "1"


async def test_versions_out_of_range(daemon: Daemon) -> None:
    old = await daemon.request("GET", "/v1.23/info")
    assert old.status == 400
    assert message(old) == (
        "client version 1.23 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )
    new = await daemon.request("GET", "/v1.45/info")
    assert new.status == 400
    assert message(new) == "client version 1.45 is too new. Maximum supported API version is 1.44"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("DELETE", "/info"),
        ("POST", "/containers/json"),
        ("GET", "/v1.44/containers/create"),
        ("GET", "/v1.99/nope"),
        ("POST", "/session"),
        ("POST", "/grpc"),
        ("GET", "/"),
        ("GET", "/v1.44"),
        ("GET", "//containers/json"),
        ("GET", "/containers/a/b/json"),
        ("GET", "/vfoo/_ping"),
    ],
)
async def test_no_such_page(daemon: Daemon, method: str, path: str) -> None:
    answer = await daemon.request(method, path)
    assert answer.status == 404
    assert message(answer) == "page not found"


@pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services/x", "/tasks", "/secrets", "/configs"])
async def test_no_swarm(daemon: Daemon, path: str) -> None:
    answer = await daemon.request("GET", path)
    assert answer.status == 503
    assert message(answer).startswith("This node is not a swarm manager.")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/images/search"),
        ("GET", "/distribution/a/json"),
    ],
)
async def test_not_implemented(daemon: Daemon, method: str, path: str) -> None:
    answer = await daemon.request(method, path)
    assert answer.status == 501
    assert "not implemented" in message(answer)


# errors


async def test_domain_errors(daemon: Daemon) -> None:
    assert (await daemon.request("POST", "/containers/nope/start")).status == 404
    conflict = await daemon.request("POST", "/containers/c1/start")
    assert (conflict.status, message(conflict)) == (409, "said the service")


async def test_not_modified_has_no_body(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(ref: str) -> None:
        raise NotModified("runs already")

    monkeypatch.setattr(daemon.containers, "start", start)
    answer = await daemon.request("POST", "/containers/c1/start")
    assert (answer.status, answer.body) == (304, b"")


async def test_an_accident_is_500_with_its_traceback_in_the_log_only(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(ref: str) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(daemon.containers, "start", start)
    answer = await daemon.request("POST", "/containers/c1/start")
    assert answer.status == 500
    assert "secret" not in message(answer)
    assert "secret detail" in caplog.text


async def test_requests_are_logged_with_who_made_them(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await daemon.request("GET", "/v1.44/containers/nope/json")
    assert "GET /v1.44/containers/nope/json: 404" in caplog.text
    assert f"uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}" in caplog.text


@pytest.mark.parametrize(
    ("body", "content_type", "status", "text"),
    [
        (b"{", "application/json", 400, "invalid JSON"),
        (b'{"Image":NaN}', "application/json", 400, "NaN"),
        (b'{"Image":"\\ud800"}', "application/json", 400, "surrogate"),
        (b"[" * 100_000, "application/json", 400, "invalid JSON"),
        (b"\xff", "application/json", 400, "invalid JSON"),
        (b"[]", "application/json", 400, "object"),
        (b"", "application/json", 400, "EOF"),
        (b"{}", "application/json", 400, "config cannot be empty"),
        (b"null", "application/json", 400, "config cannot be empty"),
        (b"{}", "text/plain", 400, "application/json"),
        (b"{}", "", 400, "application/json"),
        (b'{"Image":5}', "application/json", 400, "Image"),
        (b'{"Image":"a","HostConfig":{"Memory":"1g"}}', "application/json", 400, "HostConfig.Memory"),
        (b'{"Image":"a","HostConfig":[]}', "application/json", 400, "HostConfig"),
        (b'{"Image":"a","Env":[1]}', "application/json", 400, "Env[0]"),
        (b'{"Image":"a","Labels":{"a":1}}', "application/json", 400, "Labels"),
        (b'{"Image":"' + b"a" * (5 << 20) + b'"}', "application/json", 413, "bytes"),
    ],
)
async def test_bad_bodies(daemon: Daemon, body: bytes, content_type: str, status: int, text: str) -> None:
    answer = await daemon.request("POST", "/containers/create", body, Content_Type=content_type)
    assert answer.status == status
    assert text in message(answer)


@pytest.mark.parametrize(
    "query",
    [
        "filters=x",
        "filters=[]",
        'filters={"nope":["x"]}',
        'filters={"status":[1]}',
        'filters={"status":"x"}',
        "limit=x",
        "limit=99999999999999999999",
    ],
)
async def test_bad_queries(daemon: Daemon, query: str) -> None:
    answer = await daemon.request("GET", f"/containers/json?{query}".replace('"', "%22"))
    assert answer.status == 400
    assert message(answer)


async def test_malformed_http_is_an_error_and_no_harm(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(b"NONSENSE\r\n\r\n")
    answer = await Answer.read(reader)
    assert answer.status == 400
    assert message(answer).startswith("malformed HTTP request")
    assert (await daemon.request("GET", "/_ping")).body == b"OK"


async def test_a_half_closed_client_gets_its_answer(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    writer.write_eof()
    assert (await Answer.read(reader)).body == b"OK"
    assert await reader.read() == b""
    reader, writer = await daemon.connect()
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 3)
    writer.write_eof()
    for _ in range(3):
        assert (await Answer.read(reader)).body == b"OK"
    assert await reader.read() == b""
    reader, writer = await daemon.connect()
    writer.write_eof()
    assert await reader.read() == b""


async def test_half_closed_and_then_gone(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
    writer.write_eof()
    await read_head(reader)
    daemon.events.publish("container", "start", "1" * 64)
    assert b"start" in await reader.readline() + await reader.readline()
    writer.close()


async def test_expect_100_continue(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )
    assert (await read_head(reader))[0] == 100
    writer.write(b"{}")
    assert message(await Answer.read(reader)).startswith("config cannot be empty")


# streams of answers


async def test_wait_answers_before_the_container_ends(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(b"POST /containers/c1/wait HTTP/1.1\r\nHost: d\r\n\r\n")
    status, headers = await read_head(reader)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert daemon.containers.waiting is not None
    daemon.containers.waiting.set_result(WaitResult(3, "gone wrong"))
    size = int(await reader.readline(), 16)
    body = json.loads(await reader.readexactly(size))
    assert body == {"StatusCode": 3, "Error": {"Message": "gone wrong"}}


async def test_wait_errors(daemon: Daemon) -> None:
    assert (await daemon.request("POST", "/containers/nope/wait")).status == 404
    assert (await daemon.request("POST", "/containers/c1/wait?condition=never")).status == 400


async def test_a_client_that_goes_away_ends_its_wait(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(b"POST /containers/c1/wait HTTP/1.1\r\nHost: d\r\n\r\n")
    await read_head(reader)
    writer.transport.abort()
    waiting = daemon.containers.waiting
    assert waiting is not None
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)


async def test_a_client_that_goes_away_does_not_stop_a_start(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def start(ref: str) -> None:
        begun.set()
        await go_on.wait()
        done.set()

    monkeypatch.setattr(daemon.containers, "start", start)
    _, writer = await daemon.connect()
    writer.write(b"POST /containers/c1/start HTTP/1.1\r\nHost: d\r\n\r\n")
    await asyncio.wait_for(begun.wait(), 5)
    writer.transport.abort()
    await daemon.request("GET", "/_ping")
    go_on.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_events_headers_at_once_then_filtered_lines(daemon: Daemon) -> None:
    filters = '{"type":["container"],"label":["a=b"]}'.replace('"', "%22")
    reader, writer = await daemon.connect()
    writer.write(f"GET /events?filters={filters} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
    status, _ = await read_head(reader)
    assert status == 200
    daemon.events.publish("image", "pull", "busybox")
    daemon.events.publish("container", "start", "1" * 64, {"a": "c", "image": "busybox", "name": "x"})
    daemon.events.publish("container", "die", "1" * 64, {"a": "b", "image": "busybox", "name": "x"})
    size = int(await reader.readline(), 16)
    event = json.loads(await reader.readexactly(size))
    assert (event["Type"], event["Action"], event["status"]) == ("container", "die", "die")
    assert (event["id"], event["from"], event["scope"]) == ("1" * 64, "busybox", "local")
    assert event["Actor"] == {"ID": "1" * 64, "Attributes": {"a": "b", "image": "busybox", "name": "x"}}
    assert event["time"] == event["timeNano"] // 10**9


async def test_events_of_the_past(daemon: Daemon) -> None:
    daemon.events.publish("container", "create", "1" * 64)
    daemon.events.publish("volume", "create", "v")
    now = f"{time.time():.9f}"
    answer = await daemon.request("GET", f"/events?since=1&until={now}")
    assert [json.loads(line)["Type"] for line in answer.body.splitlines()] == ["container", "volume"]
    later = f"{time.time() + 0.2:.9f}"
    assert (await daemon.request("GET", f"/events?since={now}&until={later}")).body == b""
    assert (await daemon.request("GET", "/events?since=x")).status == 400
    assert (await daemon.request("GET", "/events?filters=%7B%22nope%22:[]%7D")).status == 400


async def test_followers_do_not_hold_up_the_end(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def start(ref: str) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        done.set()

    monkeypatch.setattr(daemon.containers, "start", start)
    follower, writer = await daemon.connect()
    writer.write(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
    await read_head(follower)
    starter, writer = await daemon.connect()
    writer.write(b"POST /containers/c1/start HTTP/1.1\r\nHost: d\r\n\r\n")
    await begun.wait()
    async with asyncio.timeout(2):
        await daemon.server.close(timeout_s=30)
    assert done.is_set(), "what changes something is let finish"
    assert (await Answer.read(starter)).status == 204
    assert await follower.read() == b""


async def test_logs_are_framed_and_stamped(daemon: Daemon) -> None:
    time_ns = 1_700_000_000_000_000_001
    daemon.containers.entries = [
        LogEntry("stdout", time_ns, b"out\n"),
        LogEntry("stderr", time_ns, b"err\n", {"b": "x y", "a": "1"}),
    ]
    answer = await daemon.request("GET", "/containers/c1/logs?stdout=1&stderr=1")
    assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    assert answer.body == b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"
    answer = await daemon.request("GET", "/containers/c1/logs?stdout=1&stderr=1&timestamps=1")
    stamp = b"2023-11-14T22:13:20.000000001Z "
    assert answer.body[8:] == stamp + b"out\n\x02\0\0\0\0\0\0\x23" + stamp + b"err\n"
    answer = await daemon.request("GET", "/containers/c1/logs?stdout=1&stderr=1&details=1")
    assert answer.body.endswith(b"a=1,b=x+y err\n")
    answer = await daemon.request("GET", "/containers/c1/logs")
    assert answer.status == 400
    assert "at least one stream" in message(answer)


async def test_many_logs_go_out_whole(daemon: Daemon) -> None:
    daemon.containers.entries = [LogEntry("stdout", 1, b"x" * 1000)] * 3000
    answer = await daemon.request("GET", "/containers/c1/logs?stdout=1")
    assert len(answer.body) == 3000 * 1008


async def test_a_failure_half_way_breaks_the_answer_off(daemon: Daemon) -> None:
    daemon.containers.entries = [LogEntry("stdout", 1, b"begun")]
    daemon.containers.log_failure = Failed("the disk went")
    with pytest.raises((asyncio.IncompleteReadError, ValueError)):
        await daemon.request("GET", "/containers/c1/logs?stdout=1")


# pull


class Images:
    """Reports what it is told to, then fails or not."""

    def __init__(self) -> None:
        self.reports: list[Progress] = []
        self.failure: Exception | None = None
        self.cancelled = asyncio.Event()
        self.asked: dict[str, Any] = {}
        self.hang = False

    async def pull(self, name: str, *, progress: Any, **options: Any) -> Image | None:
        self.asked = {"name": name, **options}
        for report in self.reports:
            progress(report)
        if self.failure:
            raise self.failure
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return None


@pytest.fixture
async def pulling(tmp_path: Path) -> AsyncIterator[tuple[Daemon, Images]]:
    daemon = Daemon(tmp_path)
    daemon.images = images = Images()
    async with daemon:
        yield daemon, images


def lines(answer: Answer) -> list[Any]:
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_pull_progress(pulling: tuple[Daemon, Images]) -> None:
    daemon, images = pulling
    images.reports = [
        Progress("latest", "Pulling from library/busybox"),
        Progress("aa", "Downloading", 1, 100),
        Progress("aa", "Downloading", 2, 100),
        Progress("aa", "Downloading", 100, 100),
        Progress("aa", "Pull complete"),
        Progress("", "Status: Downloaded newer image for busybox:latest"),
    ]
    answer = await daemon.request("POST", "/images/create?fromImage=busybox&tag=latest&platform=linux/amd64")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    seen = lines(answer)
    assert [line["status"] for line in seen] == [
        "Pulling from library/busybox",
        "Downloading",
        "Downloading",
        "Pull complete",
        "Status: Downloaded newer image for busybox:latest",
    ], "what follows within a tenth of a second is left out, the last count is not"
    assert seen[2]["progressDetail"] == {"current": 100, "total": 100}
    assert seen[2]["id"] == "aa"
    assert "100B/100B" in seen[2]["progress"]
    assert seen[3]["progressDetail"] == {}
    assert "id" not in seen[4]
    assert images.asked == {
        "name": "busybox",
        "tag": "latest",
        "platform": "linux/amd64",
        "auth": None,
        "all_tags": False,
    }


async def test_pull_errors_before_and_after_the_first_line(pulling: tuple[Daemon, Images]) -> None:
    daemon, images = pulling
    images.failure = Failed("no route")
    answer = await daemon.request("POST", "/images/create?fromImage=busybox:1")
    assert (answer.status, message(answer)) == (500, "no route")
    images.reports = [Progress("1", "Pulling from library/busybox")]
    answer = await daemon.request("POST", "/images/create?fromImage=busybox:1")
    assert answer.status == 200
    assert lines(answer)[-1] == {"errorDetail": {"message": "no route"}, "error": "no route"}
    assert (await daemon.request("POST", "/images/create")).status == 400


async def test_pull_of_a_bare_name_is_of_all_tags(pulling: tuple[Daemon, Images]) -> None:
    daemon, images = pulling
    await daemon.request("POST", "/images/create?fromImage=busybox")
    assert images.asked["all_tags"] is True


async def test_pull_stops_when_the_client_goes_away(pulling: tuple[Daemon, Images]) -> None:
    daemon, images = pulling
    images.hang = True
    images.reports = [Progress("1", "Pulling from library/busybox")]
    reader, writer = await daemon.connect()
    writer.write(b"POST /images/create?fromImage=busybox:1 HTTP/1.1\r\nHost: d\r\n\r\n")
    await read_head(reader)
    writer.transport.abort()
    await asyncio.wait_for(images.cancelled.wait(), 5)


async def test_credentials(pulling: tuple[Daemon, Images]) -> None:
    daemon, images = pulling
    header = "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ"  # unpadded
    await daemon.request("POST", "/images/create?fromImage=a:1", X_Registry_Auth=header)
    assert (images.asked["auth"].username, images.asked["auth"].password) == ("u", "p")
    await daemon.request("POST", "/images/create?fromImage=a:1", X_Registry_Auth="e30=")
    assert images.asked["auth"] is None
    for bad in ("!", "eyJ1c2VybmFtZSI6NX0="):
        answer = await daemon.request("POST", "/images/create?fromImage=a:1", X_Registry_Auth=bad)
        assert answer.status == 400
