"""scripts/package: apt installs, upgrades, removes and purges what it makes, in a Debian that has nothing else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"),
    pytest.mark.timeout(900),
    pytest.mark.long,
]

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [TOP / "scripts/package", directory], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root file system with apt and what the package needs."""
    root = tmp_path_factory.mktemp("debian") / "root"
    sources = [path for path in ("/etc/apt/sources.list",) if "bookworm" in _text(path)]
    sources += [
        str(path) for path in Path("/etc/apt/sources.list.d").glob("*.sources") if "bookworm" in _text(path)
    ]
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        "--include=python3,libseccomp2,systemd,ca-certificates",
    ]
    done = subprocess.run(
        [*command, "bookworm", root, *sources[:1]], capture_output=True, text=True, check=False, timeout=400
    )
    if done.returncode != 0:
        pytest.skip(f"no Debian can be had here: {done.stderr[-300:]}")
    yield root
    shutil.rmtree(root)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def inside(root: Path, *command: str, check: bool = True) -> str:
    """Run it there, with /proc; the packages' cache of this machine is not touched."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C",
    }
    chroot = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", chroot, str(root), *command],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_apt_installs_upgrades_removes_and_purges(package: Path, debian: Path, tmp_path: Path):
    shutil.copy(package, debian / "tmp/minid.deb")
    inside(debian, "apt-get", "install", "-y", "--no-install-recommends", "/tmp/minid.deb")
    assert inside(debian, "minid", "--version").startswith("minid version ")
    assert inside(debian, "minictl", "--version").startswith("minictl version ")
    assert inside(debian, "minid", "--validate", check=False).startswith("configuration OK\n")
    assert inside(debian, "getent", "group", "minid").startswith("minid:")
    assert (
        inside(debian, "systemctl", "is-enabled", "minid.socket", "minid.service").split() == ["enabled"] * 2
    )
    assert inside(debian, "dpkg", "--verify", "minid") == ""
    imports = "import aiohttp, yaml, isal, zstandard, minid.daemon"
    inside(debian, "/opt/minid/venv/bin/python", "-c", imports)
    # A newer version: the configuration is the administrator's.
    configuration = debian / "etc/minid/minid.yaml"
    configuration.write_text("debug: true\n")
    newer = repack(package, tmp_path, "9.9.9")
    shutil.copy(newer, debian / "tmp/newer.deb")
    inside(debian, "apt-get", "install", "-y", "-o", "Dpkg::Options::=--force-confold", "/tmp/newer.deb")
    assert inside(debian, "dpkg-query", "-W", "-f", "${Version}", "minid") == "9.9.9"
    assert configuration.read_text() == "debug: true\n"
    (debian / "var/lib/minid").mkdir()
    # Gone, but for what is the administrator's.
    inside(debian, "apt-get", "remove", "-y", "minid")
    assert not (debian / "opt/minid").exists()
    assert not (debian / "usr/bin/minid").is_symlink()
    assert configuration.exists()
    told = inside(debian, "apt-get", "purge", "-y", "minid")
    assert "left in /var/lib/minid" in told
    assert not configuration.exists()
    assert (debian / "var/lib/minid").exists()


def repack(package: Path, directory: Path, version: str) -> Path:
    """The same package under another version."""
    tree, newer = directory / "tree", directory / "newer.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True, timeout=60)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text(
        "".join(f"Version: {version}\n" if one.startswith("Version:") else f"{one}\n" for one in lines)
    )
    subprocess.run(
        ["dpkg-deb", "-Znone", "--build", tree, newer], check=True, capture_output=True, timeout=60
    )
    return newer
