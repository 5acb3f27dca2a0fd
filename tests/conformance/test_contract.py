"""Every answer against the published definitions of API 1.44 (``tests/conformance/contract.py``).

With ``--engine dockerd`` it is the judge that is tested: Debian's dockerd speaks 1.41, whose few differences are in
``OLDER``. ``MINID_TEST_SOCKET`` takes a daemon that already runs instead of starting one.
"""

import json
import re
import time
from typing import Any

import pytest

from tests.conformance.contract import Contract, find_definitions
from tests.conformance.test_lifecycle import create
from tests.wire import Wire

OLDER = re.compile(  # what 1.41 has beside 1.44, or not yet
    r"'VirtualSize'|'KernelMemory|'BuilderSize'|BuildCache: None|wait 200: Error: None"
)


@pytest.fixture(scope="module")
def contract() -> Contract:
    path = find_definitions()
    if path is None:
        pytest.skip("the Engine API's definitions are not there: set MINID_TEST_SPECS to their folder")
    return Contract(path)


class Checked:
    """A wire whose every answer is held against the contract."""

    def __init__(self, wire: Wire, contract: Contract, tolerated: re.Pattern[str] | None) -> None:
        self.wire, self.contract, self.tolerated = wire, contract, tolerated

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = self.wire(method, path, body, query=query)
        kind = response.headers.get("Content-Type", "")
        data = response.json if kind == "application/json" and response.body else None
        problems = self.contract.problems(method, path, response.status, data)
        if self.tolerated:
            problems = [problem for problem in problems if not self.tolerated.search(problem)]
        assert not problems, "\n".join(["", *problems])
        return data


@pytest.fixture
def checked(wire: Wire, contract: Contract, engine_kind: str) -> Checked:
    return Checked(wire, contract, OLDER if engine_kind == "dockerd" else None)


@pytest.fixture
def containers(wire: Wire, busybox: str, tmp_path: Any) -> dict[str, str]:
    """One with everything, running; one that ended; one only created."""
    rich = create(
        wire,
        busybox,
        "sleep",
        "300",
        name="rich",
        Env=["A=b"],
        Labels={"a": "b"},
        ExposedPorts={"80/tcp": {}},
        StopSignal="SIGINT",
        StopTimeout=3,
        Healthcheck={"Test": ["NONE"]},
        HostConfig={
            "NetworkMode": "none",
            "Binds": [f"{tmp_path}:/bound:ro", "named:/data"],
            "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}}],
            "Tmpfs": {"/run": "size=1m"},
            "Memory": 64 << 20,
            "PidsLimit": 100,
            "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}],
            "CapAdd": ["NET_ADMIN"],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "Init": True,
            "Sysctls": {"net.ipv4.ip_forward": "0"},
            "ExtraHosts": ["a:1.2.3.4"],
        },
    )
    ended = create(wire, busybox, "sh", "-c", "exit 3", name="ended")
    fresh = create(wire, busybox, "true", name="fresh")
    for each in (rich, ended):
        started = wire.post(f"/containers/{each}/start")
        assert started.status == 204, started.body
    wire.post(f"/containers/{ended}/wait")
    return {"rich": rich, "ended": ended, "fresh": fresh}


def test_system(checked: Checked, containers: dict[str, str]) -> None:
    checked("GET", "/info")
    checked("GET", "/version")
    checked("GET", "/_ping")
    checked("HEAD", "/_ping")
    checked("GET", "/system/df")


def test_containers(checked: Checked, containers: dict[str, str]) -> None:
    assert len(checked("GET", "/containers/json", all=1, size=1)) == 3
    for each in containers.values():
        checked("GET", f"/containers/{each}/json", size=1)
    checked("GET", f"/containers/{containers['rich']}/top")
    checked("GET", f"/containers/{containers['rich']}/changes")
    checked("POST", f"/containers/{containers['ended']}/wait")
    checked("POST", f"/containers/{containers['rich']}/update", {"CpuShares": 512})
    checked("POST", f"/containers/{containers['rich']}/rename", name="richer")
    checked("POST", f"/containers/{containers['rich']}/start")
    checked("POST", f"/containers/{containers['rich']}/kill", signal="SIGKILL")
    checked("POST", f"/containers/{containers['rich']}/stop")
    checked("DELETE", f"/containers/{containers['rich']}")
    assert checked("POST", "/containers/prune")["ContainersDeleted"]


def test_container_errors(checked: Checked, containers: dict[str, str], busybox: str) -> None:
    for method, path in (
        ("GET", "/containers/nope/json"),
        ("POST", "/containers/nope/start"),
        ("POST", "/containers/nope/stop"),
        ("POST", "/containers/nope/kill"),
        ("POST", "/containers/nope/wait"),
        ("GET", "/containers/nope/top"),
        ("DELETE", "/containers/nope"),
        ("DELETE", f"/containers/{containers['rich']}"),
        ("POST", f"/containers/{containers['ended']}/kill"),
    ):
        assert checked(method, path)["message"]
    assert checked("POST", "/containers/create", {"Image": "nope"})["message"]
    assert checked("POST", "/containers/create", {"Image": busybox}, name="rich")["message"]
    assert checked("POST", "/containers/create", {"Image": busybox}, name="no good")["message"]


def test_exec(checked: Checked, containers: dict[str, str]) -> None:
    created = checked(
        "POST", f"/containers/{containers['rich']}/exec", {"Cmd": ["true"], "AttachStdout": True, "User": "0"}
    )
    checked("GET", f"/exec/{created['Id']}/json")
    checked("POST", f"/exec/{created['Id']}/start", {"Detach": True})
    checked("GET", f"/exec/{created['Id']}/json")
    checked("GET", f"/containers/{containers['rich']}/json")
    checked("GET", "/exec/nope/json")
    checked("POST", f"/containers/{containers['ended']}/exec", {"Cmd": ["true"]})


def test_images(checked: Checked, busybox: str) -> None:
    images = checked("GET", "/images/json")
    assert images
    checked("GET", f"/images/{images[0]['Id']}/json")
    checked("GET", f"/images/{busybox}/json")
    checked("GET", f"/images/{busybox}/history")
    checked("POST", f"/images/{busybox}/tag", repo="contract", tag="1")
    assert checked("DELETE", "/images/contract:1") == [{"Untagged": "contract:1"}]
    for method, path in (
        ("GET", "/images/nope/json"),
        ("GET", "/images/nope/history"),
        ("DELETE", "/images/nope"),
    ):
        assert checked(method, path)["message"]


def test_volumes(checked: Checked, containers: dict[str, str]) -> None:
    checked("POST", "/volumes/create", {"Name": "contract", "Labels": {"a": "b"}})
    checked("POST", "/volumes/create", {})
    assert len(checked("GET", "/volumes")["Volumes"]) >= 3
    checked("GET", "/volumes/contract")
    checked("GET", "/volumes/nope")
    checked("DELETE", "/volumes/named")
    checked("DELETE", "/volumes/contract")
    checked("DELETE", "/volumes/contract")
    checked("POST", "/volumes/prune")


def test_networks(checked: Checked, containers: dict[str, str], busybox: str) -> None:
    assert {network["Name"] for network in checked("GET", "/networks")} >= {"none", "host"}
    assert containers["rich"] in checked("GET", "/networks/none")["Containers"]
    checked("GET", "/networks/nope")
    checked("DELETE", "/networks/none")
    ipam = {"Config": [{"Subnet": "10.197.0.0/24", "AuxiliaryAddresses": {"x": "10.197.0.9"}}]}
    for name in ("contract", "contract-2"):
        checked("POST", "/networks/create", {"Name": name, "IPAM": ipam, "Labels": {"a": "b"}})
        ipam = {}
    # dockerd says 409 too, which the definition does not know
    assert checked.wire.post("/networks/create", {"Name": "contract", "CheckDuplicate": True}).status == 409
    body = {"Image": busybox, "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "contract"}}
    container = checked("POST", "/containers/create", body)["Id"]
    checked("POST", f"/containers/{container}/start")
    settings = {"Aliases": ["a"], "DriverOpts": {"x": "y"}}
    checked("POST", "/networks/contract-2/connect", {"Container": container, "EndpointConfig": settings})
    checked("POST", "/networks/nope/connect", {"Container": container})
    assert container in checked("GET", "/networks/contract")["Containers"]
    networks = checked("GET", f"/containers/{container}/json")["NetworkSettings"]["Networks"]
    assert set(networks) == {"contract", "contract-2"}
    checked("GET", "/containers/json")
    checked("DELETE", "/networks/contract")
    checked("POST", "/networks/contract-2/disconnect", {"Container": container})
    checked("DELETE", f"/containers/{container}", force="1")
    checked("DELETE", "/networks/contract")
    checked("POST", "/networks/prune")


def test_events(wire: Wire, contract: Contract, containers: dict[str, str]) -> None:
    response = wire("GET", "/events", query={"since": "1", "until": f"{time.time():.9f}"})
    lines = [json.loads(line) for line in response.body.splitlines()]
    assert {line["Action"] for line in lines} >= {"create", "start", "die"}
    for line in lines:
        old = {key: line.pop(key) for key in ("status", "id", "from") if key in line}
        assert old.get("status", line["Action"]) == line["Action"]
        assert contract.check(contract.definition("EventMessage"), line) == []


def test_the_judge_judges(contract: Contract) -> None:
    def problems(body: Any) -> list[str]:
        return contract.problems("POST", "/containers/create", 201, body)

    assert problems({"Id": "x", "Warnings": []}) == []
    assert problems({"Id": "x", "Warnings": None}) != []
    assert problems({"Id": 5, "Warnings": []}) != []
    assert problems({"ID": "x", "Warnings": []}) != []
    assert contract.problems("POST", "/containers/create", 200, {}) != []
    assert contract.problems("GET", "/containers/x/json", 404, {"message": "m", "more": 1}) != []
