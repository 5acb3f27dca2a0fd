"""More bugs that compatible engines had (field notes § 4), numbered as there; the others are in test_compat."""

import base64
import calendar
import json
import threading
import time
from typing import Any

import pytest

from tests.conformance.test_lifecycle import create
from tests.wire import Wire, frames, unframed


def read_chunk(stream: Any) -> bytes:
    """One chunk of a chunked body (RFC 9112 § 7.1)."""
    line = b""
    while not line.endswith(b"\r\n"):
        line += stream.read_exactly(1)
    return bytes(stream.read_exactly(int(line, 16) + 2)[:-2])


def test_01_wait_is_registered_when_its_headers_come(wire: Wire, busybox: str) -> None:
    for _ in range(10):
        container = create(wire, busybox, "true")
        with wire.stream(
            "POST", f"/containers/{container}/wait", query={"condition": "next-exit"}, upgrade=False
        ) as wait:
            assert wait.status == 200
            assert wire.post(f"/containers/{container}/start").status == 204
            assert json.loads(read_chunk(wait))["StatusCode"] == 0


def test_02_wait_removed_outlives_the_container(wire: Wire, busybox: str) -> None:
    container = create(
        wire, busybox, "sh", "-c", "exit 7", HostConfig={"NetworkMode": "none", "AutoRemove": True}
    )
    with wire.stream(
        "POST", f"/containers/{container}/wait", query={"condition": "removed"}, upgrade=False
    ) as wait:
        assert wire.post(f"/containers/{container}/start").status == 204
        assert json.loads(read_chunk(wait))["StatusCode"] == 7
    assert wire("GET", f"/containers/{container}/json").status == 404


def test_10_name_conflict(wire: Wire, busybox: str) -> None:
    first = create(wire, busybox, "true", name="taken")
    response = wire.post("/containers/create", {"Image": busybox}, name="taken")
    assert response.status == 409
    assert response.message == (
        f'Conflict. The container name "/taken" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    create(wire, busybox, "true", name="other")
    assert wire.post("/containers/other/rename", name="taken").status == 409


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/containers/nope/json", "No such container: nope"),
        ("POST", "/containers/nope/exec", "No such container: nope"),
        ("POST", "/exec/nope/start", "No such exec instance: nope"),
        ("GET", "/exec/nope/json", "No such exec instance: nope"),
        ("DELETE", "/images/nope", "No such image: nope:latest"),
        ("GET", "/images/nope/history", "No such image: nope:latest"),
        ("GET", "/networks/nope", "network nope not found"),
        ("GET", "/volumes/nope", "get nope: no such volume"),
        ("GET", "/nope", "page not found"),
    ],
)
def test_11_not_found(wire: Wire, busybox: str, method: str, path: str, message: str) -> None:
    response = wire(method, path, {"Cmd": ["true"]} if method == "POST" else None)
    assert response.status == 404
    assert response.message == message


def test_11_what_is_not_there_to_create_from(wire: Wire, busybox: str) -> None:
    response = wire.post("/containers/create", {"Image": "nope:1"})
    assert (response.status, response.message) == (404, "No such image: nope:1")


def test_21_log_frames_and_nanoseconds(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "echo out; echo err >&2; printf tail")
    wire.post(f"/containers/{container}/start")
    wire.post(f"/containers/{container}/wait")
    query = {"stdout": "1", "stderr": "1", "timestamps": "1"}
    seen = [
        (stream, data.split(b" ", 1))
        for stream, data in frames(wire("GET", f"/containers/{container}/logs", query=query).body)
    ]
    assert sorted((stream, text) for stream, (_, text) in seen) == [
        (1, b"out\n"),
        (1, b"tail"),
        (2, b"err\n"),
    ]
    for _, (stamp, _) in seen:
        assert len(stamp) == len("2006-01-02T15:04:05.000000000Z")
    assert wire("GET", f"/containers/{container}/logs").status == 400
    first = min(stamp for _, (stamp, _) in seen).decode()
    seconds = time.strptime(first[:19], "%Y-%m-%dT%H:%M:%S")
    until = f"{calendar.timegm(seconds)}.{first[20:29]}"
    cut = wire(
        "GET", f"/containers/{container}/logs", query={"stdout": "1", "stderr": "1", "until": until}
    ).body
    assert len(list(frames(cut))) == 1


def test_22_resize_has_height_and_width(wire: Wire, busybox: str) -> None:
    container = create(
        wire,
        busybox,
        "sh",
        "-c",
        "while ! stty size | grep -q '24 132'; do sleep 0.02; done; echo seen",
        Tty=True,
    )
    wire.post(f"/containers/{container}/start")
    assert wire.post(f"/containers/{container}/resize", h="24", w="132").status == 200
    assert wire.post(f"/containers/{container}/wait").json["StatusCode"] == 0
    assert wire.post(f"/containers/{container}/resize", h="24", w="132").status == 409
    assert wire.post(f"/containers/{container}/resize", h="x", w="132").status == 400
    assert wire.post(f"/containers/{container}/resize").status == 400


def test_25_events(wire: Wire, busybox: str) -> None:
    """Headers before any event; die with its code; destroy, in order."""
    with wire.stream("GET", "/events", query={"filters": {"type": ["container"]}}, upgrade=False) as events:
        assert events.status == 200
        container = create(wire, busybox, "sh", "-c", "exit 5", name="eventful", Labels={"k": "v"})
        wire.post(f"/containers/{container}/start")
        wire.post(f"/containers/{container}/wait")
        wire("DELETE", f"/containers/{container}")
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["Action"] != "destroy":
            seen += [json.loads(line) for line in read_chunk(events).splitlines()]
    assert [event["Action"] for event in seen] == ["create", "start", "die", "destroy"]
    for event in seen:
        assert (event["Type"], event["status"], event["id"], event["from"]) == (
            "container",
            event["Action"],
            container,
            busybox,
        )
        assert event["Actor"]["ID"] == container
        attributes = event["Actor"]["Attributes"]
        assert (attributes["name"], attributes["image"], attributes["k"]) == ("eventful", busybox, "v")
        assert event["timeNano"] // 10**9 == event["time"]
    assert seen[2]["Actor"]["Attributes"]["exitCode"] == "5"


def test_27_a_pull_error_after_the_first_line_is_in_the_stream(wire: Wire, busybox: str) -> None:
    repository = busybox.rpartition(":")[0]
    response = wire.post("/images/create", fromImage=repository, tag="nope")
    if response.status == 200:
        last = response.json_lines[-1]
        assert last["error"] == last["errorDetail"]["message"]
        assert "nope" in last["error"]
    else:
        assert response.status == 404
        assert "nope" in response.message


def test_27_credentials_that_are_no_json(wire: Wire, busybox: str) -> None:
    """moby reads bad credentials as none; minid says that they are bad. Neither fails otherwise."""
    header = base64.urlsafe_b64encode(b"{}").decode()
    repository = busybox.rpartition(":")[0]
    response = wire(
        "POST",
        "/images/create",
        query={"fromImage": repository, "tag": "latest"},
        headers={"X-Registry-Auth": header},
    )
    assert response.status == 200
    assert not any("error" in line for line in response.json_lines)


def test_29_disk_usage_counts_and_prune_defaults(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "true", HostConfig={"NetworkMode": "none", "Binds": ["kept:/data"]})
    wire.post("/volumes/create", {"Name": "unused"})
    wire.post(f"/containers/{container}/start")
    wire.post(f"/containers/{container}/wait")
    usage = wire.get("/system/df")
    image_id = wire.get(f"/images/{busybox}/json")["Id"]
    assert [image["Containers"] for image in usage["Images"] if image["Id"] == image_id] == [1]
    assert usage["LayersSize"] > 0
    volumes = {volume["Name"]: volume["UsageData"] for volume in usage["Volumes"]}
    assert (volumes["kept"]["RefCount"], volumes["unused"]["RefCount"]) == (1, 0)
    assert [each["Id"] for each in usage["Containers"]] == [container]
    pruned = wire.post("/containers/prune").json
    assert pruned["ContainersDeleted"] == [container]
    assert isinstance(pruned["SpaceReclaimed"], int)
    assert wire.post("/containers/prune").json["ContainersDeleted"] is None


def test_30_top_is_arrays_of_strings(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sleep", "300")
    wire.post(f"/containers/{container}/start")
    top = wire.get(f"/containers/{container}/top")
    assert top["Titles"][:2] == ["UID", "PID"]
    assert top["Titles"][-1] == "CMD"
    assert [row[-1] for row in top["Processes"]] == ["sleep 300"]
    assert all(isinstance(cell, str) for row in top["Processes"] for cell in row)
    aux = wire.get(f"/containers/{container}/top", ps_args="aux")
    assert aux["Titles"][0] == "USER"
    assert len(aux["Processes"][0]) == len(aux["Titles"])


def test_attach_and_its_output_while_others_use_the_api(wire: Wire, busybox: str) -> None:
    """A hijacked connection does not hold up other requests, nor they it."""
    container = create(wire, busybox, "sh", "-c", "cat", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    query = {"stream": "1", "stdin": "1", "stdout": "1"}
    with wire.stream("POST", f"/containers/{container}/attach", query=query) as stream:
        assert wire.post(f"/containers/{container}/start").status == 204
        stop = threading.Event()

        def poll() -> None:
            while not stop.is_set():
                wire.get("/containers/json")

        thread = threading.Thread(target=poll)
        thread.start()
        try:
            data = b"0123456789abcdef" * 65536
            sender = threading.Thread(target=lambda: (stream.send(data), stream.close_write()))
            sender.start()
            assert unframed(stream.read_all(), 1) == data
            sender.join()
        finally:
            stop.set()
            thread.join()
