"""The same container life on every storage driver that this machine can have."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import make_cli, pull, run_once
from tests.engine import Engine
from tests.leaks import Machine
from tests.registry import Registry
from tests.tidiness import remove_everything
from tests.wire import Wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=["overlay2", "vfs", "btrfs"])
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path | None]]:
    """A driver's name and, for btrfs, a directory on a small file system of that kind."""
    if request.param != "btrfs":
        yield request.param, None
        return
    place = Path(tmp_path_factory.mktemp("btrfs"))
    image, target = place / "image", place / "mounted"
    target.mkdir()
    with image.open("wb") as file:
        file.truncate(1 << 30)
    made = subprocess.run(["mkfs.btrfs", "-q", str(image)], capture_output=True, text=True, check=False)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(target)], capture_output=True, text=True, check=False
    )
    if made.returncode or mounted.returncode:
        pytest.skip(f"no btrfs here: {made.stderr}{mounted.stderr}")
    yield request.param, target / "engine"
    subprocess.run(["umount", str(target)], check=True)


def test_life(
    storage: tuple[str, Path | None],
    make_engine: Callable[..., Engine],
    registry: Registry,
    client_config: Path,
    engine_kind: str,
) -> None:
    driver, root = storage
    engine = make_engine(root, extra=("--storage-driver", driver))
    engine.start()
    wire = Wire(engine.socket, Wire(engine.socket, "").get("/version")["ApiVersion"])
    docker = make_cli("docker", engine, client_config)
    assert wire.get("/info")["Driver"] == driver
    fresh = Machine.snapshot(engine.data_root, engine.exec_root, engine.cgroup_parent, engine.pid)
    image = f"{registry.address}/busybox:latest"
    pull(wire, image)
    run_once(wire, image)
    scope = (engine.data_root, engine.exec_root, engine.cgroup_parent, engine.pid)
    before = Machine.snapshot(*scope)
    docker.ok(
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "none",
        image,
        "sh",
        "-c",
        "echo mine > /etc/replaced; sleep 300",
    )
    docker.ok("run", "-d", "--name", "two", "--network", "none", image, "sleep", "300")
    assert (
        docker.ok(
            "exec",
            "two",
            "sh",
            "-c",
            "cat /etc/replaced /etc/hardlink; ls /opaque; ls /etc/removed 2>&1 | wc -l",
        )
        == "new\nold\nnew\n1"
    )
    assert docker.ok("exec", "two", "stat", "-c", "%a %u:%g", "/var/data/seed") == "640 1000:2000"
    docker.ok("exec", "one", "sh", "-c", "rm /bin/nuke; mkdir /new; echo x > /new/file")
    assert {"D /bin/nuke", "A /new", "A /new/file", "C /etc/replaced"} <= set(
        docker.ok("diff", "one").splitlines()
    )
    with tarfile.open(fileobj=io.BytesIO(docker("cp", "one:/new", "-").raw_out)) as tar:
        assert tar.getnames() == ["new", "new/file"]
    engine.restart()
    assert docker.ok("exec", "one", "cat", "/etc/replaced") == "mine"
    docker.ok("restart", "-t", "0", "one")
    assert docker.ok("exec", "one", "cat", "/new/file") == "x"
    assert wire.get("/containers/json", size="1")[0]["SizeRootFs"] > 1_000_000
    remove_everything(wire)
    if engine_kind == "minid":
        leaks = Machine.leaks(before, daemon_pid=engine.pid)
        assert not [line for line in leaks if not line.startswith("processes:")], "\n".join(leaks)
    assert wire("DELETE", f"/images/{image}").status == 200
    if engine_kind == "minid":
        left = [
            line
            for line in Machine.leaks(fresh, daemon_pid=engine.pid)
            if line.startswith(("files:", "mounts:"))
        ]
        roots = (f"{engine.data_root}/snapshots/", f"{engine.data_root}/blobs/")
        assert not [
            line for line in left if any(root in line and len(line.split(root)[1]) > 20 for root in roots)
        ], left


@pytest.mark.minid_only("dockerd takes its own first choice without a word")
def test_a_driver_that_cannot_work_says_why(make_engine: Callable[..., Engine]) -> None:
    from tests.engine import EngineFailed

    engine = make_engine(extra=("--storage-driver", "btrfs"))
    with pytest.raises(EngineFailed, match="btrfs"):
        engine.start()
