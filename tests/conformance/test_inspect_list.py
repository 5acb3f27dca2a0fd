"""What clients read: ps with filters and formats, inspect's shapes, info, version, ping, events."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli import Cli
from tests.conformance.test_lifecycle import create, state
from tests.wire import Wire


@pytest.fixture
def three(wire: Wire, busybox: str) -> dict[str, str]:
    """running (up), exited with 3, and only created; labelled."""
    ids = {
        "up-one": create(wire, busybox, "sleep", "300", name="up-one", Labels={"tier": "web", "env": "a"}),
        "ended": create(wire, busybox, "sh", "-c", "exit 3", name="ended", Labels={"tier": "db"}),
        "fresh": create(wire, busybox, "echo", "a long command line that ps shortens", name="fresh"),
    }
    for name in ("up-one", "ended"):
        assert wire.post(f"/containers/{name}/start").status == 204
    wire.post("/containers/ended/wait")
    return ids


def test_ps(cli: Cli, three: dict[str, str], busybox: str) -> None:
    lines = cli.ok("ps").splitlines()
    assert lines[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert len(lines) == 2
    assert re.fullmatch(
        rf'{three["up-one"][:12]}\s+{re.escape(busybox)}\s+"sleep 300"\s+.* ago\s+Up .*\s+up-one',
        lines[1].rstrip(),
    )
    everything = cli.ok("ps", "-a").splitlines()
    assert [line.split()[-1] for line in everything[1:]] == ["fresh", "ended", "up-one"], "newest first"
    assert '"echo \'a long comman…"' in everything[1] or '"echo \'a long command…"' in everything[1]
    assert "Created" in everything[1] and "Exited (3)" in everything[2]
    assert cli.ok("ps", "-aq").split() == [three[name][:12] for name in ("fresh", "ended", "up-one")]
    assert cli.ok("ps", "-q", "--no-trunc") == three["up-one"]
    assert cli.ok("ps", "-l", "--format", "{{.Names}}") == "fresh"
    assert cli.ok("ps", "-n", "2", "--format", "{{.Names}}").split() == ["fresh", "ended"]
    assert (
        cli.ok("ps", "--format", '{{.ID}}|{{.Image}}|{{.Names}}|{{.State}}|{{.Label "tier"}}')
        == f"{three['up-one'][:12]}|{busybox}|up-one|running|web"
    )
    table = cli.ok("ps", "--format", "table {{.Names}}\t{{.Status}}").splitlines()
    assert table[0].split() == ["NAMES", "STATUS"]
    as_json = json.loads(cli.ok("ps", "--format", "json"))
    assert (as_json["Names"], as_json["State"], as_json["Image"]) == ("up-one", "running", busybox)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["status=exited"], {"ended"}),
        (["status=created", "status=running"], {"fresh", "up-one"}),
        (["exited=3"], {"ended"}),
        (["exited=0"], set()),
        (["name=up"], {"up-one"}),
        (["name=^/?fresh$"], {"fresh"}),
        (["label=tier"], {"up-one", "ended"}),
        (["label=tier=web"], {"up-one"}),
        (["label=tier=web", "label=env=b"], set()),
        (["before=ended"], {"up-one"}),
        (["since=ended"], {"fresh"}),
        (["network=none"], {"fresh", "ended", "up-one"}),
    ],
    ids=str,
)
def test_ps_filters(docker_cli: Cli, three: dict[str, str], filters: list[str], expected: set[str]) -> None:
    options = [part for text in filters for part in ("--filter", text)]
    assert set(docker_cli.ok("ps", "-a", *options, "--format", "{{.Names}}").split()) == expected


def test_ps_filters_by_id_and_image(docker_cli: Cli, wire: Wire, three: dict[str, str], busybox: str) -> None:
    def names(*options: str) -> set[str]:
        return set(docker_cli.ok("ps", "-a", *options, "--format", "{{.Names}}").split())

    assert names("-f", f"id={three['fresh'][:10]}") == {"fresh"}
    assert names("-f", f"ancestor={busybox}") == set(three)
    assert names("-f", f"ancestor={wire.get(f'/images/{busybox}/json')['Id']}") == set(three)
    assert docker_cli("ps", "-f", "nonsense=1").code == 1
    bad = wire("GET", "/containers/json", query={"filters": {"status": ["nonsense"]}})
    assert bad.status == 400
    assert wire("GET", "/containers/json", query={"filters": "{"}).status in (400, 500)
    assert wire("GET", "/containers/json", query={"limit": "x"}).status in (400, 500)


def test_list_shapes(wire: Wire, three: dict[str, str], busybox: str) -> None:
    image = wire.get(f"/images/{busybox}/json")["Id"]
    up, ended = (
        wire.get("/containers/json", all="1", filters={"name": [name]})[0] for name in ("up-one", "ended")
    )
    assert (up["Id"], up["Names"], up["Image"], up["ImageID"]) == (
        three["up-one"],
        ["/up-one"],
        busybox,
        image,
    )
    assert (up["Command"], up["State"], up["Labels"]) == ("sleep 300", "running", {"tier": "web", "env": "a"})
    assert isinstance(up["Created"], int) and abs(up["Created"] - time.time()) < 3600
    assert up["Ports"] == [] and up["Mounts"] == [] and up["HostConfig"]["NetworkMode"] == "none"
    assert set(up["NetworkSettings"]["Networks"]) == {"none"}
    assert re.match(r"Up (\d+ seconds?|Less than a second|About a minute)", up["Status"])
    assert re.match(r"Exited \(3\) (\d+ seconds?|Less than a second|About a minute) ago", ended["Status"])
    sized = wire.get("/containers/json", size="1")[0]
    assert sized["SizeRootFs"] > 1_000_000


def test_inspect_shapes(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    container = create(
        wire, busybox, "sleep", "300", name="shown", Hostname="h", Labels={"a": "b"}, Env=["A=b"]
    )
    image = wire.get(f"/images/{busybox}/json")["Id"]
    seen = wire.get("/containers/shown/json")
    assert (seen["Id"], seen["Name"], seen["Image"], seen["Path"], seen["Args"]) == (
        container,
        "/shown",
        image,
        "sleep",
        ["300"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", seen["Created"])
    assert (seen["Platform"], seen["RestartCount"], seen["ExecIDs"], seen["Mounts"]) == ("linux", 0, None, [])
    config, host, network = seen["Config"], seen["HostConfig"], seen["NetworkSettings"]
    assert (config["Image"], config["Hostname"], config["Labels"], config["Cmd"]) == (
        busybox,
        "h",
        {"a": "b"},
        ["sleep", "300"],
    )
    assert config["Env"][0] == "A=b" and config["Env"][1].startswith("PATH=")
    assert (config["Entrypoint"], config["Volumes"], config["OnBuild"]) == (None, None, None)
    assert (config["Tty"], config["OpenStdin"], config["User"], config["WorkingDir"]) == (
        False,
        False,
        "",
        "",
    )
    assert (host["NetworkMode"], host["Binds"], host["RestartPolicy"]["Name"]) == (
        "none",
        None,
        "no",
    ) or host["RestartPolicy"]["Name"] == ""
    assert (host["Memory"], host["NanoCpus"], host["Privileged"], host["ShmSize"]) == (0, 0, False, 64 << 20)
    assert host["LogConfig"]["Type"] == "json-file" and host["IpcMode"] == "private"
    assert (
        host["MaskedPaths"] and "/proc/kcore" in host["MaskedPaths"] and "/proc/sys" in host["ReadonlyPaths"]
    )
    assert set(network["Networks"]) == {"none"} and network["Ports"] == {}
    assert "NetworkID" in network["Networks"]["none"]
    for path in ("LogPath", "HostnamePath", "HostsPath", "ResolvConfPath"):
        assert isinstance(seen[path], str)
    assert "SizeRw" not in seen and wire.get("/containers/shown/json", size="1")["SizeRootFs"] > 0
    assert docker_cli.ok("inspect", "-s", "-f", "{{.SizeRw}}", "shown").isdigit()


def test_inspect_command(cli: Cli, three: dict[str, str], busybox: str) -> None:
    found = json.loads(cli.ok("inspect", "up-one", "fresh"))
    assert [entry["Name"] for entry in found] == ["/up-one", "/fresh"]
    assert cli.ok("inspect", "-f", "{{.State.Status}} {{.Config.Cmd}} {{json .Config.Labels}}", "ended") in (
        'exited [sh -c exit 3] {"tier":"db"}',
        'exited ["sh","-c","exit 3"] {"tier":"db"}',
    )
    assert json.loads(cli.ok("inspect", "--type", "image", busybox))[0]["RepoTags"] == [busybox]
    assert json.loads(cli.ok("inspect", busybox))[0]["Os"] == "linux"
    result = cli("inspect", "nosuch", "fresh")
    assert result.code == 1 and "No such object: nosuch" in result.err
    assert json.loads(result.out)[0]["Name"] == "/fresh"


def test_labels_merge_and_ports_are_told(docker_cli: Cli, wire: Wire, variant: Callable[[str], str]) -> None:
    docker_cli.ok(
        "create",
        "--name",
        "labelled",
        "--network",
        "none",
        "--label",
        "both=run",
        "--label",
        "mine",
        variant("labelled"),
        "true",
    )
    config = wire.get("/containers/labelled/json")["Config"]
    assert config["Labels"] == {"org.minid.test": "yes", "both": "run", "mine": ""}
    assert config["ExposedPorts"] == {"80/tcp": {}}


def test_ping(wire: Wire, engine: object) -> None:
    for version in ("", wire.version):
        unversioned = Wire(wire.path, version)
        answer = unversioned("GET", "/_ping")
        assert (answer.status, answer.body) == (200, b"OK")
        assert answer.headers["Api-Version"] == wire.version
        assert (answer.headers["Ostype"], answer.headers["Docker-Experimental"]) == ("linux", "false")
        assert answer.headers["Builder-Version"] or wire.version == "1.41"
        assert "no-cache" in answer.headers["Cache-Control"]
        head = unversioned("HEAD", "/_ping")
        assert (head.status, head.body, head.headers["Api-Version"]) == (200, b"", wire.version)


def test_versions(wire: Wire, engine: object) -> None:
    answer = wire.get("/version")
    assert (answer["Os"], answer["Arch"]) == ("linux", "amd64") and answer["KernelVersion"]
    assert answer["ApiVersion"] == wire.version and answer["Components"][0]["Name"]
    assert Wire(wire.path, "1.24")("GET", "/containers/json").status == 200 or wire.version == "1.41"
    new = Wire(wire.path, "1.99")("GET", "/containers/json")
    assert (
        new.status == 400
        and "client version 1.99 is too new. Maximum supported API version is" in new.message
    )
    old = Wire(wire.path, "1.11")("GET", "/containers/json")
    assert old.status == 400 and b"client version 1.11 is too old" in old.body
    missing = wire("GET", "/nosuch")
    assert missing.status == 404 and missing.message == "page not found"
    assert wire("PATCH", "/containers/json").status in (404, 405)


def test_info(cli: Cli, wire: Wire, three: dict[str, str]) -> None:
    info = wire.get("/info")
    assert (
        info["Containers"],
        info["ContainersRunning"],
        info["ContainersPaused"],
        info["ContainersStopped"],
    ) == (3, 1, 0, 2)
    assert (
        info["OSType"] == "linux"
        and info["Architecture"] == "x86_64"
        and info["NCPU"] > 0
        and info["MemTotal"] > 0
    )
    assert info["Driver"] and info["CgroupDriver"] == "cgroupfs" and info["CgroupVersion"] in ("1", "2")
    assert info["DockerRootDir"] and info["ID"] and info["Name"] and info["ServerVersion"]
    assert info["LoggingDriver"] == "json-file" and info["Images"] >= 1
    assert json.loads(cli.ok("info", "-f", "{{json .}}"))["OSType"] == "linux"
    assert cli.ok("info", "-f", "{{.Containers}}") == "3"
    assert re.search(r"Containers: 3\n\s+Running: 1", cli.ok("info"))
    assert cli.ok("version", "-f", "{{.Server.APIVersion}}") == wire.version


def events(wire: Wire, since: float, until: float, **filters: list[str]) -> list[dict[str, Any]]:
    response = wire(
        "GET", "/events", query={"since": f"{since:.9f}", "until": f"{until:.9f}", "filters": filters}
    )
    assert response.status == 200, response.body
    return response.json_lines


def test_events_of_a_life(wire: Wire, busybox: str) -> None:
    since = time.time()
    container = create(wire, busybox, "sh", "-c", "exit 7", name="watched", Labels={"l": "v"})
    wire.post("/containers/watched/start")
    wire.post("/containers/watched/wait")
    wire.post("/containers/watched/rename", name="renamed")
    wire("DELETE", "/containers/renamed")
    found = events(wire, since, time.time() + 0.001, container=[container])
    actions = [event["Action"] for event in found]
    assert actions == ["create", "start", "die", "rename", "destroy"]
    die = found[2]
    assert (die["Type"], die["Actor"]["ID"], die["scope"]) == ("container", container, "local")
    attributes = die["Actor"]["Attributes"]
    assert (attributes["exitCode"], attributes["image"], attributes["name"], attributes["l"]) == (
        "7",
        busybox,
        "watched",
        "v",
    )
    assert (die["status"], die["id"], die["from"]) == ("die", container, busybox), "old clients read these"
    assert die["time"] == die["timeNano"] // 10**9
    assert found[3]["Actor"]["Attributes"]["oldName"] == "/watched"


def test_events_of_stop_and_kill(wire: Wire, busybox: str) -> None:
    since = time.time()
    create(wire, busybox, "sleep", "60", name="stopped")
    wire.post("/containers/stopped/start")
    wire.post("/containers/stopped/stop", t="0")
    wire.post("/containers/stopped/restart", t="0")
    wire.post("/containers/stopped/kill", signal="KILL")
    wire.post("/containers/stopped/wait")
    actions = [event["Action"] for event in events(wire, since, time.time() + 0.001, container=["stopped"])]
    assert [action for action in actions if action not in ("kill", "create")] == [
        "start",
        "die",
        "stop",
        "start",
        "restart",
        "die",
    ], actions
    assert "kill" in actions


def test_events_stream_has_headers_at_once_and_filters(cli: Cli, wire: Wire, busybox: str) -> None:
    with wire.stream(
        "GET",
        "/events",
        query={"filters": {"type": ["container"], "event": ["start"]}},
        upgrade=False,
        timeout_s=5,
    ) as stream:
        assert stream.status == 200
        container = create(wire, busybox, "true")
        wire.post(f"/containers/{container}/start")
        text = stream.read_until(b"\n{" if False else container.encode())
        assert b'"start"' in text or b"start" in text
    now = str(int(time.time()) + 1)
    out = cli.ok(
        "events",
        "--since",
        "10m",
        "--until",
        now,
        "--filter",
        f"container={container}",
        "--filter",
        "event=start",
        "--format",
        "{{.Action}} {{.Type}}",
    )
    assert out.splitlines() == ["start container"]


def test_ports_of_a_created_container_are_shown(wire: Wire, busybox: str) -> None:
    bindings = {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}}
    container = create(wire, busybox, "true", HostConfig=bindings, ExposedPorts={"80/tcp": {}})
    host = wire.get(f"/containers/{container}/json")["HostConfig"]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert state(wire, container)["Status"] == "created"
