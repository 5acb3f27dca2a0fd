"""The story that users tell: a registry in a container, pushed to as localhost, and then by the host's address.

``-p 5000:5000 registry`` serves plain HTTP. As localhost it just works; by its address it is refused, with a message that says
why and what to do; that is done, SIGHUP, and it works.
"""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import images
from tests.cli import Cli
from tests.conftest import make_cli, pull
from tests.engine import Engine
from tests.registry import PROGRAM, Registry
from tests.system.test_registry_rules import own_address
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason="docker-registry is not installed"),
    pytest.mark.minid_only("the engines of the tests give dockerd no networks"),
]

CONFIG = """version: 0.1
storage: {filesystem: {rootdirectory: /data}, delete: {enabled: true}}
http: {addr: ":5000"}
"""


def registry_image() -> images.Image:
    """Debian's docker-registry with the libraries that it needs, and nothing else."""
    listed = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", listed)
    layer = images.Layer().directory("data").directory("etc").directory("tmp", 0o1777)
    for path in (PROGRAM, *libraries):
        parts = Path(path).parent.parts[1:]
        for number in range(1, len(parts) + 1):
            layer.directory("/".join(parts[:number]))
        layer.file(path.lstrip("/"), Path(path).read_bytes(), 0o755)
    layer.file("etc/config.yml", CONFIG)
    config = {
        "Entrypoint": [PROGRAM],
        "Cmd": ["serve", "/etc/config.yml"],
        "ExposedPorts": {"5000/tcp": {}},
        "Volumes": {"/data": {}},
    }
    return images.Image([layer.done()], config)


@dataclass
class Story:
    engine: Engine
    docker: Cli
    minictl: Cli
    settings: Path
    image: str
    port: int


@pytest.fixture
def story(make_engine: Callable[..., Engine], registry: Registry, tmp_path: Path) -> Iterator[Story]:
    settings = tmp_path / "minid.yaml"
    settings.write_text("{}\n")
    engine = make_engine()
    engine.extra = [*engine.network_flags(), "--config-file", str(settings)]
    engine.start()
    registry_image().push(registry, "registry", form="docker")
    for name in ("registry", "busybox"):
        pull(Wire(engine.socket, "1.44"), f"{registry.address}/{name}:latest")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    docker, minictl = (make_cli(client, engine, tmp_path) for client in ("docker", "minictl"))
    docker.ok("run", "-d", "--name", "registry", "-p", f"{port}:5000", f"{registry.address}/registry")
    serving(docker)
    yield Story(engine, docker, minictl, settings, f"{registry.address}/busybox:latest", port)
    docker.ok("rm", "-f", "-v", "registry")


def serving(docker: Cli) -> None:
    """Until the registry says in its log that it listens."""
    with docker.popen("logs", "-f", "registry") as logs:
        assert logs.stdout is not None and logs.stderr is not None
        for line in logs.stderr:
            if b"listening on" in line:
                logs.kill()
                return
    raise AssertionError("the registry ended: " + docker("logs", "registry").err)


def reloaded(story: Story, text: str) -> None:
    """SIGHUP with another configuration; the log tells when it is in force."""
    story.settings.write_text(text)
    before = story.engine.log.read_text().count("configuration read again")
    os.kill(story.engine.pid, signal.SIGHUP)
    while story.engine.log.read_text().count("configuration read again") == before:
        story.docker.ok("version")


def test_the_story(story: Story) -> None:
    address = own_address()
    docker, minictl = story.docker, story.minictl

    local = f"localhost:{story.port}/team/box:1.0"
    docker.ok("tag", story.image, local)
    assert docker.ok("push", local).count(": Pushed") == 2
    docker.ok("rmi", local)
    assert minictl.ok("run", "--rm", "--network", "none", local, "echo", "from my registry").endswith(
        "from my registry"
    )

    far = f"{address}:{story.port}/team/other:1.0"
    docker.ok("tag", story.image, far)
    for client in (docker, minictl):
        refused = client("push", far)
        assert refused.code == 1
        assert f"registry {address}:{story.port}: server gave HTTP response to HTTPS client" in refused.err
        assert f"--insecure-registry {address}:{story.port}" in refused.err
    tested = minictl("registry", "test", far)
    assert tested.code == 1
    assert "FAILED  TLS    server gave HTTP response to HTTPS client" in tested.out
    assert (
        f"what to do: let it serve HTTPS, or add {address}:{story.port} to insecure-registries" in tested.out
    )

    for allowed in (f"{address}:{story.port}", f"{address}/32"):
        reloaded(story, f"insecure-registries: ['{allowed}']\n")
        good = minictl("registry", "test", far)
        assert good.code == 0, good.out
        assert f"rule: insecure-registries has {allowed}" in good.out
        assert ": digest: sha256:" in docker.ok("push", far)
        reloaded(story, "{}\n")
        assert docker("push", far).code == 1
