"""The socket: who may connect, and what is there when a daemon starts."""

import grp
import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine import Engine
from tests.wire import Wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_permissions(make_engine: Callable[..., Engine]) -> None:
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0,) and entry.gr_name != "minid")
    engine = make_engine(extra=("--group", group.gr_name))
    engine.root.chmod(0o755)
    engine.start()
    status = engine.socket.stat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (0, group.gr_gid)
    connect = [
        "/usr/bin/python3",
        "-c",
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(engine.socket)!r}); print('in')",
    ]
    outsider = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *connect],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError: [Errno 13]" in outsider.stderr
    member = subprocess.run(
        ["setpriv", "--reuid=65534", f"--regid={group.gr_gid}", "--clear-groups", *connect],
        capture_output=True,
        text=True,
        check=False,
    )
    assert member.stdout == "in\n", member.stderr
    assert stat.S_IMODE(engine.data_root.stat().st_mode) in (0o710, 0o711, 0o700)


@pytest.mark.minid_only("dockerd does not start")
def test_without_the_group_only_root_has_the_socket(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(extra=("--group", "no-such-group-here"))
    engine.start()
    assert (engine.socket.stat().st_uid, engine.socket.stat().st_gid) == (0, 0)
    assert "there is no group no-such-group-here" in engine.log_tail()


def test_a_stale_socket_and_pidfile_are_taken_over(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    if engine.kind == "dockerd":
        pytest.skip("minid_only: Debian's dockerd does not find its containerd again after SIGKILL")
    engine.start()
    engine.kill()
    assert engine.socket.exists() and engine.pidfile.exists(), "a killed daemon leaves both"
    engine.start()
    assert Wire(engine.socket)("GET", "/_ping").body == b"OK"
    assert int(engine.pidfile.read_text()) == engine.pid
    engine.stop()
    assert not engine.pidfile.exists() and not engine.socket.exists()


def test_an_active_socket_is_not_taken_away(make_engine: Callable[..., Engine]) -> None:
    first, second = make_engine(), make_engine()
    if first.kind == "dockerd":
        pytest.skip("minid_only: dockerd unlinks whatever is there")
    first.start()
    second.socket = first.socket
    from tests.engine import EngineFailed

    with pytest.raises(EngineFailed):
        second.start()
    assert Wire(first.socket)("GET", "/_ping").body == b"OK"


def test_several_hosts(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    more = engine.root / "second.sock"
    engine.extra += ["-H", f"unix://{more}"]
    engine.start()
    assert Wire(engine.socket)("GET", "/_ping").body == Wire(more)("GET", "/_ping").body == b"OK"


def test_stop_with_idle_and_busy_connections(make_engine: Callable[..., Engine]) -> None:
    """SIGTERM does not wait for clients that keep a connection or follow events for ever."""
    engine = make_engine()
    engine.start()
    wire = Wire(engine.socket)
    with wire.stream("GET", "/events", upgrade=False) as events, socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(engine.socket))
        assert events.status == 200
        assert engine.stop() == 0


def test_peers_are_logged(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(extra=("-D",))
    if engine.kind == "dockerd":
        pytest.skip("minid_only: dockerd does not know who asks")
    engine.start()
    Wire(engine.socket, "1.44")("GET", "/version")
    engine.stop()
    line = next(line for line in engine.log_tail(100_000).splitlines() if "/version" in line)
    assert f"pid={os.getpid()}" in line and "uid=0" in line, line


def test_reload_on_hangup(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    import signal

    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"debug": False}))
    engine = make_engine(extra=("--config-file", str(config)))
    engine.start()
    assert engine.process is not None
    config.write_text(json.dumps({"debug": True}))
    engine.process.send_signal(signal.SIGHUP)
    wire = Wire(engine.socket)
    assert wire("GET", "/_ping").body == b"OK"
    assert engine.running
