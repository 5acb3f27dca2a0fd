"""Many containers, one after the other and at once: nothing is left, nothing grows."""

import concurrent.futures
import os
from pathlib import Path

import pytest

from tests.leaks import Machine
from tests.system.conftest import Running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def life(running: Running, number: int) -> int:
    wire = running.wire
    body = {
        "Image": running.image,
        "Cmd": ["sh", "-c", f"echo {number}; exit {number % 200}"],
        "HostConfig": {"NetworkMode": "none"},
    }
    container = wire.post("/containers/create", body).json["Id"]
    assert wire.post(f"/containers/{container}/start").status == 204
    code = int(wire.post(f"/containers/{container}/wait").json["StatusCode"])
    assert (
        wire("GET", f"/containers/{container}/logs", query={"stdout": "1"}).body[8:] == f"{number}\n".encode()
    )
    assert wire("DELETE", f"/containers/{container}").status == 204
    return code


@pytest.mark.slow
def test_hundreds_of_containers_leave_nothing(running: Running) -> None:
    count = 300 if running.engine.kind == "minid" else 20
    scope = (
        running.engine.data_root,
        running.engine.exec_root,
        running.engine.cgroup_parent,
        running.engine.pid,
    )
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: life(running, number), range(20))) == [
            number % 200 for number in range(20)
        ]
        if running.engine.kind == "minid":
            before = Machine.snapshot(*scope)
            memory = resident_kib(running.engine.pid)
        assert list(pool.map(lambda number: life(running, number), range(count))) == [
            n % 200 for n in range(count)
        ]
    if running.engine.kind == "minid":
        leaks = Machine.leaks(before)
        assert not leaks, "\n".join(leaks)
        assert resident_kib(running.engine.pid) - memory < 8192, "the daemon must not grow by what it has run"


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@pytest.mark.slow
def test_sixty_containers_at_once(running: Running) -> None:
    def start(number: int) -> str:
        body = {"Image": running.image, "Cmd": ["sleep", "300"], "HostConfig": {"NetworkMode": "none"}}
        container = str(running.wire.post("/containers/create", body).json["Id"])
        assert running.wire.post(f"/containers/{container}/start").status == 204
        return container

    count = 60 if running.engine.kind == "minid" else 8
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        started = set(pool.map(start, range(count)))
    assert {entry["Id"] for entry in running.wire.get("/containers/json")} == started
    mounts = Path("/proc/self/mounts").read_text().count(str(running.engine.root))
    assert running.engine.kind != "minid" or mounts == 0, (
        "the host's mount table does not grow with containers"
    )
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = set(
            pool.map(
                lambda c: running.wire("DELETE", f"/containers/{c}", query={"force": "1"}).status, started
            )
        )
    assert statuses == {204}


def test_no_output_is_lost_by_many_clients_at_once(running: Running) -> None:
    """Each ``run`` prints on both streams and ends at once with a code of its own."""

    def run(number: int) -> None:
        script = f"echo out {number}; echo err {number} >&2; exit {number % 100}"
        result = running.docker("run", "--rm", "--network", "none", running.image, "sh", "-c", script)
        assert (result.code, result.out, result.err) == (number % 100, f"out {number}\n", f"err {number}\n")

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(120 if running.engine.kind == "minid" else 12)))


def test_large_output_costs_the_daemon_nothing(running: Running) -> None:
    """100 MB go from the container to the client by the shim; the daemon's memory does not see them."""
    size_bytes = 100_000_000 if running.engine.kind == "minid" else 5_000_000
    before = resident_kib(running.engine.pid)
    command = ("run", "--rm", "--network", "none", running.image, "head", "-c", str(size_bytes), "/dev/zero")
    with running.docker.popen(*command) as process:
        assert process.stdout is not None
        seen = 0
        while part := process.stdout.read(1 << 20):
            seen += len(part)
        assert process.wait() == 0
    assert seen == size_bytes
    assert running.engine.kind != "minid" or resident_kib(running.engine.pid) - before < 4096
