"""scripts/install on a view of this machine of its own: installed, upgraded under a running container, removed, purged."""

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HERE = Path(__file__).parent
TOP = HERE.parents[1]


def rootfs(directory: Path) -> Path:
    """The layer of the image that quickstart makes."""
    if not Path("/bin/busybox").exists():
        pytest.skip("busybox-static is not installed")
    subprocess.run([TOP / "scripts/make-image", directory], check=True, capture_output=True, timeout=60)
    blobs = directory / "blobs" / "sha256"
    index = json.loads((directory / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    return blobs / manifest["layers"][0]["digest"][7:]


def checkout(directory: Path) -> Path:
    """A copy of what a clone has, so that nobody's work of this minute gets into the middle of it."""
    for name in ("minid", "minictl", "minicerts", "scripts", "systemd", "docs"):
        shutil.copytree(TOP / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(TOP / name, directory / name)
    return directory


@pytest.mark.timeout(600)
def test_install_upgrade_remove_purge(tmp_path):
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare(1)")
    view, data = tmp_path / "view", tmp_path / "data"
    view.mkdir()
    data.mkdir()
    program = [HERE / "install_story.sh", checkout(tmp_path / "checkout"), rootfs(tmp_path / "image")]
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        HERE / "own_view.sh",
        view,
        data,
        *program,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "== done"


@pytest.mark.timeout(300)
def test_below_a_directory_for_packages(tmp_path):
    """Everything is in its place below --destdir and knows where it will be; --remove takes it away again."""
    top = tmp_path / "package"
    places = ["--destdir", top, "--bindir", "/usr/bin", "--unitdir", "/lib/systemd/system"]
    install = [TOP / "scripts/install", *places]
    subprocess.run(install, check=True, capture_output=True, timeout=280)
    service = (top / "lib/systemd/system/minid.service").read_text()
    assert "ExecStart=/usr/bin/minid " in service
    assert os.readlink(top / "usr/bin/minid") == "/opt/minid/venv/bin/minid"
    assert (top / "opt/minid/venv/bin/minid").read_text().startswith("#!/opt/minid/venv/bin/python")
    assert b".TH MINID 8" in gzip.decompress((top / "usr/share/man/man8/minid.8.gz").read_bytes())
    named = subprocess.run(["grep", "-rlF", str(top), str(top)], capture_output=True, text=True, check=False)
    assert named.stdout == "", "files that name the directory"
    subprocess.run([*install, "--remove"], check=True, capture_output=True, timeout=60)
    left = sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())
    assert left == ["etc/minid/minid.yaml"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--bogus"], 2, "unknown argument --bogus"),
        (["--destdir", "relative"], 1, "with a leading /"),
        (["--destdir"], 1, "needs a directory"),
        (["--purge", "--destdir", "/tmp/x"], 1, "for this machine, not for --destdir"),
    ],
)
def test_wrong_arguments(arguments, status, message):
    done = subprocess.run(
        [TOP / "scripts/install", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == status
    assert message in done.stderr
