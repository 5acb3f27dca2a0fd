"""The whole way with a real multi-layer Debian image, with all three clients: what the issue calls done."""

import shutil
from collections.abc import Iterator

import pytest
from docker import DockerClient

from tests import images
from tests.cli import Cli
from tests.registry import Registry
from tests.wire import Wire

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def pushed(registry: Registry) -> str:
    images.debian().push(registry, "debian", "12")
    return f"{registry.address}/debian:12"


@pytest.fixture
def debian(pushed: str, wire: Wire, tidy: None) -> Iterator[str]:
    """Its name; it is not there before the test and taken away after it."""
    yield pushed
    for container in wire.get("/containers/json", all="1"):
        wire("DELETE", f"/containers/{container['Id']}", query={"force": "1", "v": "1"})
    assert wire("DELETE", f"/images/{pushed}").status in (200, 404)


def test_command_line(cli: Cli, debian: str) -> None:
    out = cli.ok("pull", debian)
    assert f"Status: Downloaded newer image for {debian}" in out
    size = cli.ok("images", "--format", "{{.Size}}", debian)
    assert float(size.removesuffix("MB")) >= 150
    script = "for i in 1 2 3; do echo line $i; sleep 0.1; done; exec sleep 300"
    cli.ok("run", "-d", "--name", "deb", "--network", "none", debian, "bash", "-c", script)
    assert "deb" in cli.ok("ps").splitlines()[1].split()
    with cli.terminal("exec", "-it", "deb", "bash", "--norc") as terminal:
        terminal.expect(r"bash-5.\d# ")
        terminal.send("cat /etc/debian_version; pwd; python3 -c 'print(6*7)'\r")
        terminal.expect(r"12\.\d+\s+/srv\s+42\s")
        terminal.send("exit 7\r")
        assert terminal.wait() == 7
    with cli.popen("logs", "-f", "deb") as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(3)] == [b"line 1\n", b"line 2\n", b"line 3\n"]
        cli.ok("stop", "-t", "0", "deb")
        assert following.wait(20) == 0
    assert cli.ok("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137)")
    assert cli.ok("rm", "deb") == "deb"
    assert (
        cli.ok(
            "run",
            "--rm",
            "--network",
            "none",
            debian,
            "sh",
            "-c",
            "stat -c %u:%s /srv/03/0305.txt; dpkg -l | grep -c ^ii; ping -V >/dev/null 2>&1; perl -e 'print 42'",
        ).split()[0]
        == "4:5400"
    )


def test_docker_py(dockerpy: DockerClient, debian: str) -> None:
    image = dockerpy.images.pull(debian)
    assert image.attrs["Size"] > 150_000_000 and len(image.attrs["RootFS"]["Layers"]) == 3
    container = dockerpy.containers.run(
        debian, ["bash", "-c", "echo up; sleep 300"], detach=True, network_mode="none", name="deb"
    )
    assert [found.name for found in dockerpy.containers.list()] == ["deb"]
    assert next(iter(container.logs(stream=True))) == b"up\n"
    code, output = container.exec_run(["bash", "-c", "tty; stty size; exit 3"], tty=True)
    assert code == 3 and b"/dev/pts/" in output
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    assert dockerpy.containers.list(all=True) == []
