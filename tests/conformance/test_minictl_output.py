"""minictl prints what the docker CLI prints: the same command line on the same daemon, compared word for word.

Differences that are meant: the program's name, and what each says of itself (help, version, info for people).
"""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.conftest import make_cli
from tests.engine import Engine
from tests.wire import Wire

TRIES = 3  # "Up 1 second" may have become "Up 2 seconds" between the two

LOOKING = r"""
ps
ps -a
ps -aq
ps -aq --no-trunc
ps -a --no-trunc
ps -as
ps -n 1
ps -l
ps -a --format json
ps -a --format '{{json .}}'
ps -a --format '{{.Names}}: {{.Image}} {{.Command}} {{.State}} {{.Labels}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}'
ps -a --format 'table {{.ID}}\t{{.Names}}\t{{.Label "com.example.some-label"}}\t{{.CreatedAt}}'
ps -a --format '{{.ID'
ps -a --format '{{nope .ID}}'
ps -f status=exited
ps -f name=box --format '{{.Names}}'
ps -f nope=x
ps -f nope
container ls -a
container ps -a
images
images -q
images -q --no-trunc
images --no-trunc
images --digests
images nosuch
images --format json
images --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.Digest}}'
images --format 'table {{.Repository}}\t{{.Tag}}'
images -f dangling=true
image ls
history IMAGE
history --no-trunc IMAGE
history -q IMAGE
history --format '{{.ID}}|{{.Size}}|{{.Comment}}|{{.CreatedBy}}' IMAGE
history -H=false IMAGE
history nosuch
inspect box
inspect IMAGE
inspect box nosuch IMAGE
inspect nosuch
inspect --type container nosuch
inspect --type image box
inspect --type volume vol
inspect --type foo box
inspect -f json box
inspect -f '{{.Name}} {{.State.Running}} {{.RestartCount}} {{.Config.Env}} {{.Config.Labels}}' box
inspect -f '{{json .State}}' box
inspect -f '{{json .Config.Cmd}}' IMAGE
inspect -f '{{index .Config.Labels "com.example.some-label"}}|{{index .Config.Labels "none"}}|' box
inspect -f '{{range .Config.Cmd}}<{{.}}>{{end}} {{len .Config.Cmd}} {{join .Config.Cmd "+"}}' box
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}' box
inspect -f '{{if eq .State.Status "running"}}up{{else}}down{{end}} {{.Name | upper | printf "%q"}}' box
inspect -f '{{with .HostConfig}}{{.NetworkMode}} {{.Memory}} {{.AutoRemove}}{{end}}' box
inspect -f '{{slice .Id 0 12}} {{lower "ABC"}} {{title "one two"}} {{split "a,b" ","}}' box
inspect -f '{{.Nope}}' box
inspect -f '{{.State.Nope}}' box
inspect -f '{{index .Config.Cmd 9}}' box
inspect -f '{{.Id' box
container inspect nosuch
image inspect nosuch
volume inspect nosuch vol
volume ls
volume ls -q
volume ls --format json
volume ls --format '{{.Name}} {{.Driver}} {{.Label "x"}}'
logs box
logs done
logs -t done
logs --tail 1 done
logs --since 1h --until 0s done
logs --since nope done
logs nosuch
top box
top box -o pid,args
top nosuch
top done
port box
port box 80
port nosuch
diff nosuch
wait done
wait nosuch
version -f '{{.Server.Version}} {{.Server.APIVersion}} {{.Server.Os}}'
info -f '{{.OSType}} {{.Architecture}} {{.Driver}} {{.ServerVersion}} {{.ContainersRunning}}'
info -f '{{json .SecurityOptions}}'
events --since 10m --until 1s -f event=create --format '{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}'
events --since 10m --until 1s -f container=done
events --since 10m --until 1s -f container=done --format json
"""

WRONG = r"""
nosuchcommand
ps x
rm
rename a
logs a b
cp a
cp a b
cp a:b c:d
exec a
port
tag a
stop -t x y
ps --foo
exec -it box sh
exec nosuch true
exec box nosuch
exec box sh -c 'exit 5'
exec box sh -c 'echo out; echo err >&2; exit 3'
exec -d box true
exec -e A=b -e NOT_SET_HERE -w /tmp -u 1:2 box sh -c 'pwd; id -u; id -g; echo $A'
exec --env-file /nope box true
start nosuch
start -a a b
start -a nosuch
attach done
attach nosuch
stop nosuch
restart nosuch
kill nosuch
kill done
kill -s NOPE box
pause nosuch
pause done
unpause box
rename nosuch x
rename box done
update box
update --cpu-shares 100 nosuch
rm box
rm nosuch
rm -f nosuch
rmi nosuch
rmi -f nosuch
tag nosuch x
tag IMAGE FOO
volume create --driver nosuch x
volume rm nosuch
volume rm
pull FOO
pull localhost:1/x
cp nosuch:/x .
cp box:/nope .
cp ./nope box:/
cp box:/etc/passwd /nope/x
cp /etc/hostname box:/nope/
cp /etc/hostname box:/nope/nope
run --rm --network none IMAGE nosuch
run --network none IMAGE nosuch
run --rm --network none IMAGE /etc
run --rm --network none -w /etc/passwd IMAGE pwd
run --rm --network none --user nosuch IMAGE id
run --rm --network none --name 'a b' IMAGE id
run --rm --network none --pull never nosuchimage id
run --rm --network none --name box IMAGE id
run --rm --network none -v /a:/b:nope IMAGE id
run --rm --network none -m 1k IMAGE id
run --rm --network none --log-driver nosuch IMAGE id
run --rm -d --restart always IMAGE id
run -it --rm --network none IMAGE id
"""

DOING = r"""
run --rm --network none IMAGE sh -c 'echo out; echo err >&2; exit 7'
run --rm --network none -e A=1 -w /tmp -u 5:6 -h host --read-only --tmpfs /x IMAGE sh -c 'env | sort; pwd; id -u; hostname'
run --rm --network none --entrypoint echo IMAGE hi
run --rm --network none IMAGE sh -c 'kill -9 $$'
run --rm --network none -a stderr IMAGE sh -c 'echo o; echo e >&2'
run --rm --network none --log-driver none IMAGE echo x
run --network none --name new IMAGE sh -c 'echo hello; exit 3'; start new; wait new; start -a new; logs new; rm new
create --network none --name new IMAGE true; ps -a --format '{{.Names}} {{.State}}'; start -a new; rm -v new
run -d --network none --name new IMAGE sleep 60; pause new; ps --format '{{.Names}} {{.State}}'; unpause new; rename new newer; stop -t 0 newer; restart -t 0 newer; kill newer; rm -f newer
run -d --network none --name new IMAGE sleep 60; rm -f new new2
tag IMAGE some/where:tag; rmi some/where:tag
volume create new; volume create --label a=b new; volume rm new new
cp /etc/hostname box:/tmp/; exec box cat /tmp/hostname; cp box:/tmp/hostname -
update --restart on-failure:3 box; inspect -f '{{json .HostConfig.RestartPolicy}}' box
"""


@pytest.fixture
def minictl(engine: Engine, client_config: Path) -> Cli:
    return make_cli("minictl", engine, client_config)


@pytest.fixture
def things(docker_cli: Cli, busybox: str) -> None:
    """A running container `box`, an ended one `done`, a volume `vol`."""
    label = "com.example.some-label=of mine"
    docker_cli.ok(
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "-l",
        label,
        "-v",
        "vol:/v",
        busybox,
        "sleep",
        "600",
    )
    docker_cli.ok(
        "run",
        "--name",
        "done",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "echo one; echo two >&2; echo three",
    )


def outcome(cli: Cli, line: str, image: str) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each of the commands that semicolons separate."""
    results = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word != ";":
            command.append(image if word == "IMAGE" else word)
            continue
        result = cli(*command, env={"NOT_SET_HERE": ""} if "NOT_SET_HERE" in command else None)
        # What docker's tar writer says when nobody wants its archive any more depends on who is quicker.
        result_err = re.sub(r"time=.* level=error msg=\"Can't (add file|close tar).*\n", "", result.err)
        said = re.sub(
            r"container [a-z]+_[a-z]+\b", "container some_name", result_err.replace("minictl", "docker")
        )
        results.append((result.code, result.out, said))
        command = []
    return results


def sorted_lines(result: tuple[int, str, str]) -> tuple[int, str, str]:
    return result[0], "\n".join(sorted(result[1].splitlines())), result[2]


def compare(lines: str, docker_cli: Cli, minictl: Cli, image: str) -> None:
    differences = []
    for line in lines.strip().splitlines():
        for _ in range(TRIES):
            wanted, got = outcome(docker_cli, line, image), outcome(minictl, line, image)
            if line.startswith("image"):  # several of the same age: dockerd lists them in any order
                wanted, got = (
                    [sorted_lines(result) for result in wanted],
                    [sorted_lines(result) for result in got],
                )
            if wanted == got:
                break
        else:
            differences.append(f"{line}\n  docker:  {wanted}\n  minictl: {got}")
    assert not differences, "\n".join(differences)


def test_looking(docker_cli: Cli, minictl: Cli, wire: Wire, busybox: str, things: None) -> None:
    compare(LOOKING, docker_cli, minictl, busybox)


def test_mistakes(docker_cli: Cli, minictl: Cli, wire: Wire, busybox: str, things: None) -> None:
    compare(WRONG, docker_cli, minictl, busybox)


def without_ids(results: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """With the random IDs that are printed when a container is made called ID."""

    def plain(text: str) -> str:
        return "\n".join("ID" if len(word) == 64 and word.isalnum() else word for word in text.split("\n"))

    return [(code, plain(out), err) for code, out, err in results]


def test_doing(docker_cli: Cli, minictl: Cli, wire: Wire, busybox: str, things: None) -> None:
    differences = []
    for line in DOING.strip().splitlines():
        wanted = without_ids(outcome(docker_cli, line, busybox))
        got = without_ids(outcome(minictl, line, busybox))
        if wanted != got:
            differences.append(f"{line}\n  docker:  {wanted}\n  minictl: {got}")
    assert not differences, "\n".join(differences)
