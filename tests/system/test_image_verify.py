"""``minictl image verify`` with a real daemon, real layers on every storage driver, and real damage."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.conftest import make_cli, pull
from tests.engine import Engine
from tests.images import Image, Layer
from tests.registry import Descriptor, Registry
from tests.system.test_storage_drivers import storage  # noqa: F401  (a fixture)
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("it looks into minid's data root"),
]


@pytest.fixture
def started(
    storage: tuple[str, Path | None],  # noqa: F811
    make_engine: Callable[..., Engine],
    registry: Registry,
    client_config: Path,
) -> tuple[Engine, Cli, str]:
    driver, root = storage
    engine = make_engine(root, extra=("--storage-driver", driver))
    engine.start()
    name = f"{registry.address}/busybox:latest"
    pull(Wire(engine.socket, "1.44"), name)
    return engine, make_cli("minictl", engine, client_config), name


def blob(engine: Engine, digest: str) -> Path:
    return engine.data_root / "blobs" / digest.replace(":", "/")


def unpacked(engine: Engine, docker: Cli, name: str, number: int) -> Path:
    inspected = json.loads(docker.ok("inspect", name))[0]
    (driver,) = (path for path in (engine.data_root / "snapshots").iterdir() if (path / "layers").is_dir())
    return driver / "layers" / inspected["RootFS"]["Layers"][number].removeprefix("sha256:") / "fs"


def test_damage(started: tuple[Engine, Cli, str], registry: Registry) -> None:
    engine, minictl, name = started
    good = minictl.ok("image", "verify", name)
    assert good.endswith("6 checked, nothing is wrong"), good
    assert good.count("unpacked layer") == 2 and good.count("re-hashed") == 4
    assert minictl.ok("image", "verify", "--all", "--quiet") == "6 checked, nothing is wrong"

    config = json.loads(minictl.ok("inspect", name))[0]["Id"]
    accept = (
        "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    )
    manifest = json.loads(registry.request("GET", "/v2/busybox/manifests/latest", Accept=accept)[2])
    base, top = (blob(engine, layer["digest"]) for layer in manifest["layers"])
    originals = {path: path.read_bytes() for path in (base, top, blob(engine, config))}
    data = bytearray(originals[base])
    data[len(data) // 2] ^= 0x40
    base.write_bytes(data)  # a byte flipped
    os.truncate(top, 10)
    blob(engine, config).unlink()
    found = minictl("image", "verify", name)
    assert found.code == 1
    assert found.out.count("DAMAGED") == 2 and found.out.count("MISSING") == 1, found.out
    assert "3 missing or damaged" in found.out and "what to do: minictl image verify --repair" in found.out
    lines = [
        json.loads(line) for line in minictl("image", "verify", "--format", "json", name).out.splitlines()
    ]
    assert {line["State"] for line in lines} == {"ok", "damaged", "missing", "unchecked"}

    saved = minictl("save", "-o", os.devnull, name)
    assert saved.code != 0 and "verify --repair" in saved.err + saved.out

    repaired = minictl("image", "verify", "--repair", name)
    assert repaired.code == 0, repaired.out
    assert repaired.out.count("repaired") == 3 and repaired.out.count("fetched from") == 3
    assert {path: path.read_bytes() for path in originals} == originals
    assert minictl.ok("image", "verify", "-a", "-q").endswith("nothing is wrong")
    assert minictl.ok("run", "--rm", "--network", "none", name, "cat", "/etc/replaced") == "new"


def test_unpacked_layers(started: tuple[Engine, Cli, str]) -> None:
    engine, minictl, name = started
    tree = unpacked(engine, minictl, name, 0)
    busybox = tree / "bin/busybox"
    status = busybox.stat()
    with busybox.open("r+b") as file:  # a bit of a file, with its time put back: only its content tells
        file.seek(status.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(busybox, ns=(status.st_atime_ns, status.st_mtime_ns))
    (tree / "etc/passwd").chmod(0o666)
    (tree / "home/app/planted").write_text("#!/bin/sh\n")
    (tree / "bin/ls").unlink()
    os.chown(tree / "root", 1000, 1000)
    found = minictl("image", "verify", "-q", name)
    assert found.code == 1
    for told in (
        "/bin/busybox has another content",
        "/etc/passwd has the mode 666, not 644",
        "/home/app/planted is not in the layer",
        "/bin/ls is missing",
        "/root is owned by 1000:1000, not 0:0",
    ):
        assert told in found.out, found.out
    assert "1 missing or damaged" in found.out

    minictl.ok("create", "--name", "standing", "--network", "none", name)
    refused = minictl("image", "verify", "-q", "--repair", name)
    assert refused.code == 1 and "containers stand on it: remove them first" in refused.out
    minictl.ok("rm", "standing")
    repaired = minictl("image", "verify", "-q", "--repair", name)
    assert repaired.code == 0 and "unpacked again" in repaired.out, repaired.out
    assert not (tree / "home/app/planted").exists()
    assert minictl.ok("image", "verify", name).endswith("nothing is wrong")
    assert minictl.ok("run", "--rm", "--network", "none", name, "ls", "/home") == "app"
    assert not list((tree.parents[2] / "aside").iterdir())


def test_an_unpacked_layer_that_is_gone(started: tuple[Engine, Cli, str]) -> None:
    engine, minictl, name = started
    if "btrfs" in str(unpacked(engine, minictl, name, 1)):
        return  # a subvolume is not removed by accident
    layer = unpacked(engine, minictl, name, 1).parent
    layer.rename(engine.root / "away")
    found = minictl("image", "verify", "-q", name)
    assert found.code == 1 and "it is not unpacked" in found.out
    assert minictl("image", "verify", "-q", "--repair", name).code == 0
    assert minictl.ok("run", "--rm", "--network", "none", name, "cat", "/etc/replaced") == "new"


def test_made_here(started: tuple[Engine, Cli, str]) -> None:
    """A container's image: its layer has a blob of its own, and no registry to fetch it from."""
    engine, minictl, name = started
    minictl.ok("run", "--name", "changed", "--network", "none", name, "sh", "-c", "echo more > /etc/more")
    minictl.ok("commit", "changed", "made:1")
    minictl.ok("rm", "changed")
    assert minictl.ok("image", "verify", "made:1").endswith("nothing is wrong")
    (unpacked(engine, minictl, "made:1", 2) / "etc/more").write_text("less\n")
    found = minictl("image", "verify", "-q", "made:1")
    assert found.code == 1 and "/etc/more" in found.out
    assert minictl("image", "verify", "-q", "--repair", "made:1").code == 0  # its blob is enough
    assert minictl.ok("run", "--rm", "--network", "none", "made:1", "cat", "/etc/more") == "more"


def test_the_ways_to_call_it_wrong(started: tuple[Engine, Cli, str]) -> None:
    _, minictl, name = started
    for arguments in ((), ("--all", name)):
        refused = minictl("image", "verify", *arguments)
        assert refused.code != 0 and "takes either names of images or --all" in refused.err
    refused = minictl("image", "verify", "nobody")
    assert refused.code != 0 and "No such image" in refused.err


def test_a_large_layer_takes_little_memory(
    make_engine: Callable[..., Engine], registry: Registry, client_config: Path
) -> None:
    big = Image([Layer().file("big", os.urandom(120 << 20)).done()])
    pushed: Descriptor = big.push(registry, "verify-big", compression="none")
    assert pushed.size
    engine = make_engine()
    engine.start()
    minictl = make_cli("minictl", engine, client_config)
    name = f"{registry.address}/verify-big:latest"
    pull(Wire(engine.socket, "1.44"), name)

    def peak_kb() -> int:
        text = Path(f"/proc/{engine.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1])

    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")
    before = peak_kb()
    assert minictl.ok("image", "verify", name).endswith("nothing is wrong")
    grown = peak_kb() - before
    print(f"verify of 120 MB: {grown} kB more", file=sys.stderr)
    assert grown < 30_000


def test_built_here(started: tuple[Engine, Cli, str], tmp_path: Path) -> None:
    """A layer that a build has made has no blob: it is packed again, and hashed."""
    engine, minictl, name = started
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nCOPY added /added\n")
    (tmp_path / "added").write_text("by the build\n")
    minictl.ok("build", "-t", "built:1", str(tmp_path))
    good = minictl.ok("image", "verify", "built:1")
    assert good.endswith("nothing is wrong") and good.count("packed again and hashed") == 1, good
    added = unpacked(engine, minictl, "built:1", 2) / "added"
    status = added.stat()
    added.write_text("By the build\n")
    os.utime(added, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = minictl("image", "verify", "-q", "--repair", "built:1")
    assert found.code == 1
    assert "has been changed on disk" in found.out and "build the image again" in found.out, found.out
