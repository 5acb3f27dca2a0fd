"""Volumes, bind mounts, tmpfs and the read-only root; ``cp`` both ways."""

import io
import json
import os
import re
import subprocess
import tarfile
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.wire import Wire

NONE = ("run", "--rm", "--network", "none")


def test_bind_mounts(cli: Cli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    out = cli.ok(
        *NONE, "-v", f"{tmp_path}:/data", busybox, "sh", "-c", "cat /data/file; echo written > /data/new"
    )
    assert out == "from the host"
    assert (tmp_path / "new").read_text() == "written\n"
    result = cli(*NONE, "-v", f"{tmp_path}:/data:ro", busybox, "sh", "-c", "cat /data/new; touch /data/x")
    assert (result.out, result.code) == ("written\n", 1)
    assert "Read-only file system" in result.err
    out = cli.ok(
        *NONE,
        "--mount",
        f"type=bind,source={tmp_path}/file,target=/one/file,readonly",
        busybox,
        "sh",
        "-c",
        "cat /one/file; touch /one/file || echo ro",
    )
    assert out.splitlines()[0] == "from the host" and out.splitlines()[-1] == "ro"


def test_bind_makes_a_missing_source_and_mount_does_not(cli: Cli, busybox: str, tmp_path: Path) -> None:
    cli.ok(*NONE, "-v", f"{tmp_path}/made:/data", busybox, "touch", "/data/x")
    assert (tmp_path / "made/x").exists()
    result = cli(*NONE, "--mount", f"type=bind,source={tmp_path}/missing,target=/data", busybox, "true")
    assert result.code == 125
    assert "bind source path does not exist" in result.err
    assert not (tmp_path / "missing").exists()


def test_relative_bind_source_is_the_clients(cli: Cli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("x")
    assert cli(*NONE, "-v", "./here:/there", busybox, "cat", "/there", cwd=str(tmp_path)).out == "x"


def test_bind_over_a_symlink_stays_inside(docker_cli: Cli, busybox: str, tmp_path: Path) -> None:
    """A target below a symlink is resolved in the container's root, not on the host."""
    (tmp_path / "file").write_text("mounted\n")
    before = set(os.listdir("/etc"))
    for number, link in enumerate(("/var/etc-link", "/var/up-link")):
        bind = f"{tmp_path}/file:{link}/minid-bound-{number}"
        assert docker_cli.ok(*NONE, "-v", bind, busybox, "cat", f"/etc/minid-bound-{number}") == "mounted"
    assert set(os.listdir("/etc")) == before


def test_named_volume_lives_on(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok(*NONE, "-v", "keep:/data", busybox, "sh", "-c", "echo kept > /data/file")
    assert cli.ok(*NONE, "-v", "keep:/other:ro", busybox, "cat", "/other/file") == "kept"
    assert wire.get("/volumes/keep")["Name"] == "keep"


def test_copy_up_fills_a_new_named_volume(cli: Cli, busybox: str) -> None:
    script = "stat -c '%a %u %g' /var/data /var/data/seed; cat /var/data/link"
    assert cli.ok(*NONE, "-v", "seeded:/var/data", busybox, "sh", "-c", script).splitlines() == [
        "711 1000 2000",
        "640 1000 2000",
        "seed",
    ]
    cli.ok(*NONE, "-v", "seeded:/var/data", busybox, "rm", "/var/data/seed")
    assert cli.ok(*NONE, "-v", "seeded:/var/data", busybox, "ls", "/var/data") == "link", (
        "only an empty volume is filled"
    )
    assert (
        cli.ok(
            *NONE,
            "--mount",
            "type=volume,source=bare,target=/var/data,volume-nocopy",
            busybox,
            "ls",
            "/var/data",
        )
        == ""
    )
    assert cli.ok(*NONE, "-v", "bare2:/var/data:nocopy", busybox, "ls", "/var/data") == ""


def test_volume_of_the_image_is_anonymous_and_filled(
    cli: Cli, wire: Wire, variant: Callable[[str], str]
) -> None:
    cli.ok(
        "run",
        "--name",
        "imagevol",
        "--network",
        "none",
        variant("volume"),
        "sh",
        "-c",
        "cat /var/data/seed; ls -d /var/empty",
    )
    mounts = {mount["Destination"]: mount for mount in wire.get("/containers/imagevol/json")["Mounts"]}
    assert set(mounts) == {"/var/data", "/var/empty"}
    for mount in mounts.values():
        assert mount["Type"] == "volume" and mount["Driver"] == "local" and mount["RW"] is True
        assert re.fullmatch(r"[0-9a-f]{64}", mount["Name"])
        assert Path(mount["Source"]).is_dir()
    assert (Path(mounts["/var/data"]["Source"]) / "seed").read_text() == "seed\n"
    assert {v["Name"] for v in wire.get("/volumes")["Volumes"]} == {
        mount["Name"] for mount in mounts.values()
    }
    cli.ok("rm", "-v", "imagevol")
    assert not wire.get("/volumes")["Volumes"]


def test_rm_leaves_volumes_unless_told(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok(
        "create",
        "--name",
        "box-a",
        "--network",
        "none",
        "-v",
        "/anonymous",
        "-v",
        "named:/named",
        busybox,
        "true",
    )
    cli.ok("rm", "box-a")
    assert len(wire.get("/volumes")["Volumes"]) == 2
    cli.ok(
        "create",
        "--name",
        "box-b",
        "--network",
        "none",
        "-v",
        "/anonymous",
        "-v",
        "named:/named",
        busybox,
        "true",
    )
    cli.ok("rm", "-v", "box-b")
    names = {volume["Name"] for volume in wire.get("/volumes")["Volumes"]}
    assert "named" in names and len(names) == 2, "rm -v takes the container's own anonymous volume only"
    cli.ok(*NONE, "-v", "/third", busybox, "touch", "/third/x")
    assert len(wire.get("/volumes")["Volumes"]) == 2, "--rm takes anonymous volumes along"


def test_volume_commands(cli: Cli, busybox: str) -> None:
    assert cli.ok("volume", "create", "--label", "use=test", "v1") == "v1"
    assert cli.ok("volume", "create", "v1") == "v1", "idempotent"
    anonymous = cli.ok("volume", "create")
    assert re.fullmatch(r"[0-9a-f]{64}", anonymous)
    assert set(cli.ok("volume", "ls", "-q").split()) == {"v1", anonymous}
    assert cli.ok("volume", "ls", "-q", "--filter", "label=use=test") == "v1"
    assert cli.ok("volume", "ls", "-q", "--filter", "name=v1") == "v1"
    assert cli.ok("volume", "ls").splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]
    (inspected,) = json.loads(cli.ok("volume", "inspect", "v1"))
    assert (
        inspected["Name"] == "v1" and inspected["Labels"] == {"use": "test"} and inspected["Scope"] == "local"
    )
    assert Path(inspected["Mountpoint"]).is_dir()
    cli.ok("create", "--name", "user", "--network", "none", "-v", "v1:/v", busybox, "true")
    assert set(cli.ok("volume", "ls", "-q", "--filter", "dangling=true").split()) == {anonymous}
    refused = cli("volume", "rm", "v1")
    assert refused.code == 1 and "volume is in use" in refused.err
    cli.ok("rm", "user")
    assert cli.ok("volume", "rm", "v1") == "v1"
    missing = cli("volume", "rm", "v1")
    assert missing.code == 1 and "no such volume" in missing.err.lower()
    assert cli("volume", "inspect", "v1").code == 1


def test_volume_prune(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(*NONE, "-v", "named:/data", busybox, "sh", "-c", "head -c 100000 /dev/zero > /data/x")
    docker_cli.ok("create", "--name", "user", "--network", "none", "-v", "/anonymous", busybox, "true")
    docker_cli.ok("volume", "create")
    filters = {} if wire.version == "1.41" else {"all": ["true"]}  # 1.42: only anonymous ones unless told
    answer = wire.post("/volumes/prune", filters=filters).json
    left = {volume["Name"] for volume in wire.get("/volumes")["Volumes"]}
    assert len(left) == 1, f"what a container uses stays: {left}, {answer}"
    assert answer["SpaceReclaimed"] >= 100000 and "named" in answer["VolumesDeleted"]


def test_volumes_from(docker_cli: Cli, busybox: str) -> None:
    docker_cli.ok(
        "create",
        "--name",
        "source",
        "--network",
        "none",
        "-v",
        "shared:/shared",
        "-v",
        "/anonymous",
        busybox,
        "true",
    )
    docker_cli.ok(
        *NONE,
        "--volumes-from",
        "source",
        busybox,
        "sh",
        "-c",
        "echo one > /shared/x; echo two > /anonymous/x",
    )
    assert docker_cli.ok(
        *NONE,
        "--volumes-from",
        "source:ro",
        busybox,
        "sh",
        "-c",
        "cat /shared/x /anonymous/x; touch /shared/y 2>/dev/null || echo ro",
    ).split() == ["one", "two", "ro"]


def test_tmpfs(cli: Cli, busybox: str) -> None:
    out = cli.ok(
        *NONE,
        "--tmpfs",
        "/fast:size=2m,mode=0700,exec",
        busybox,
        "sh",
        "-c",
        "grep ' /fast ' /proc/mounts; stat -c %a /fast",
    )
    mount, mode = out.splitlines()
    assert mount.split()[:3] == ["tmpfs", "/fast", "tmpfs"] and "size=2048k" in mount
    assert {"nosuid", "nodev"} <= set(mount.split()[3].split(",")) and "noexec" not in mount
    assert mode == "700"
    assert "noexec" in cli.ok(*NONE, "--tmpfs", "/fast", busybox, "grep", " /fast ", "/proc/mounts")
    out = cli.ok(
        *NONE,
        "--mount",
        "type=tmpfs,target=/fast,tmpfs-size=1048576,tmpfs-mode=1770",
        busybox,
        "sh",
        "-c",
        "grep ' /fast ' /proc/mounts; stat -c %a /fast",
    )
    assert "size=1024k" in out and out.endswith("1770")


def test_read_only_root(cli: Cli, busybox: str, tmp_path: Path) -> None:
    script = "touch /x 2>/dev/null || echo ro; touch /tmp/y && echo tmp; "
    script += "touch /bound/z && echo bound; touch /dev/shm/w && echo shm"
    out = cli.ok(
        *NONE, "--read-only", "--tmpfs", "/tmp", "-v", f"{tmp_path}:/bound", busybox, "sh", "-c", script
    )
    assert out.split() == ["ro", "tmp", "bound", "shm"]


def test_bind_propagation(docker_cli: Cli, busybox: str, tmp_path: Path) -> None:
    """Private by default, so that a mount made inside is not seen outside, and rbind: submounts come along."""
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "x", str(tmp_path / "sub")], check=True)
    try:
        (tmp_path / "sub/inner").write_text("inner")
        assert docker_cli.ok(*NONE, "-v", f"{tmp_path}:/data", busybox, "cat", "/data/sub/inner") == "inner"
    finally:
        subprocess.run(["umount", str(tmp_path / "sub")], check=True)
    options = ("--cap-add", "SYS_ADMIN", "-v", f"{tmp_path}:/data")
    docker_cli.ok(*NONE, *options, busybox, "sh", "-c", "mount -t tmpfs x /data/sub && touch /data/sub/x")
    assert not (tmp_path / "sub/x").exists()


def test_inspect_mounts(docker_cli: Cli, wire: Wire, busybox: str, tmp_path: Path) -> None:
    options = (
        "-v",
        f"{tmp_path}:/bind:ro",
        "-v",
        "vol:/vol",
        "--mount",
        "type=bind,source=/var/tmp,target=/long,bind-propagation=rslave",
        "--tmpfs",
        "/t",
    )
    docker_cli.ok("create", "--name", "mounted", "--network", "none", *options, busybox, "true")
    inspected = wire.get("/containers/mounted/json")
    mounts = {mount["Destination"]: mount for mount in inspected["Mounts"]}
    assert set(mounts) == {"/bind", "/vol", "/long"}
    bind = mounts["/bind"]
    assert (bind["Type"], bind["Source"], bind["RW"], bind["Mode"], bind["Propagation"]) == (
        "bind",
        str(tmp_path),
        False,
        "ro",
        "rprivate",
    )
    assert (mounts["/vol"]["Type"], mounts["/vol"]["Name"], mounts["/vol"]["RW"]) == ("volume", "vol", True)
    assert mounts["/long"]["Propagation"] == "rslave"
    host = inspected["HostConfig"]
    assert sorted(host["Binds"]) == [f"{tmp_path}:/bind:ro", "vol:/vol"] and host["Tmpfs"] == {"/t": ""}
    assert docker_cli.ok("ps", "-a", "--filter", "volume=vol", "--format", "{{.Names}}") == "mounted"


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_cp(cli: Cli, busybox: str, tmp_path: Path, running: bool) -> None:
    cli.ok("create", "--name", "box", "--network", "none", busybox, "sleep", "60")
    if running:
        cli.ok("start", "box")
    source = tmp_path / "source"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_text("content")
    (source / "script").write_text("#!")
    (source / "script").chmod(0o751)
    os.symlink("script", source / "link")
    cli.ok("cp", str(source), "box:/tmp/tree")
    cli.ok("cp", str(source), "box:/tmp")
    cli.ok("cp", f"{source}/.", "box:/home/app")
    cli.ok("cp", str(source / "script"), "box:/tmp/renamed")
    for inside in ("/tmp/tree", "/tmp/source", "/home/app"):
        target = tmp_path / inside.strip("/").replace("/", "-")
        cli.ok("cp", f"box:{inside}", str(target))
        assert (target / "deep/er/file").read_text() == "content"
        assert (target / "script").stat().st_mode & 0o7777 == 0o751
        assert os.readlink(target / "link") == "script"
    cli.ok("cp", "box:/tmp/renamed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "#!"
    for arguments, message in (
        (("box:/no/such", str(tmp_path / "x")), "[Cc]ould not find the file /no/such|no such file"),
        ((str(source), "box:/no/such/parent/x"), "[Cc]ould not find the file|no such"),
        ((str(source), "nosuch:/tmp"), "No such container: nosuch"),
        ((str(source), "box:/tmp/renamed"), "not a directory|cannot copy directory|extraction point"),
    ):
        result = cli("cp", *arguments)
        assert result.code == 1 and re.search(message, result.err), (arguments, result)


def test_cp_by_tar_streams(cli: Cli, busybox: str) -> None:
    cli.ok("create", "--name", "box", "--network", "none", busybox, "true")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("dir/file")
        entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = 5, 0o640, 7, 8, 1700000000
        tar.addfile(entry, io.BytesIO(b"hello"))
    assert cli("cp", "-", "box:/srv/../tmp", stdin=data.getvalue()).code in (0, 1)
    assert cli("cp", "-", "box:/tmp", stdin=data.getvalue()).code == 0
    out = cli("cp", "box:/tmp/dir", "-").raw_out
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        entry = tar.getmember("dir/file")
        assert (entry.size, entry.mode & 0o7777, entry.mtime) == (5, 0o640, 1700000000)


def test_cp_into_a_volume_and_through_links(docker_cli: Cli, busybox: str, tmp_path: Path) -> None:
    """Paths are those that the container sees: volumes are followed, links never lead to the host."""
    (tmp_path / "f").write_text("data")
    docker_cli.ok(
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "vol:/vol",
        busybox,
        "sh",
        "-c",
        "cat /vol/f; ln -s /../../../../etc /tmp/out; ls -l /tmp/out",
    )
    docker_cli.ok("cp", str(tmp_path / "f"), "box:/vol/f")
    assert docker_cli.ok("start", "-a", "box").startswith("data")
    docker_cli.ok("cp", "box:/tmp/out/passwd", str(tmp_path / "passwd"))
    assert "the app" in (tmp_path / "passwd").read_text(), "the container's /etc/passwd, not the host's"
    docker_cli.ok("cp", str(tmp_path / "f"), "box:/tmp/out/minid-test")
    assert not Path("/etc/minid-test").exists()


def test_archive_api(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok("create", "--name", "box", "--network", "none", "--read-only", busybox, "true")
    head = wire("HEAD", "/containers/box/archive", query={"path": "/var/data/seed"})
    stat = json.loads(b64decode(head.headers["X-Docker-Container-Path-Stat"]))
    assert head.status == 200 and (stat["name"], stat["size"], stat["mode"] & 0o777) == ("seed", 5, 0o640)
    link = json.loads(
        b64decode(
            wire("HEAD", "/containers/box/archive", query={"path": "/var/data/link"}).headers[
                "X-Docker-Container-Path-Stat"
            ]
        )
    )
    assert link["linkTarget"] == "/var/data/seed"
    got = wire("GET", "/containers/box/archive", query={"path": "/var/data"})
    assert got.headers["Content-Type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(got.body)) as tar:
        assert sorted(tar.getnames()) == ["data", "data/link", "data/seed"]
        assert (tar.getmember("data/seed").uid, tar.getmember("data/seed").gid) == (1000, 2000)
    assert wire("GET", "/containers/box/archive", query={"path": "/nosuch"}).status == 404
    assert wire("GET", "/containers/box/archive").status == 400
    assert wire(
        "PUT",
        "/containers/box/archive",
        b"not a tar",
        query={"path": "/tmp"},
        headers={"Content-Type": "application/x-tar"},
    ).status in (400, 403, 500)


def test_diff(docker_cli: Cli, busybox: str) -> None:
    docker_cli(
        "run",
        "--name",
        "changed",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "touch /tmp/new; rm /etc/replaced; echo x >> /etc/group",
    )
    lines = set(docker_cli.ok("diff", "changed").splitlines())
    assert {"C /tmp", "A /tmp/new", "D /etc/replaced", "C /etc/group", "C /etc"} <= lines


def test_containers_share_layers_and_nothing_else(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "echo mine > /etc/replaced; sleep 60",
    )
    docker_cli.ok("run", "-d", "--name", "two", "--network", "none", busybox, "sleep", "60")
    assert docker_cli.ok("exec", "two", "cat", "/etc/replaced") == "new"
    devices = {
        docker_cli.ok("exec", name, "sh", "-c", "ls -i /bin/busybox | cut -d' ' -f1; stat -c %i /bin/busybox")
        for name in ("one", "two")
    }
    assert wire.get("/info")["Driver"] != "overlay2" or len(devices) == 1, (
        "the same inode: one unpacked layer"
    )
    assert docker_cli.ok("exec", "two", "ls", "/opaque") == "new"
    assert docker_cli("exec", "two", "ls", "/etc/removed").code == 1
    assert docker_cli.ok("exec", "two", "cat", "/etc/hardlink") == "old"
