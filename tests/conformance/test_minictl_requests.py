"""minictl asks for what the docker CLI asks for: the same command line, the same requests, byte for byte of meaning.

Both clients talk to a listener that notes each request and refuses it. What is compared is the method, the path with
its query, and the JSON body; the version ping that docker sends ahead is left out.
"""

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
DOCKER = os.environ.get("MINID_TEST_DOCKER", "docker")

Asked = tuple[str, str, dict[str, list[str]], Any]


class Recorder(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Speaks API 1.44, answers 500 to everything but pings, remembers what was asked."""

    def __init__(self, path: str) -> None:
        self.requests: list[Asked] = []
        super().__init__(path, Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder  # type: ignore[assignment]

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ping = self.path.endswith("/_ping")
        if not ping:
            url = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(url.query)
            asked = json.loads(body) if body else None
            if isinstance(asked, dict):  # docker keeps these in Go maps: they come in any order
                for part, key in ((asked, "Env"), (asked.get("HostConfig", {}), "Binds")):
                    if part.get(key):
                        part[key].sort()
            self.server.requests.append((self.command, url.path, query, asked))
        text = b"OK" if ping else b'{"message":"only noted"}'
        self.send_response(200 if ping else 500)
        self.send_header("Api-Version", "1.44")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    if shutil.which(DOCKER) is None:
        pytest.skip(f"the docker CLI ({DOCKER}) is not installed")
    version = subprocess.run([DOCKER, "--version"], capture_output=True, text=True, check=True).stdout
    if "version 28." not in version:
        pytest.skip(f"compares with the docker CLI 28, here is {version.strip()}")
    path = str(tmp_path_factory.mktemp("recorder") / "s")
    with Recorder(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "env").write_text("X=1\n# comment\n  Y=2 3\nINHERITED\nNOT_SET\n")
    (tmp_path / "labels").write_text("a=b\nc\n")
    (tmp_path / "seccomp.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW",\n "x": [1, 2.5, true, null, "é"]}'
    )
    return tmp_path


def asked(recorder: Recorder, argv: list[str], line: list[str], place: Path) -> tuple[list[Asked], int, str]:
    recorder.requests.clear()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "INHERITED": "from here",
        "PYTHONPATH": str(TOP),
        "DOCKER_CLI_HINTS": "false",
    }
    done = subprocess.run(
        [*argv, "-H", f"unix://{recorder.server_address}", *line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        cwd=place,
        timeout=30,
        check=False,
    )
    return sorted(recorder.requests, key=str), done.returncode, done.stderr.replace("minictl", "docker")


RUN = [
    "",
    "-d",
    "-i",
    "-it -d",
    "-t -d",
    "-a stdout",
    "-a stdin -a STDERR -i",
    "--name foo --rm",
    "-e A=B -e INHERITED -e NOT_SET -e C=",
    "--env-file env -e X=2",
    "--label-file labels -l x=y -l z",
    "-v /a:/b:ro -v named:/c -v /anon -v ./rel:/r -v ..:/up -v .:/here",
    "--mount type=bind,src=/x,dst=/y,readonly",
    "--mount type=bind,source=.,target=/y,bind-propagation=rslave",
    "--mount type=bind,src=/x,dst=/y,bind-recursive=disabled",
    "--mount type=bind,src=/x,dst=/y,ro,bind-propagation=rprivate,bind-recursive=readonly",
    "--mount type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-opt=o=p",
    "--mount dst=/v",
    "--mount type=volume,src=v,dst=/v,volume-driver=local",
    "--mount type=volume,src=v,dst=/v,volume-subpath=x",
    "--mount type=tmpfs,dst=/q,tmpfs-size=1m,tmpfs-mode=1777",
    "--mount 'type=bind,\"src=/x,1\",dst=/y'",
    "--tmpfs /t:size=1m,mode=700 --tmpfs /t2",
    "-w /w -u 1:2",
    "--entrypoint /bin/sh",
    "--entrypoint=",
    "-h host --domainname dom",
    "--hostname host --network host",
    "--network none",
    "--network bridge",
    "--network default",
    "--network container:abc",
    "--network foo",
    "--net foo --net-alias one --network-alias two --ip 1.2.3.4 --ip6 ::2 --link-local-ip 169.254.1.1",
    "--network name=foo,alias=x,ip=1.2.3.4,driver-opt=a=b,mac-address=92:d0:c6:0a:29:33",
    "--network foo --network bar",
    "--network bridge --mac-address 92:d0:c6:0a:29:33",
    "--mac-address 92:d0:c6:0a:29:33",
    "--network foo --link a:b --link c",
    "--cap-add ALL --cap-drop net_raw --cap-drop CAP_CHOWN,kill",
    "--cap-add sys_admin --cap-add SYS_ADMIN --cap-add net_admin",
    "--privileged --read-only",
    "--ulimit nofile=10:20 --ulimit core=-1 --ulimit nproc=5 --ulimit nofile=30",
    "-m 64m --memory-swap 128m --memory-reservation 32M --memory-swappiness 10",
    "-m 1.5gib --memory-swap -1",
    "-m 1000",
    "--cpus 1.5 -c 512 --cpuset-cpus 0-1,3 --cpuset-mems 0",
    "--cpus .25",
    "--cpus 1/4",
    "--cpu-quota 100 --cpu-period 1000 --cpu-rt-period 5 --cpu-rt-runtime 4",
    "--pids-limit 5 --blkio-weight 100 --oom-score-adj -5 --oom-kill-disable",
    "--blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sdb:5",
    "--device-read-iops /dev/sda:7 --device-write-iops /dev/sda:10",
    "--security-opt no-new-privileges --security-opt seccomp=seccomp.json --security-opt label:disable",
    "--security-opt seccomp=unconfined --security-opt apparmor=foo",
    "--security-opt systempaths=unconfined",
    "--security-opt no-new-privileges=true",
    "--stop-signal TERM --stop-timeout 3",
    "--stop-timeout 0",
    "--group-add 5 --group-add wheel --init --shm-size 64m",
    "--init=false",
    "--ipc host --pid host --uts host --cgroupns host --userns host",
    "--pid container:x --ipc container:y --cgroupns private",
    "--device /dev/fuse --device /dev/null:/dev/n2:r --device /dev/zero:rw --device /dev/full:/dev/f",
    "--device-cgroup-rule 'c 1:3 rwm' --device-cgroup-rule 'a *:* r'",
    "--platform linux/amd64",
    "--log-driver json-file --log-opt max-size=1m --log-opt max-file=3",
    "--sysctl net.core.somaxconn=1 --sysctl kernel.shmmax=5",
    "--add-host a:1.2.3.4 --add-host b=::1 --add-host 'c:[::2]' --add-host d:host-gateway",
    "--dns 1.1.1.1 --dns ::1 --dns-search x --dns-search . --dns-option y --dns-opt z",
    "--volumes-from z --volumes-from y:ro --volume-driver vd",
    "--health-cmd 'echo hi' --health-interval 3s --health-retries 2 --health-timeout 1m30s --health-start-period 1.5s",
    "--health-interval 3s",
    "--no-healthcheck",
    "--annotation a=b --runtime crun --isolation default --cgroup-parent x --storage-opt size=1",
    "--expose 80 --expose 100-102/udp",
    "-p 127.0.0.1:80:8080/udp -p 9000-9001:9000-9001 -p 77 -P -p 80:80 -p 81:80",
    "-p [::1]:80:80 -p 127.0.0.1::90",
    "-p target=80,published=8080,protocol=udp",
    "-p 8000-8005:80",
    "--restart unless-stopped",
    "--restart on-failure:3",
    "--restart on-failure",
    "--gpus all",
    "--gpus 2",
    "--gpus device=a",
    "--cidfile cid",
    "--pull never --quiet",
    "--detach-keys ctrl-a -d",
    "--sig-proxy=false",
    "--kernel-memory 5m",
]


def words(line: str) -> list[str]:
    import shlex

    return shlex.split(line)


@pytest.mark.parametrize("flags", RUN)
def test_run_sends_the_same_container(recorder: Recorder, place: Path, flags: str) -> None:
    line = ["run", *words(flags), "busybox", "echo", "-n", "hi"]
    wanted = asked(recorder, [DOCKER], line, place)
    got = asked(recorder, [sys.executable, "-m", "minictl"], line, place)
    assert wanted[0], f"docker sent nothing: {wanted}"
    assert got == wanted


def test_create_sends_the_same_container(recorder: Recorder, place: Path) -> None:
    line = ["create", "--name", "x", "-i", "--platform", "linux/arm64", "localhost:5000/a/b:c"]
    wanted = asked(recorder, [DOCKER], line, place)
    assert asked(recorder, [sys.executable, "-m", "minictl"], line, place) == wanted


OTHERS = [
    "pull localhost:5000/x/y:z",
    "pull -q busybox",
    "pull -a -q localhost:5000/x",
    "pull -q --platform linux/arm64 foo@sha256:0123456789012345678901234567890123456789012345678901234567890123",
    "push -q localhost:5000/a:b",
    "push -q -a x",
    "ps",
    "ps -a -n 3 -f status=running -f label=a=b -f label=c -s",
    "ps -l",
    "rm -f -v -l a",
    "images",
    "images -a x:y -f dangling=true",
    "rmi -f --no-prune a",
    "tag a b:c",
    "tag a localhost:5000/b",
    "stop -t 3 -s TERM a",
    "stop a",
    "kill a",
    "kill -s 9 a",
    "restart -t 0 a",
    "wait a",
    "top a -ef x",
    "top a",
    "rename a b",
    "pause a",
    "unpause a",
    "port a",
    "diff a",
    "history a",
    "inspect a",
    "inspect -s --type container a",
    "inspect --type image a/b:c",
    "inspect --type volume a",
    "attach a",
    "start a",
    "start -a a",
    "exec -d a true",
    "network create n",
    "network create n -d macvlan -o parent=eth0 --label x=y --internal --attachable --ipv6",
    "network create n --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.4.0/24 --aux-address a=10.1.0.9",
    "network create n --subnet 10.1.0.0/16 --subnet fd00:1::/64 --gateway fd00:1::1 --ipam-opt a=b",
    "network ls -f driver=bridge -q",
    "network inspect n",
    "network rm n m",
    "network connect n c",
    "network connect --ip 10.1.0.5 --ip6 fd00::5 --alias a --alias b --link d:e --driver-opt x=y n c",
    "network disconnect -f n c",
    "network prune -f --filter label=x",
    "volume create a -o a=b --label x=y",
    "volume create",
    "volume ls -f dangling=true",
    "volume rm -f a",
    "volume inspect a",
    "volume prune -f -a",
    "volume prune -f --filter label=x",
    "container prune -f --filter until=1h",
    "image prune -f -a",
    "image prune -f",
    "commit -m x -a y -c 'CMD x' a b:c",
    "commit -p=false a",
    "events --until 5 -f type=container",
    "export a",
    "save a b",
    "stats --no-stream a",
    "system df",
    "update --cpu-shares 5 --restart always -m 5m a",
    "info",
]


@pytest.mark.parametrize("line", OTHERS)
def test_other_commands_send_the_same(recorder: Recorder, place: Path, line: str) -> None:
    wanted, code, _ = asked(recorder, [DOCKER], words(line), place)
    got, own_code, _ = asked(recorder, [sys.executable, "-m", "minictl"], words(line), place)
    assert wanted, "docker sent nothing"
    # Not asked where it is not needed: docker looks at the container before exec, to learn what minictl need not know.
    # Before a network's removal it asks whether the network is swarm's.
    asks_first = line.startswith(("exec", "network rm"))
    wanted = [request for request in wanted if not (asks_first and request[0] == "GET")]
    if line.startswith("update"):
        wanted, got = [_set_only(request) for request in wanted], [_set_only(request) for request in got]
    if line.startswith("attach"):
        wanted = [request for request in wanted if not request[1].endswith("/wait")]
    if line.startswith("exec"):
        wanted = []
        got = [request for request in got if not request[1].endswith("/exec")]
    if line.startswith("network create"):
        wanted, got = (
            [_subnets_sorted(request) for request in wanted],
            [_subnets_sorted(request) for request in got],
        )
    assert got == wanted
    assert own_code == code


def _subnets_sorted(request: Asked) -> Asked:
    """With the subnets of a network in one order: docker keeps them in a Go map, and sends them in any."""
    method, path, query, body = request
    ipam = {**body["IPAM"], "Config": sorted(body["IPAM"]["Config"] or [], key=str)}
    return (method, path, query, {**body, "IPAM": ipam})


def _set_only(request: Asked) -> Asked:
    """Without the fields of a body that say nothing (update: null, 0 and "" leave a limit as it is)."""
    method, path, query, body = request
    return (
        method,
        path,
        query,
        {key: value for key, value in body.items() if value not in (None, 0, "", [], {})},
    )


WRONG = [
    "--ulimit x",
    "--ulimit nofile=x",
    "-v :/x",
    "--mount type=bind",
    "--mount foo",
    "--mount type=bind,src=/a,dst=/b,foo=bar",
    "--mount type=bind,src=/a,dst=/b,ro=x",
    "--mount type=volume,src=a,dst=/b,bind-propagation=shared",
    "--mount type=tmpfs,dst=/b,tmpfs-size=x",
    "-p x",
    "-p 1:2:3:4",
    "-p 70000",
    "-l =x",
    "-e =x",
    "--env-file /nope",
    "--label-file /nope",
    "--device x",
    "--add-host x",
    "--dns x",
    "--security-opt seccomp=/nope",
    "--security-opt foo",
    "--pid foo",
    "--uts foo",
    "--userns foo",
    "--cgroupns foo",
    "--memory-swappiness 200",
    "--device-cgroup-rule x",
    "--pull foo",
    "--health-cmd x --no-healthcheck",
    "-a foo",
    "--expose x",
    "--link a:b:c",
    "--storage-opt x",
    "--sysctl x",
    "--gpus x=y",
    "-d -a stdout",
    "--cidfile env",
    "--mac-address foo",
    "--network none --network foo",
    "--log-driver none --log-opt a=b",
    "--memory x",
    "-m -1",
    "-m 5q",
    "--cpus x",
    "--health-interval 3",
    "--health-interval 3x",
    "--blkio-weight 70000",
    "--stop-timeout x",
    "--rm=maybe",
    "--foo",
    "-X",
    "--name",
    "-e",
    "-it",
    "--rm --restart always",
]


@pytest.mark.parametrize("flags", WRONG)
def test_wrong_flags_are_refused_in_the_same_words(recorder: Recorder, place: Path, flags: str) -> None:
    line = ["run", *words(flags)] if flags in ("--name", "-e") else ["run", *words(flags), "busybox"]
    requests, code, text = asked(recorder, [DOCKER], line, place)
    assert asked(recorder, [sys.executable, "-m", "minictl"], line, place) == (requests, code, text)
    assert code not in (0, None)
