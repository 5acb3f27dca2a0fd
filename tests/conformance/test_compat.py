"""Bugs that compatible engines had (field notes § 4, Podman's compat API), each as a test.

The numbers are those of the list; what belongs to build, push, networks or stats comes with those issues. Wait, events,
framing, resize, 404s and exec errors have their own files; here is the rest.
"""

import json
import re
from typing import Any

import pytest

from tests.cli import Cli
from tests.conformance.test_lifecycle import Wait, create
from tests.wire import Wire

unchecked_by_20_10 = pytest.mark.minid_only("Docker 20.10, Debian's, does not check it; Docker 23 does")


def test_03_network_mode_default_is_accepted_and_kept(wire: Wire, busybox: str) -> None:
    response = wire.post(
        "/containers/create", {"Image": busybox, "Cmd": ["true"], "HostConfig": {"NetworkMode": "default"}}
    )
    assert response.status == 201
    assert wire.get(f"/containers/{response.json['Id']}/json")["HostConfig"]["NetworkMode"] in (
        "default",
        "bridge",
    )
    nothing = wire.post("/containers/create", {"Image": busybox, "Cmd": ["true"]})
    assert nothing.status == 201
    assert wire.get(f"/containers/{nothing.json['Id']}/json")["HostConfig"]["NetworkMode"] in (
        "default",
        "bridge",
    )


def test_05_state_names(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "sleep", "60", name="states")

    def listed() -> str:
        return str(wire.get("/containers/json", all="1")[0]["State"])

    assert listed() == "created"
    wire.post("/containers/states/start")
    assert listed() == "running"
    wire.post("/containers/states/pause")
    assert listed() == "paused"
    wire.post("/containers/states/unpause")
    wire.post("/containers/states/kill")
    wire.post("/containers/states/wait")
    assert listed() == "exited"


def test_06_created_is_rfc3339_and_unix_in_lists(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "true", name="when")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", wire.get("/containers/when/json")["Created"]
    )
    assert isinstance(wire.get("/containers/json", all="1")[0]["Created"], int)
    assert isinstance(wire.get("/images/json")[0]["Created"], int)
    assert re.match(r"\d{4}-\d\d-\d\dT", wire.get(f"/images/{busybox}/json")["Created"])


def test_07_08_image_ids_have_their_prefix(wire: Wire, busybox: str) -> None:
    image = wire.get(f"/images/{busybox}/json")["Id"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", image)
    create(wire, busybox, "true", name="prefixed")
    assert wire.get("/containers/prefixed/json")["Image"] == image
    assert wire.get("/containers/json", all="1")[0]["ImageID"] == image
    assert image in [entry["Id"] for entry in wire.get("/images/json")]
    for reference in (image, image[7:], image[7:19], image[:19]):
        assert wire.get(f"/images/{reference}/json")["Id"] == image
        assert create(wire, reference, "true")


def test_09_empty_lists_are_lists_and_null_is_null(wire: Wire, busybox: str) -> None:
    assert wire("GET", "/containers/json").body.strip() == b"[]"
    volumes = wire.get("/volumes")
    assert volumes["Volumes"] in ([], None) and "Warnings" in volumes
    response = wire(
        "POST",
        "/containers/create",
        {"Image": busybox, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}},
    )
    assert response.json["Warnings"] == []
    seen = wire.get(f"/containers/{response.json['Id']}/json")
    host, config = seen["HostConfig"], seen["Config"]
    assert (host["PidsLimit"], host["OomKillDisable"], host["MemorySwappiness"]) == (None, False, None) or (
        host["PidsLimit"],
        host["MemorySwappiness"],
    ) == (None, None)
    for field in (
        "CapAdd",
        "CapDrop",
        "Binds",
        "GroupAdd",
        "ExtraHosts",
        "SecurityOpt",
        "VolumesFrom",
        "Links",
    ):
        assert host[field] is None, field
    assert (
        host["PortBindings"] in ({}, None)
        and seen["Mounts"] == []
        and config["Labels"] == {}
        and config["OnBuild"] is None
    )
    assert wire.get("/images/json")[0]["Containers"] == -1 and wire.get("/images/json")[0]["SharedSize"] == -1


def test_12_volume_creation_is_idempotent_and_may_be_unnamed(wire: Wire, engine: Any) -> None:
    first = wire.post("/volumes/create", {"Name": "same", "Labels": {"a": "b"}})
    second = wire.post("/volumes/create", {"Name": "same"})
    assert (first.status, second.status) == (201, 201)
    assert second.json["CreatedAt"] == first.json["CreatedAt"] and second.json["Labels"] == {"a": "b"}
    unnamed = wire.post("/volumes/create", {})
    assert unnamed.status == 201 and re.fullmatch("[0-9a-f]{64}", unnamed.json["Name"])
    bad = wire.post("/volumes/create", {"Name": "../escape"})
    assert bad.status == 400 and "includes invalid characters for a local volume name" in bad.message
    driver = wire.post("/volumes/create", {"Name": "x", "Driver": "nosuch"})
    assert driver.status in (400, 404, 500)


def test_13_binds_make_their_sources(wire: Wire, busybox: str, tmp_path: Any) -> None:
    create(wire, busybox, "true", name="bound", HostConfig={"Binds": [f"{tmp_path}/new/dir:/x"]})
    wire.post("/containers/bound/start")
    wire.post("/containers/bound/wait")
    assert (tmp_path / "new/dir").is_dir()


def test_14_mounts_keep_their_paths(wire: Wire, busybox: str, tmp_path: Any) -> None:
    mounts = [{"Type": "bind", "Source": f"{tmp_path}/", "Target": "/trailing/"}]
    create(wire, busybox, "ls", "-d", "/trailing", name="slash", HostConfig={"Mounts": mounts})
    assert wire.post("/containers/slash/start").status == 204
    assert wire.post("/containers/slash/wait").json["StatusCode"] == 0
    (mount,) = wire.get("/containers/slash/json")["Mounts"]
    assert mount["Destination"].rstrip("/") == "/trailing" and mount["Source"].rstrip("/") == str(tmp_path)
    duplicate = {"Mounts": [{"Type": "volume", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x"}]}
    refused = wire.post("/containers/create", {"Image": busybox, "Cmd": ["true"], "HostConfig": duplicate})
    assert refused.status == 400 and "Duplicate mount point: /x" in refused.message
    for bad in (
        {"Type": "nonsense", "Target": "/x"},
        {"Type": "volume", "Target": "relative"},
        {"Type": "bind", "Target": "/x"},
    ):
        refused = wire.post(
            "/containers/create", {"Image": busybox, "Cmd": ["true"], "HostConfig": {"Mounts": [bad]}}
        )
        assert refused.status == 400 and "invalid mount" in refused.message.lower(), refused.body


def test_15_tmpfs_options(cli: Cli, busybox: str) -> None:
    out = cli.ok(
        "run",
        "--rm",
        "--network",
        "none",
        "--tmpfs",
        "/t:rw,size=64k,uid=5,gid=6,mode=1777,noexec",
        busybox,
        "sh",
        "-c",
        "stat -c '%u:%g %a' /t; grep ' /t ' /proc/mounts",
    )
    owner, mount = out.splitlines()
    assert owner == "5:6 1777" and "size=64k" in mount


def test_16_an_empty_entrypoint_clears_the_images(wire: Wire, variant: Any) -> None:
    for entrypoint in ([], [""]):
        body = {
            "Image": variant("entrypoint"),
            "Entrypoint": entrypoint,
            "Cmd": ["true"],
            "HostConfig": {"NetworkMode": "none"},
        }
        container = wire.post("/containers/create", body).json["Id"]
        seen = wire.get(f"/containers/{container}/json")
        if entrypoint == [""]:
            assert (seen["Path"], seen["Args"], seen["Config"]["Entrypoint"]) == ("true", [], None)
    kept = wire.post(
        "/containers/create", {"Image": variant("entrypoint"), "Entrypoint": None, "Cmd": ["x"]}
    ).json["Id"]
    assert wire.get(f"/containers/{kept}/json")["Config"]["Entrypoint"] == ["/bin/echo", "entry"]
    as_text = wire.post(
        "/containers/create", {"Image": variant("entrypoint"), "Entrypoint": "ls", "Cmd": "-l"}
    ).json["Id"]
    assert wire.get(f"/containers/{as_text}/json")["Config"]["Entrypoint"] == ["ls"], (
        "text stands for a list of one"
    )


def test_17_resources_come_back(wire: Wire, busybox: str) -> None:
    host = {
        "NanoCpus": 1_500_000_000,
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        "DeviceCgroupRules": ["c 1:3 rwm"],
        "Memory": 32 << 20,
        "MemoryReservation": 16 << 20,
        "PidsLimit": -1,
    }
    container = create(wire, busybox, "true", HostConfig=host)
    seen = wire.get(f"/containers/{container}/json")["HostConfig"]
    for field in ("NanoCpus", "Ulimits", "DeviceCgroupRules", "Memory", "MemoryReservation"):
        assert seen[field] == host[field], field
    assert seen["MemorySwap"] == 64 << 20, "twice the memory when not given"
    assert seen["PidsLimit"] in (-1, None, 0)


@pytest.mark.parametrize(
    "host",
    [
        {"NanoCpus": 10**15},
        {"Memory": 1024},
        {"Memory": 1 << 26, "MemorySwap": 1 << 25},
        {"MemorySwap": 1 << 26},
        {"CpusetCpus": "9999"},
        {"CpusetCpus": "nonsense"},
        {"ShmSize": -1},
        {"CpuPeriod": 5},
        {"OomScoreAdj": 5000},
        {"RestartPolicy": {"Name": "nonsense"}},
        {"Ulimits": [{"Name": "nonsense", "Soft": 1, "Hard": 1}]},
        {"LogConfig": {"Type": "nonsense"}},
        {"IpcMode": "nonsense"},
        pytest.param({"PidMode": "nonsense"}, marks=unchecked_by_20_10),
        pytest.param({"UTSMode": "nonsense"}, marks=unchecked_by_20_10),
        {"Runtime": "nonsense"},
        {"Binds": ["a:b:c:d"]},
        {"Binds": ["/a:relative"]},
        {"Binds": ["/a:/"]},
        {"Binds": ["/a:/b:nonsense"]},
        {"Tmpfs": {"relative": ""}},
        {"SecurityOpt": ["nonsense=1"]},
        {"SecurityOpt": ["seccomp={"]},
        {"ExtraHosts": ["no-address"]},
        {"GroupAdd": ["no-such-group"]},
        {"Sysctls": {"kernel.nonsense": "1"}},
    ],
    ids=json.dumps,
)
def test_17_wrong_values_are_refused(wire: Wire, busybox: str, host: dict[str, Any]) -> None:
    """At creation with 400; what Docker only finds at the start fails there, and never leaves it running."""
    response = wire.post(
        "/containers/create",
        {"Image": busybox, "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "none", **host}},
    )
    if response.status == 201:
        response = wire.post(f"/containers/{response.json['Id']}/start")
    assert response.status in (400, 404, 409, 500), (response.status, response.body)
    assert response.message and "Traceback" not in response.message
    assert wire.get("/containers/json") == []


def test_17_the_daemon_is_well_afterwards(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "true", name="well")
    assert wire.post("/containers/well/start").status == 204


def test_18_healthcheck_is_kept(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(
        "create",
        "--name",
        "healthy",
        "--health-cmd",
        "test -e '/a b'",
        "--health-interval",
        "5s",
        "--network",
        "none",
        busybox,
        "true",
    )
    assert wire.get("/containers/healthy/json")["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "test -e '/a b'"],
        "Interval": 5_000_000_000,
    }
    docker_cli.ok("create", "--name", "unchecked", "--no-healthcheck", "--network", "none", busybox, "true")
    assert wire.get("/containers/unchecked/json")["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_20_lists_have_ports_and_networks(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "true")
    (entry,) = wire.get("/containers/json", all="1")
    assert entry["Ports"] == [] and "none" in entry["NetworkSettings"]["Networks"]


def test_23_early_exec_errors_are_errors(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "sleep", "60", name="box")
    wire.post("/containers/box/start")
    exec_id = wire.post("/containers/box/exec", {"Cmd": ["no-such-command"], "AttachStdout": True}).json["Id"]
    response = wire.post(f"/exec/{exec_id}/start", {})
    assert b"executable file not found" in response.body
    assert wire.get(f"/exec/{exec_id}/json")["ExitCode"] in (126, 127)
    assert wire.get(f"/exec/{exec_id}/json")["Running"] is False
    detached = wire.post("/containers/box/exec", {"Cmd": ["no-such-command"]}).json["Id"]
    assert wire.post(f"/exec/{detached}/start", {"Detach": True}).status in (400, 404, 500)


def test_24_attach_before_start_loses_nothing(wire: Wire, busybox: str) -> None:
    for _ in range(5):
        container = create(wire, busybox, "echo", "first words")
        with wire.stream(
            "POST", f"/containers/{container}/attach", query={"stream": "1", "stdout": "1"}
        ) as stream:
            waiting = Wait(wire, container, "next-exit")
            wire.post(f"/containers/{container}/start")
            assert stream.read_all() == b"\x01\0\0\0\0\0\0\x0cfirst words\n"
        assert waiting.result()["StatusCode"] == 0


def test_28_stop_timeout_minus_one_waits(wire: Wire, busybox: str) -> None:
    script = "trap 'sleep 0.3; exit 2' TERM; echo ready; while :; do sleep 0.02; done"
    create(wire, busybox, "sh", "-c", script, name="patient", StopTimeout=0)
    wire.post("/containers/patient/start")
    with wire.stream(
        "GET", "/containers/patient/logs", query={"follow": "1", "stdout": "1"}, upgrade=False
    ) as stream:
        stream.read_until(b"ready")
    assert wire("POST", "/containers/patient/stop", query={"t": "-1"}).status == 204
    assert wire.get("/containers/patient/json")["State"]["ExitCode"] == 2
    assert wire("POST", "/containers/patient/stop", query={"t": "x"}).status in (304, 400, 500)


def test_unknown_fields_and_case_are_forgiven(wire: Wire, busybox: str) -> None:
    """Go's decoder ignores what it does not know and matches names without case; clients rely on both."""
    body = {"image": busybox, "cmd": ["true"], "NoSuchField": {"x": 1}, "hostconfig": {"networkmode": "none"}}
    response = wire.post("/containers/create", body)
    assert response.status == 201, response.body
    assert wire.get(f"/containers/{response.json['Id']}/json")["HostConfig"]["NetworkMode"] == "none"


def test_bodies_are_not_needed_and_head_has_none(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "true")
    assert wire(
        "POST", f"/containers/{container}/start", b"", headers={"Content-Type": "text/plain"}
    ).status in (204, 400)
    started = wire.post(f"/containers/{container}/start", {})
    assert started.status in (204, 304, 400), "an old client sends a HostConfig"


def test_names_of_go_templates_in_labels_and_env_are_untouched(wire: Wire, busybox: str) -> None:
    odd = {"a{{.b}}": 'ü\\"$(x)`y`\t', "": "empty name"}
    container = create(
        wire, busybox, "env", Labels={"a{{.b}}": odd["a{{.b}}"]}, Env=['ODD=ü "q" $x\ty', "NOVALUE"]
    )
    seen = wire.get(f"/containers/{container}/json")["Config"]
    assert seen["Labels"] == {"a{{.b}}": odd["a{{.b}}"]} and seen["Env"][0] == 'ODD=ü "q" $x\ty'


def test_nul_bytes_and_surrogates_are_refused(wire: Wire, busybox: str) -> None:
    for command in (b'["a\\u0000b"]', b'["\\ud800"]'):
        body = b'{"Image": "%s", "Cmd": %s, "HostConfig": {"NetworkMode": "none"}}' % (
            busybox.encode(),
            command,
        )
        response = wire("POST", "/containers/create", body, headers={"Content-Type": "application/json"})
        if response.status == 201:
            response = wire.post(f"/containers/{response.json['Id']}/start")
        assert response.status in (400, 500, 404) and response.message
