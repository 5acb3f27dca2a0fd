"""What is inside a container, by the docker CLI: ``cp`` in all its forms, ``diff``, ``export``; running and
stopped.
"""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from tests.cli import Cli

NONE = ("--network", "none")
PREPARE = (
    "mkdir -p /srv/dir/sub /srv/target && echo 1 > /srv/dir/file && echo 22 > /srv/dir/sub/deep && "
    "ln -s dir /srv/link && ln -s /srv/dir/file /srv/file-link && chown 7:8 /srv/dir/file && chmod 4711 /srv/dir/file"
)


@pytest.fixture(params=["running", "stopped"])
def container(request: pytest.FixtureRequest, docker_cli: Cli, busybox: str) -> str:
    name = f"inside-{request.param}"
    stay = "; sleep 1000" if request.param == "running" else ""
    docker_cli.ok(
        "run",
        "-d",
        "--name",
        name,
        *NONE,
        "-v",
        "vol:/vol",
        busybox,
        "sh",
        "-c",
        f"trap exit TERM; {PREPARE} && echo v > /vol/in-volume && echo ready{stay} & wait",
    )
    if stay:
        while "ready" not in docker_cli.ok("logs", name):
            pass
    else:
        docker_cli.ok("wait", name)
    return name


def test_cp_out(docker_cli: Cli, container: str, tmp_path: Path) -> None:
    def cp(source: str, target: str, *options: str) -> None:
        docker_cli.ok("cp", *options, f"{container}:{source}", str(tmp_path / target))

    cp("/srv/dir/file", "plain")
    assert (tmp_path / "plain").read_text() == "1\n"
    cp("/srv/dir", "tree")
    assert (tmp_path / "tree/sub/deep").read_text() == "22\n"
    (tmp_path / "there").mkdir()
    cp("/srv/dir", "there")
    assert (tmp_path / "there/dir/sub/deep").exists()
    cp("/srv/dir/.", "there")
    assert (tmp_path / "there/sub/deep").exists()
    cp("/srv/link", "link")
    assert os.readlink(tmp_path / "link") == "dir"
    cp("/srv/link/", "behind")
    assert (tmp_path / "behind/file").exists()
    cp("/srv/file-link", "followed", "-L")
    assert (tmp_path / "followed").read_text() == "1\n"
    cp("/vol/in-volume", "from-volume")
    assert (tmp_path / "from-volume").read_text() == "v\n"
    cp("srv/dir/file", "owned", "-a")
    assert stat.S_IMODE((tmp_path / "owned").stat().st_mode) == 0o4711


def test_cp_to_standard_output(docker_cli: Cli, container: str) -> None:
    data = docker_cli("cp", f"{container}:/srv/dir", "-").raw_out
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert sorted(archive.getnames()) == ["dir", "dir/file", "dir/sub", "dir/sub/deep"]
        file = archive.getmember("dir/file")
        assert (file.uid, file.gid, stat.S_IMODE(file.mode)) == (7, 8, 0o4711)


def test_cp_in(docker_cli: Cli, container: str, tmp_path: Path) -> None:
    def content(path: str) -> str:
        data = docker_cli("cp", f"{container}:{path}", "-").raw_out
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            file = archive.extractfile(archive.getmembers()[0])
            assert file
            return file.read().decode()

    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/a").write_text("a")
    (tmp_path / "src/sub/b").write_text("b")
    docker_cli.ok("cp", f"{tmp_path}/src/a", f"{container}:/srv/target/renamed")
    assert content("/srv/target/renamed") == "a"
    docker_cli.ok("cp", f"{tmp_path}/src/a", f"{container}:/srv/link")
    assert content("/srv/dir/a") == "a"
    docker_cli.ok("cp", f"{tmp_path}/src/a", f"{container}:/srv/file-link")
    assert content("/srv/dir/file") == "a"
    docker_cli.ok("cp", f"{tmp_path}/src", f"{container}:/srv/target")
    assert content("/srv/target/src/sub/b") == "b"
    docker_cli.ok("cp", f"{tmp_path}/src/.", f"{container}:/srv/target")
    assert content("/srv/target/sub/b") == "b"
    docker_cli.ok("cp", f"{tmp_path}/src", f"{container}:/srv/new")
    assert content("/srv/new/a") == "a"
    docker_cli.ok("cp", f"{tmp_path}/src/a", f"{container}:/vol/put")
    assert content("/vol/put") == "a"


def test_cp_refusals(docker_cli: Cli, container: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()
    for arguments, text in (
        ((f"{container}:/nope", str(tmp_path)), f"Could not find the file /nope in container {container}"),
        ((f"{tmp_path}/file", f"{container}:/no/where"), "Could not find the file /no in container"),
        ((f"{tmp_path}/file", f"{container}:/srv/nowhere/"), "no such directory"),
        ((f"{tmp_path}/dir", f"{container}:/srv/dir/file"), "cannot copy directory"),
    ):
        result = docker_cli("cp", *arguments)
        assert result.code == 1 and text in result.err, result.err


def test_diff(docker_cli: Cli, container: str) -> None:
    docker_cli.ok("cp", f"{container}:/etc/passwd", "-")
    lines = docker_cli.ok("diff", container).splitlines()
    expected = {"A /srv", "A /srv/dir", "A /srv/dir/file", "A /srv/dir/sub", "A /srv/dir/sub/deep"}
    expected |= {"A /srv/link", "A /srv/file-link", "A /srv/target", "A /vol"}
    assert set(lines) - {"A /vol"} == expected - {"A /vol"}


def test_diff_of_what_is_deleted_and_changed(docker_cli: Cli, busybox: str) -> None:
    script = "rm /etc/group; echo x >> /etc/passwd; chmod 700 /tmp"
    docker_cli.ok("run", "--name", "changed", *NONE, busybox, "sh", "-c", script)
    lines = docker_cli.ok("diff", "changed").splitlines()
    assert sorted(lines) == ["C /etc", "C /etc/passwd", "C /tmp", "D /etc/group"]


def test_export(docker_cli: Cli, container: str) -> None:
    data = docker_cli("export", container).raw_out
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        assert {"srv/dir/sub/deep", "etc/passwd", "bin/busybox"} <= set(names)
        assert "vol/in-volume" not in names and not any(name.startswith("proc/") for name in names)
        assert stat.S_IMODE(archive.getmember("srv/dir/file").mode) == 0o4711
