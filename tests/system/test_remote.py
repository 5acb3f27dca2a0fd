"""The daemon from afar: mutual TLS with the certificates of `minictl certs`, by docker, minictl, docker-py and openssl."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import certificates
from tests.cli import Cli
from tests.conftest import _root, pull
from tests.engine import Engine, EngineFailed, Minid
from tests.leaks import Machine
from tests.registry import Registry
from tests.remote import SecondHost, Team, client, free_port, open_files, without_certificate
from tests.tidiness import remove_everything
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("how minid listens on TCP"),
]
BOTH = pytest.mark.parametrize("name", ["docker", "minictl"])


@dataclass
class Far:
    """The daemon, reached from ``host``; ``at`` is its address over there."""

    engine: Engine
    port: int
    image: str
    team: Team
    host: SecondHost
    config: Path
    wire: Wire

    @property
    def at(self) -> str:
        return f"tcp://{self.host.here}:{self.port}"

    def cli(self, name: str, who: str = "alice", *, at: str = "") -> Cli:
        return client(name, at or self.at, self.config, self.team.place / "clients" / who)

    def refused(self, name: str, certs: Path | None, *, at: str = "") -> str:
        """What the client says when it is not let in."""
        result = self.host.inside(lambda: client(name, at or self.at, self.config, certs)("ps"))
        assert result.code == 1, result.out
        return result.err


@pytest.fixture(scope="module")
def started(
    privileged: None, engine_kind: str, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Far]:
    place = tmp_path_factory.mktemp("team")
    host = SecondHost(os.getpid() % 200 + 20)
    team = Team(place)
    options = team.serve("localhost", "127.0.0.1", host.here, "far.test")
    team.client("alice", "--ou", "dev")
    team.client("bob")
    port = free_port()
    engine = Minid(_root(), extra=("-H", f"tcp://0.0.0.0:{port}", *options))
    try:
        engine.start()
        wire = Wire(engine.socket, Wire(engine.socket, "").get("/version")["ApiVersion"])
        image = f"{registry.address}/busybox:latest"
        pull(wire, image)
        yield Far(engine, port, image, team, host, place / "config", wire)
        engine.stop()
        left = Machine.snapshot(engine.data_root, engine.exec_root, engine.cgroup_parent)
        assert not left.processes and not left.cgroups and not left.mounts, left
    finally:
        engine.destroy()
        host.close()


@pytest.fixture
def far(started: Far) -> Iterator[Far]:
    """Nothing that a client held may be held after it has gone."""
    Wire(started.engine.socket, "").get("/version")
    before = settled(started.engine)
    yield started
    remove_everything(started.wire)
    deadline = time.monotonic() + 10
    while open_files(started.engine) > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files(started.engine) <= before + 2, "descriptors are left"
    for line in started.engine.log.read_text().splitlines():
        assert "level=error" not in line or "TLS files" in line, line
        assert "Traceback" not in line


def settled(engine: Engine) -> int:
    """Open files once what has just been closed is closed."""
    seen = -1
    while (now := open_files(engine)) != seen:
        seen = now
        time.sleep(0.1)
    return now


@contextlib.contextmanager
def events_of(far: Far, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`events` of containers, by the time that the daemon has its connection; killed in the end."""
    before = settled(far.engine)
    with far.cli(name).popen("events", "--filter", "type=container") as process:
        try:
            while open_files(far.engine) < before + 3:
                time.sleep(0.02)
            settled(far.engine)
            yield process
        finally:
            process.kill()


# what clients do


@BOTH
def test_a_second_host_does_what_this_one_does(name: str, far: Far) -> None:
    cli = far.cli(name)

    def story() -> None:
        assert "Server" in cli.ok("version")
        done = cli(
            "run", "--rm", "--network", "none", far.image, "sh", "-c", "echo out; echo err >&2; exit 3"
        )
        assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
        # The end of stdin is a half of the connection: what the container says after it still comes.
        script = "cat; sleep 0.3; echo after"
        said = cli.ok(
            "run", "-i", "--rm", "--network", "none", far.image, "sh", "-c", script, stdin="typed\n"
        )
        assert said == "typed\nafter"
        cli.ok("run", "-d", "--name", "far", "--network", "none", far.image, "sleep", "60")
        assert cli.ok("exec", "-i", "far", "cat", stdin="x" * 100_000) == "x" * 100_000
        assert "far" in cli.ok("ps")
        cli.ok("rm", "-f", "far")

    far.host.inside(story)
    assert f"cn=alice from={far.host.there}:" in far.engine.log.read_text()


@BOTH
def test_a_terminal(name: str, far: Far) -> None:
    cli = far.cli(name)
    cli.ok("run", "-d", "--name", "box", "--network", "none", far.image, "sleep", "60")
    with cli.terminal("exec", "-it", "box", "sh", rows=31, columns=101) as terminal:
        terminal.expect("[#$] ")
        terminal.send("while :; do stty size; sleep 0.2; done\n")
        terminal.expect("31 101")
        terminal.resize(17, 77)
        terminal.expect("17 77")
        terminal.send("\x03")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


@BOTH
def test_a_hundred_megabytes(name: str, far: Far) -> None:
    with far.cli(name).popen(
        "run", "--rm", "--network", "none", far.image, "head", "-c", "100000000", "/dev/zero"
    ) as run:
        assert run.stdout is not None
        digest, size = hashlib.sha256(), 0
        while data := run.stdout.read(1 << 20):
            digest.update(data)
            size += len(data)
    assert (run.returncode, size) == (0, 100_000_000)
    assert digest.digest() == hashlib.sha256(bytes(size)).digest()


@BOTH
def test_input_that_nobody_reads_takes_no_output_away(name: str, far: Far) -> None:
    """A socket closed with unread bytes in it throws away what it has not sent yet (RFC 9293 § 3.10.4, reset)."""
    cli = far.cli(name)
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        command = ("run", "-i", "--rm", "--network", "none", far.image, "head", "-c", "5000000", "/dev/zero")
        with cli.popen(*command, stdin=source.stdout.fileno()) as run:
            out, err = run.communicate(timeout=60)
        source.kill()
    assert (run.returncode, len(out), err) == (0, 5_000_000, b"")


@BOTH
def test_what_streams(name: str, far: Far, tmp_path: Path) -> None:
    cli = far.cli(name)
    with events_of(far, name) as events:
        cli.ok(
            "run", "-d", "--name", "loud", "--network", "none", far.image, "sh", "-c", "echo one; sleep 60"
        )
        assert events.stdout is not None
        assert any(b"create" in events.stdout.readline() for _ in range(3))
        with cli.popen("logs", "-f", "loud") as logs:
            assert logs.stdout is not None
            assert logs.stdout.readline() == b"one\n"
            cli.ok("rm", "-f", "loud")
            assert logs.wait(20) == 0
    cli.ok("rmi", far.image)
    assert "Pull complete" in cli.ok("pull", far.image)
    (tmp_path / "Dockerfile").write_text(f"FROM {far.image}\nCOPY big /big\nRUN wc -c /big\n")
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    result = cli("build", "--network", "none", "-t", "made", str(tmp_path))
    assert result.code == 0, result.err
    assert "3000000 /big" in result.out + result.err
    cli.ok("rmi", "made")


DOCKER_PY = """
import sys, docker, docker.tls
place, url, image = sys.argv[1:]
files = docker.tls.TLSConfig(
    client_cert=(f"{place}/cert.pem", f"{place}/key.pem"), ca_cert=f"{place}/ca.pem", verify=True
)
there = docker.DockerClient(url, tls=files, version="auto")
assert there.ping()
assert there.containers.run(image, "echo hello", network_mode="none", remove=True) == b"hello\\n"
"""


def test_docker_py(far: Far) -> None:
    place = str(far.team.place / "clients/alice")
    # requests prefers these to what it is told
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_CA_BUNDLE")}
    command = [sys.executable, "-c", DOCKER_PY, place, f"tcp://127.0.0.1:{far.port}", far.image]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_a_client_that_is_killed_holds_nothing(far: Far) -> None:
    cli = far.cli("minictl")
    far.cli("minictl").ok("run", "-di", "--name", "held", "--network", "none", far.image, "cat")
    before = settled(far.engine)
    clients = [cli.popen("attach", "held"), cli.popen("events"), cli.popen("logs", "-f", "held")]
    while open_files(far.engine) < before + 9:
        time.sleep(0.02)
    for one in clients:
        one.kill()
        one.communicate()
    deadline = time.monotonic() + 10
    while open_files(far.engine) > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# who is not let in


@BOTH
def test_who_has_no_certificate_of_the_ca_is_not_let_in(name: str, far: Far, tmp_path: Path) -> None:
    none = without_certificate(tmp_path / "none", far.team.place / "ca.pem")
    assert "tls: certificate required" in far.refused(name, none)
    foreign = Team(tmp_path / "foreign").client("mallory")
    shutil.copy(far.team.place / "ca.pem", foreign / "ca.pem")
    assert "tls: unknown certificate authority" in far.refused(name, foreign)
    # A daemon's certificate is no client's.
    server = without_certificate(tmp_path / "server", far.team.place / "ca.pem")
    shutil.copy(far.team.server / "server-cert.pem", server / "cert.pem")
    shutil.copy(far.team.server / "server-key.pem", server / "key.pem")
    assert "tls: " in far.refused(name, server)


@BOTH
def test_a_daemon_that_is_another_is_not_believed(name: str, far: Far, tmp_path: Path) -> None:
    foreign = Team(tmp_path / "foreign").client("alice")
    assert "certificate signed by unknown authority" in far.refused(name, foreign)
    alice = far.team.place / "clients/alice"
    said = client(name, f"tcp://127.0.0.2:{far.port}", far.config, alice)("ps")
    assert said.code == 1
    # Go's words, with the names that it is for
    assert re.search(r"x509: certificate is valid for .*127\.0\.0\.1.*, not 127\.0\.0\.2", said.err), said.err


def test_a_certificate_out_of_date_is_refused_by_both_sides(far: Far, tmp_path: Path) -> None:
    """An authority made by openssl: `minictl certs` makes none that are out of date."""
    authority = certificates.Authority(tmp_path / "ca")
    old, good = authority.issue("old", "IP:127.0.0.1", expired=True), authority.issue("good", "IP:127.0.0.1")
    for server, mine, words in (
        (old, good, "certificate has expired or is not yet valid"),
        (good, old, "remote error: tls: expired certificate"),
    ):
        engine = Minid(_root(), extra=())
        port = free_port()
        engine.extra = [
            *("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", f"--tlscacert={authority.certificate}"),
            *(f"--tlscert={server.certificate}", f"--tlskey={server.key}"),
        ]
        try:
            engine.start()
            files = (
                f"--tlscacert={authority.certificate}",
                f"--tlscert={mine.certificate}",
                f"--tlskey={mine.key}",
            )
            cli = client("minictl", f"tcp://127.0.0.1:{port}", far.config, None)
            said = cli("--tlsverify", *files, "ps")
            assert (said.code, words in said.err) == (1, True), said.err
        finally:
            engine.destroy()


@BOTH
def test_without_tls_it_says_that_tls_is_spoken_here(name: str, far: Far) -> None:
    said = client(name, f"tcp://127.0.0.1:{far.port}", far.config, None)("ps")
    assert said.code == 1
    assert "Client sent an HTTP request to an HTTPS server" in said.err


def s_client(far: Far, *line: str) -> str:
    place = far.team.place / "clients/alice"
    done = subprocess.run(
        [
            *(
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{far.port}",
                "-CAfile",
                f"{place}/ca.pem",
                *line,
            ),
            *("-cert", f"{place}/cert.pem", "-key", f"{place}/key.pem"),
        ],
        input="GET /_ping HTTP/1.0\r\n\r\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout + done.stderr


def test_tls_1_2_and_later_only(far: Far) -> None:
    for version, shown in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        said = s_client(far, version, "-quiet", "-ign_eof")
        assert "200 OK" in said, said
        assert f"Protocol  : {shown}" in s_client(far, version) or f"New, {shown}" in s_client(far, version)
    for version in ("-tls1_1", "-tls1"):
        said = s_client(far, version, "-cipher", "ALL:@SECLEVEL=0")
        assert "200 OK" not in said
        assert "alert protocol version" in said, said


def test_a_revoked_certificate_is_refused_at_once(far: Far) -> None:
    assert far.cli("minictl", "bob").ok("ps", "-q") == ""
    far.team.certs("revoke", "bob")
    os.replace(shutil.copy(far.team.place / "crl.pem", far.team.server / "new"), far.team.server / "crl.pem")
    for name in ("docker", "minictl"):
        assert "tls: revoked certificate" in far.refused(name, far.team.place / "clients/bob")
        assert far.cli(name, "alice").ok("ps", "-q") == ""
    assert "revoked" in far.team.certs("ls")


@pytest.mark.parametrize("how", ["files", "SIGHUP"])
def test_certificates_are_replaced_without_a_restart(how: str, far: Far) -> None:
    def serial() -> str:
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END", s_client(far, "-showcerts"), re.DOTALL)
        assert found
        return found[0]

    cli, pid, before = far.cli("minictl"), far.engine.pid, serial()
    with events_of(far, "minictl") as events:  # a connection from before goes on
        far.team.serve("localhost", "127.0.0.1", far.host.here, "far.test")
        if how == "SIGHUP":
            os.kill(pid, signal.SIGHUP)
        assert serial() != before
        assert cli.ok("ps", "-q") == ""
        assert far.wire.post("/containers/create", {"Image": far.image, "Cmd": ["true"]}).status == 201
        assert events.stdout is not None
        assert b"container create" in events.stdout.readline()
    # What can't be used changes nothing.
    certificate = far.team.server / "server-cert.pem"
    good = certificate.read_bytes()
    now = serial()
    certificate.write_text("rubbish")
    assert serial() == now
    assert "the TLS files are wrong, the old ones stay in force" in far.engine.log.read_text()
    certificate.write_bytes(good)
    assert cli.ok("ps", "-q") == ""
    assert far.engine.pid == pid


# what is listened on


def test_tcp_without_certificates_of_clients_stays_on_this_machine(far: Far, tmp_path: Path) -> None:
    port = free_port()
    own = (f"--tlscert={far.team.server}/server-cert.pem", f"--tlskey={far.team.server}/server-key.pem")
    for options in ((), ("--tls", *own)):
        engine = Minid(_root(), extra=("-H", f"tcp://0.0.0.0:{port}", *options))
        try:
            with pytest.raises(EngineFailed, match="whoever reaches this port would be root"):
                engine.start()
            engine.extra += ["--insecure-tcp-i-know"]
            for _ in range(2):
                engine.log.write_text("")
                engine.start()
                assert "WHOEVER REACHES THIS PORT IS ROOT" in engine.log.read_text()
                engine.stop()
        finally:
            engine.destroy()
    engine = Minid(_root(), extra=("-H", f"tcp://127.0.0.1:{port}"))
    try:
        engine.start()
        for name in ("docker", "minictl"):
            cli = client(name, f"tcp://127.0.0.1:{port}", far.config, None)
            assert cli.ok("ps", "-q") == ""
            said = client(name, f"tcp://127.0.0.1:{port}", far.config, far.team.place / "clients/alice")("ps")
            assert said.code == 1
            assert "server gave HTTP response to HTTPS client" in said.err
    finally:
        engine.destroy()


# many, slow and rude


def test_many_idle_and_slow_clients_do_not_keep_a_local_one_waiting(far: Far) -> None:
    """2,000 connections that are through and say nothing, 200 that never finish their handshake."""
    place = far.team.place / "clients/alice"
    local = Wire(far.engine.socket, "")

    def took_s() -> float:
        started_s = time.monotonic()
        assert local.get("/containers/json") is not None
        return time.monotonic() - started_s

    context = ssl.create_default_context(cafile=f"{place}/ca.pem")
    context.load_cert_chain(f"{place}/cert.pem", f"{place}/key.pem")
    held: list[socket.socket] = []
    worst_s = 0.0
    try:
        for _ in range(200):
            held.append(socket.create_connection(("127.0.0.1", far.port)))
        for number in range(2000):
            plain = socket.create_connection(("127.0.0.1", far.port))
            held.append(context.wrap_socket(plain, server_hostname="127.0.0.1"))
            if number % 100 == 0:
                worst_s = max(worst_s, took_s())
        worst_s = max(worst_s, *(took_s() for _ in range(20)))
        assert far.cli("minictl").ok("ps", "-q") == ""
    finally:
        for one in held:
            one.close()
    assert worst_s < 1.0, worst_s


def test_a_client_whose_cable_is_pulled_is_found_out(far: Far) -> None:
    """Not waited for here: the kernel's timers say that it asks after 30 s, and gives up after 3 times 10 s."""
    with events_of(far, "minictl"):
        said = subprocess.run(
            ["ss", "-tno", "state", "established", f"sport = :{far.port}"], capture_output=True, text=True
        )
    found = re.search(r"timer:\(keepalive,(\d+)sec", said.stdout)
    assert found and int(found[1]) <= 30, said.stdout


def test_rubbish_stops_nothing(far: Far) -> None:
    hello = bytes.fromhex("16030100c8010000c40303") + os.urandom(190)
    for data in (
        b"",
        b"\0" * 5000,
        hello,
        b"\x16\x03\x01\xff\xff" + bytes(70000),
        b"\x15\x03\x01\0\x02\x02\x28",
    ):
        with socket.create_connection(("127.0.0.1", far.port)) as rude, contextlib.suppress(OSError):
            rude.sendall(data)
            rude.shutdown(socket.SHUT_WR)
            rude.settimeout(15)
            while rude.recv(4096):
                pass
    assert far.cli("minictl").ok("ps", "-q") == ""


# how the address is found


def test_contexts_and_remote_env(far: Far, tmp_path: Path) -> None:
    place = far.team.place / "clients/alice"
    files = f"ca={place}/ca.pem,cert={place}/cert.pem,key={place}/key.pem"
    plain = client("minictl", "", tmp_path / "config", None)
    plain.ok("context", "create", "far", "--docker", f"host=tcp://127.0.0.1:{far.port},{files}")
    plain.ok("context", "use", "far")
    for name in ("docker", "minictl"):
        cli = client(name, "", tmp_path / "config", None)
        assert "minid" in cli.ok("version")
        assert cli.ok("--context", "far", "ps", "-q") == ""
    assert "Context:    far" in plain.ok("info")
    said = plain("remote-env", f"127.0.0.1:{far.port}")
    assert said.code == 1 and not said.out, said
    printed = plain.ok("remote-env", f"127.0.0.1:{far.port}", env={"DOCKER_CERT_PATH": str(place)})
    script = f"{printed}\ndocker version --format '{{{{.Server.Platform.Name}}}}'; echo $DOCKER_HOST"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.stdout.splitlines() == ["minid", f"tcp://127.0.0.1:{far.port}"], done.stderr


def test_flags_in_place_of_variables(far: Far, tmp_path: Path) -> None:
    place = far.team.place / "clients/alice"
    cli = client("minictl", "", tmp_path, None)
    where = ("-H", f"localhost:{far.port}")
    files = (f"--tlscacert={place}/ca.pem", f"--tlscert={place}/cert.pem", f"--tlskey={place}/key.pem")
    assert cli.ok(*where, "--tlsverify", *files, "ps", "-q") == ""
    assert cli.ok(*where, "--tls", *files[1:], "ps", "-q") == ""  # whoever it is that listens there
    said = cli(*where, "--tlsverify", files[0], f"--tlscert={place}/cert.pem", "ps")
    assert "has no key with it" in said.err
    said = cli(*where, "--tlsverify", "ps")
    assert f"open {tmp_path}/ca.pem: no such file or directory" in said.err
    said = cli("-H", f"tcp://127.0.0.1:{free_port()}", "ps")
    assert "connection refused" in said.err and said.code == 1
