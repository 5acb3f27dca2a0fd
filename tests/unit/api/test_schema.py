"""Docker's JSON and the domain's records: names, nulls, times, texts."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.api.routing import Router, Routes, compile_template
from minid.api.schema import container as schema
from minid.api.schema import image as image_schema
from minid.api.schema.event import without_tag
from minid.api.schema.naming import camel, fixed_timestamp, parse_timestamp, timestamp, write
from minid.api.schema.path import go_file_mode
from minid.api.server import check_version, split_version
from minid.containers import lifecycle
from minid.containers.model import ContainerConfig, HostConfig, Mount, State
from minid.containers.networking import Joined
from minid.errors import InvalidParameter
from minid.network.model import Network
from tests.unit.api.double import container

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("oom_score_adj", "OomScoreAdj"),
        ("uts_mode", "UTSMode"),
        ("container_id_file", "ContainerIDFile"),
        ("dns_search", "DnsSearch"),
        ("cpuset_cpus", "CpusetCpus"),
        ("host_ip", "HostIp"),
        ("readonly_rootfs", "ReadonlyRootfs"),
        ("cgroupns_mode", "CgroupnsMode"),
        ("tty", "Tty"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert camel(name) == expected


def test_create_request_round_trip() -> None:
    body: dict[str, Any] = {
        "Image": "busybox",
        "Cmd": ["sh"],
        "Env": ["A=b"],
        "Labels": {"UPPER.case": "x"},
        "Healthcheck": {"Test": ["NONE"], "StartPeriod": 5},
        "HostConfig": {
            "Binds": ["/a:/b"],
            "Memory": 5,
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": None},
            "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1}}],
            "UTSMode": "host",
        },
        "NetworkingConfig": {"EndpointsConfig": {"none": {}}},
    }
    request = schema.create_request(body, "/name", "linux/amd64")
    assert (request.name, request.platform) == ("name", "linux/amd64")
    assert request.host_config.memory == 5
    assert request.host_config.uts_mode == "host"
    assert request.host_config.network_mode == "default"
    assert request.host_config.mounts is not None
    assert request.host_config.mounts[0].tmpfs_options is not None
    assert dict(request.config.labels) == {"UPPER.case": "x"}
    shown = schema.host_config(request.host_config)
    for key in ("Binds", "Memory", "Devices", "Mounts", "UTSMode"):
        assert shown[key] == body["HostConfig"][key]
    assert shown["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None}
    assert schema.config(request.config)["Healthcheck"] == {"Test": ["NONE"], "StartPeriod": 5}


def test_keys_in_any_case_and_single_strings_as_go_reads_them() -> None:
    request = schema.create_request(
        {
            "image": "a",
            "cmd": "ls",
            "ENTRYPOINT": "sh",
            "hostconfig": {"memory": 7, "mounts": [{"target": "/x"}]},
        },
        "",
        "",
    )
    assert (request.config.cmd, request.config.entrypoint) == (("ls",), ("sh",))
    assert request.host_config.memory == 7
    assert request.host_config.mounts == (Mount(target="/x"),)


def test_an_empty_entrypoint_is_not_the_same_as_none() -> None:
    assert schema.create_request({"Image": "a", "Entrypoint": []}, "", "").config.entrypoint == ()
    assert schema.create_request({"Image": "a", "Entrypoint": None}, "", "").config.entrypoint is None


def test_values_that_mean_not_given() -> None:
    given = {"NetworkMode": "", "MemorySwappiness": -1, "PidsLimit": 0}
    config = schema.host_config_from(given)
    assert (config.network_mode, config.memory_swappiness, config.pids_limit) == ("default", None, None)


def test_update_request() -> None:
    resources, policy = schema.update_request({"CpuShares": 5, "RestartPolicy": {"Name": "always"}})
    assert resources.cpu_shares == 5
    assert policy is not None
    assert policy.name == "always"
    assert schema.update_request({"Memory": 1, "RestartPolicy": {}})[1] is None


def test_host_config_defaults_as_dockerd_shows_them() -> None:
    shown = schema.host_config(HostConfig())
    nulls = {key for key, value in shown.items() if value is None}
    assert nulls >= {"Binds", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "ExtraHosts", "GroupAdd", "Links"}
    assert nulls >= {
        "SecurityOpt",
        "Devices",
        "Ulimits",
        "MemorySwappiness",
        "PidsLimit",
        "BlkioWeightDevice",
    }
    for absent in ("Mounts", "Tmpfs", "Sysctls", "StorageOpt", "Annotations", "Runtime", "Init"):
        assert absent not in shown
    assert shown["ConsoleSize"] == [0, 0]
    assert "KernelMemoryTCP" not in shown


def test_config_defaults_as_dockerd_shows_them() -> None:
    shown = schema.config(ContainerConfig())
    assert set(shown) == set(image_schema.CONFIG_DEFAULTS)
    assert {key for key, value in shown.items() if value is None} == {
        "Env",
        "Cmd",
        "Volumes",
        "Entrypoint",
        "OnBuild",
    }
    assert schema.config(ContainerConfig(stop_timeout=0))["StopTimeout"] == 0


def test_inspect_and_list_agree_with_the_state() -> None:
    running = container()
    joined = [Joined("none", {}, Network("n" * 64, "none", "null", 0), None)]
    shown = schema.inspect(running, paths={}, graph_driver={}, joined=joined, sandbox=None, size=None)
    assert (shown["Name"], shown["Image"], shown["ExecIDs"]) == ("/c1", running.image_id, None)
    assert shown["Created"] == "2023-11-14T22:13:20.123456789Z"
    assert shown["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert "Health" not in shown["State"]
    assert "SizeRw" not in shown
    endpoint = shown["NetworkSettings"]["Networks"]["none"]
    assert endpoint["NetworkID"] == "n" * 64
    assert len(endpoint["EndpointID"]) == 64
    json.dumps(shown)
    line = schema.summary(
        running,
        image="busybox",
        now_ns=running.state.started_at_ns + SECOND,
        joined=joined,
        sandbox=None,
        size=None,
    )
    assert (line["Names"], line["Status"], line["Ports"]) == (["/c1"], "Up 1 second", [])
    assert (line["State"], line["Command"]) == ("running", "sh")
    assert "SizeRw" not in line


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State("created"), "Created"),
        (State("running", started_at_ns=1), "Up 2 minutes"),
        (State("paused", started_at_ns=1), "Up 2 minutes (Paused)"),
        (State("restarting", started_at_ns=1, finished_at_ns=1, exit_code=3), "Restarting (3) 2 minutes ago"),
        (State("exited", started_at_ns=1, finished_at_ns=1, exit_code=137), "Exited (137) 2 minutes ago"),
        (State("removing", started_at_ns=1), "Removal In Progress"),
        (State("dead", started_at_ns=1), "Dead"),
        (State("exited", exit_code=127), "Created"),
    ],
)
def test_status(state: State, text: str) -> None:
    assert lifecycle.status_text(state, 120 * SECOND + 1) == text
    flags = schema.state(state)
    assert flags["Running"] is (state.status in ("running", "paused", "restarting"))
    assert flags["Restarting"] is (state.status == "restarting")


def test_command_line() -> None:
    assert schema.command_line("sh", ()) == "sh"
    assert schema.command_line("sh", ("-c", "a b")) == "sh -c 'a b'"


@given(st.integers(min_value=1, max_value=2**62))
def test_times_survive(time_ns: int) -> None:
    seconds, rest = divmod(time_ns, SECOND)
    assert parse_timestamp(f"{seconds}.{rest:09d}", "since") == time_ns or seconds > 99_999_999_999
    if seconds < 253_402_300_800:  # year 10000
        assert timestamp(time_ns).rstrip("Z").split(".")[0] == fixed_timestamp(time_ns).split(".")[0]


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("", 0),
        ("0", 0),
        ("1136073600.000000001", 1136073600000000001),
        ("1136073600", 1136073600000000000),
        ("1.5", 1_500_000_000),
        ("2006-01-02T15:04:05Z", 1136214245000000000),
        ("2006-01-02T15:04:05.5+01:00", 1136210645500000000),
    ],
)
def test_parse_timestamp(text: str, time_ns: int) -> None:
    assert parse_timestamp(text, "since") == time_ns


@pytest.mark.parametrize("text", ["x", "1.x", "1e5", "٣", "999999999999", "-", "inf", "nan"])
def test_bad_timestamps(text: str) -> None:
    with pytest.raises(InvalidParameter, match="since"):
        parse_timestamp(text, "since")


def test_timestamps_drop_trailing_zeros_as_go_does() -> None:
    assert timestamp(0) == "0001-01-01T00:00:00Z"
    assert timestamp(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert timestamp(1_000_000_000) == "1970-01-01T00:00:01Z"
    assert fixed_timestamp(1_000_000_000) == "1970-01-01T00:00:01.000000000Z"


@pytest.mark.parametrize(
    ("mode", "go_mode"), [(0o120777, 134218239), (0o040755, 2147484141), (0o100644, 420), (0o104755, 8389101)]
)
def test_go_file_modes(mode: int, go_mode: int) -> None:
    assert go_file_mode(mode) == go_mode


def test_versions() -> None:
    assert split_version("/v1.41/a/b") == ("1.41", "/a/b")
    assert split_version("/volumes") == ("1.44", "/volumes")
    assert split_version("/version") == ("1.44", "/version")
    check_version("1.24")
    for bad in ("1.9", "1", "2.0", "1.100", "0"):
        with pytest.raises(InvalidParameter):
            check_version(bad)


def test_routes() -> None:
    routes = Routes()

    @routes.get("/images/{name:.*}/json")
    async def one(call: Any) -> None: ...

    @routes.get("/images/json")
    async def two(call: Any) -> None: ...

    router = Router(routes)
    assert router.find("GET", "/images/json").route.operation == "two"  # type: ignore[union-attr]
    found = router.find("GET", "/images/127.0.0.1:5000/a/b@sha256:1/json")
    assert found is not None
    assert found.parameters == {"name": "127.0.0.1:5000/a/b@sha256:1"}
    assert router.find("POST", "/images/json") is None
    assert router.find("GET", "images") is None
    assert compile_template("/a.b/{id}").fullmatch("/axb/1") is None


@pytest.mark.parametrize(
    ("name", "bare"),
    [("busybox:1", "busybox"), ("h:5000/busybox", "h:5000/busybox"), ("h:5000/b:1", "h:5000/b"), ("b", "b")],
)
def test_without_tag(name: str, bare: str) -> None:
    assert without_tag(name) == bare


def test_progress_bar() -> None:
    assert image_schema.bar(50, 100).startswith("[" + "=" * 25 + ">" + " " * 24 + "]")
    assert image_schema.bar(100, 100).startswith("[" + "=" * 50 + "]")
    assert image_schema.human_size(1_234_567) == "1.235MB"


def test_every_field_of_a_record_has_a_name_that_reads_back() -> None:
    config = HostConfig(
        **{field.name: getattr(HostConfig(), field.name) for field in dataclasses.fields(HostConfig)}
    )
    assert schema.host_config_from(write(config)) == config
