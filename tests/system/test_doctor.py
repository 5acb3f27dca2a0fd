"""The doctor on this very machine: with a daemon, without one, and with something taken away from it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minid.exits import ExitStatus
from tests.engine import Engine
from tests.wire import Wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TOP = Path(__file__).parents[2]


def validate(data_root: Path, *around: str) -> subprocess.CompletedProcess[str]:
    command = [*around, sys.executable, "-m", "minid.cli", "--validate", "--data-root", str(data_root)]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=60)


def minictl(*arguments: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minictl", *arguments]
    environment = {"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(directory), "HOME": "/root"} | environment
    return subprocess.run(
        command, cwd=TOP, capture_output=True, text=True, check=False, timeout=60, env=environment
    )


def line(text: str, name: str) -> str:
    """The finding `name` with what to do about it."""
    lines = text.splitlines()
    number = next(number for number, one in enumerate(lines) if one[6:].startswith(f"{name} "))
    after = lines[number + 1].strip() if "what to do: " in lines[number + 1] else ""
    return f"{lines[number]}\n{after}"


def test_without_a_daemon_nothing_is_left_behind(tmp_path):
    done = validate(tmp_path / "a" / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("configuration OK\n")
    assert "overlay2, the first that works" in line(done.stdout, "storage driver")
    assert line(done.stdout, "firewall").startswith("ok ")
    assert " checks: 0 failed, " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_is_taken_away_is_found(tmp_path):
    done = validate(tmp_path, "setpriv", "--bounding-set", "-net_admin,-sys_chroot")
    assert done.returncode == ExitStatus.HOST == 10, done.stdout
    assert "fail  capabilities" in done.stdout
    assert "CAP_NET_ADMIN, CAP_SYS_CHROOT\nwhat to do: give them" in line(done.stdout, "capabilities")
    done = validate(tmp_path, "prlimit", "--nofile=512:512")
    assert "512: little for many containers\nwhat to do: LimitNOFILE" in line(done.stdout, "open files")
    done = validate(tmp_path, "setpriv", "--no-new-privs")
    assert line(done.stdout, "no_new_privs").startswith("warn  ")
    done = validate(tmp_path, "setpriv", "--reuid", "4242", "--clear-groups")
    assert done.returncode == 0
    assert "not looked at" in line(done.stdout, "capabilities")


def test_a_data_root_that_cannot_serve(tmp_path):
    done = validate(Path("/proc/minid"))
    assert done.returncode == ExitStatus.HOST
    assert "proc at /proc, not a place for files" in line(done.stdout, "data root")
    (tmp_path / "version").write_text("minid 7.0.0\ndata-root 9\n")
    done = validate(tmp_path)
    assert done.returncode == ExitStatus.HOST
    assert "written by a newer minid (7.0.0)" in line(done.stdout, "data root")


def test_a_daemon_tells_what_it_finds(make_engine: Callable[..., Engine], tmp_path):
    engine = make_engine()
    engine.start()
    host = f"unix://{engine.socket}"
    told = Wire(engine.socket, "").get("/minid/doctor")
    assert {one["State"] for one in told["Findings"]} <= {"ok", "warn"}
    assert {key for one in told["Findings"] for key in one} == {"Name", "State", "What", "Advice"}
    driver = next(one for one in told["Findings"] if one["Name"] == "storage driver")
    assert driver["What"] == "overlay2, the first that works"
    done = minictl("-H", host, "system", "doctor", directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"the daemon answers at {host}" in line(done.stdout, "socket")
    assert f"{tmp_path}/config.json: there is none" in line(done.stdout, "client configuration")
    done = minictl("-H", host, "system", "doctor", "--format", "json", directory=tmp_path)
    both = json.loads(done.stdout)["Findings"]
    assert [one["Name"] for one in both[:3]] == ["client configuration", "user", "socket"]
    assert [one["Name"] for one in both[3:]] == [one["Name"] for one in told["Findings"]]


def test_the_client_tells_why_there_is_no_daemon(tmp_path):
    done = minictl("-H", f"unix://{tmp_path}/no.sock", "system", "doctor", directory=tmp_path)
    assert done.returncode == 1
    assert line(done.stdout, "socket").startswith("fail  ")
    assert "what to do: Start it with: sudo systemctl start minid" in line(done.stdout, "socket")


def test_the_client_looks_at_its_own_configuration(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"auths": {"registry.example": {"auth": "eDp5"}}}')
    file.chmod(0o644)
    done = minictl("-H", "unix:///nowhere", "system", "doctor", directory=tmp_path)
    assert f"what to do: chmod 600 {file}" in line(done.stdout, "client configuration")
    file.chmod(0o600)
    done = minictl("-H", "unix:///nowhere", "system", "doctor", directory=tmp_path)
    assert line(done.stdout, "client configuration").startswith("ok ")
    file.write_text("{")
    done = minictl("-H", "unix:///nowhere", "system", "doctor", directory=tmp_path)
    assert "fail  client configuration" in done.stdout + done.stderr


def test_a_firewall_that_drops_what_containers_send_is_found(tmp_path):
    if not shutil.which("nft", path="/usr/sbin:/usr/bin"):
        pytest.skip("nft is not installed")
    chain = "{ type filter hook forward priority 0; policy drop; }"
    rules = f"echo 0 >/proc/sys/net/ipv4/ip_forward; /usr/sbin/nft add table ip filter; /usr/sbin/nft add chain ip filter FORWARD '{chain}'"
    done = validate(tmp_path, "unshare", "--net", "sh", "-c", f'{rules}; exec "$@"', "sh")
    assert done.returncode == 0, done.stdout
    told = line(done.stdout, "forward policy")
    assert told.startswith("warn  ")
    assert "`ip filter FORWARD` drops what containers" in told
    assert "iptables -I FORWARD -i minid0 -j ACCEPT" in told
    assert "off; the daemon switches it on" in line(done.stdout, "IP forwarding")
    accepted = f"{rules}; /usr/sbin/nft add rule ip filter FORWARD iifname minid0 accept"
    done = validate(tmp_path, "unshare", "--net", "sh", "-c", f'{accepted}; exec "$@"', "sh")
    assert line(done.stdout, "forward policy").startswith("ok ")


def test_a_user_who_may_not_use_the_socket_is_told_how(make_engine: Callable[..., Engine]):
    engine = make_engine()
    engine.start()
    engine.root.chmod(0o755)
    program = f"import sys; sys.path.insert(0, {str(TOP)!r}); from minictl.main import entry; entry()"
    command = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "/usr/bin/python3",
        "-IS",
        "-c",
    ]
    done = subprocess.run(
        [*command, program, "-H", f"unix://{engine.socket}", "system", "doctor"],
        capture_output=True, text=True, check=False, timeout=60, env={"HOME": "/", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    told = line(done.stdout, "socket")
    assert told.startswith("fail  ")
    assert "permission denied" in told
    assert "usermod -aG" in told
