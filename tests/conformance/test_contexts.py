"""The store of contexts: the docker CLI and minictl do the same with it, and each reads what the other has written."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.engine import REPOSITORY

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAMS = {"docker": ("docker",), "minictl": (sys.executable, "-m", "minictl")}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run("docker", "context", "ls", DOCKER_HOST="…")``; both programs have one configuration."""
    if shutil.which("docker") is None:
        pytest.skip("the docker CLI is not installed")
    made = self_signed(tmp_path / "made", "DNS:far")
    for name, source in (("ca.pem", made.certificate), ("cert.pem", made.certificate), ("key.pem", made.key)):
        shutil.copy(source, tmp_path / name)

    def run(program: str, *line: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "DOCKER_CONFIG": str(tmp_path / "config"),
            "DOCKER_CLI_HINTS": "false",
            **variables,
        }
        command = [*PROGRAMS[program], *line]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    return run


WITH_TLS = "host=tcp://far:2376,ca=ca.pem,cert=cert.pem,key=key.pem"


@pytest.mark.parametrize(("writer", "reader"), [("docker", "minictl"), ("minictl", "docker")])
def test_one_reads_what_the_other_wrote(writer: str, reader: str, run: Run, tmp_path: Path) -> None:
    made = run(writer, "context", "create", "far", "--description", "far <away>", "--docker", WITH_TLS)
    assert (made.returncode, made.stdout, made.stderr) == (
        0,
        "far\n",
        'Successfully created context "far"\n',
    )
    assert run(writer, "context", "use", "far").stdout == "far\n"
    assert run(reader, "context", "show").stdout == "far\n"
    assert run(reader, "context", "inspect").stdout == run(writer, "context", "inspect", "far").stdout
    (seen,) = json.loads(run(reader, "context", "inspect", "far").stdout)
    assert seen["Endpoints"]["docker"] == {"Host": "tcp://far:2376", "SkipTLSVerify": False}
    assert seen["TLSMaterial"] == {"docker": ["ca.pem", "cert.pem", "key.pem"]}
    key = Path(seen["Storage"]["TLSPath"]) / "docker/key.pem"
    assert key.read_text() == (tmp_path / "key.pem").read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert (
        run(reader, "context", "update", "far", "--docker", "host=ssh://far,skip-tls-verify=true").returncode
        == 0
    )
    (seen,) = json.loads(run(writer, "context", "inspect", "far").stdout)
    assert seen["Endpoints"]["docker"] == {"Host": "ssh://far", "SkipTLSVerify": True}
    assert seen["TLSMaterial"] == {}
    assert seen["Metadata"] == {"Description": "far <away>"}
    assert run(reader, "context", "use", "default").returncode == 0
    assert run(writer, "context", "rm", "far").stdout == "far\n"
    assert not key.exists()
    assert run(reader, "context", "ls", "-q").stdout == "default\n"


@pytest.mark.parametrize(("writer", "reader"), [("docker", "minictl"), ("minictl", "docker")])
def test_one_imports_what_the_other_exported(writer: str, reader: str, run: Run, tmp_path: Path) -> None:
    run(writer, "context", "create", "far", "--docker", WITH_TLS)
    assert run(writer, "context", "export", "far").stderr == 'Written file "far.dockercontext"\n'
    assert (tmp_path / "far.dockercontext").stat().st_mode & 0o077 == 0  # a private key is in it
    done = run(reader, "context", "import", "near", "far.dockercontext")
    assert (done.stdout, done.stderr) == ("near\n", 'Successfully imported context "near"\n')
    (seen,) = json.loads(run(writer, "context", "inspect", "near").stdout)
    assert seen["Name"] == "near"
    copied = Path(seen["Storage"]["TLSPath"]) / "docker/ca.pem"
    assert copied.read_text() == (tmp_path / "ca.pem").read_text()
    assert run(writer, "context", "export", "far").stderr == "open far.dockercontext: file exists\n"


SAME = [
    ("create", "x"),
    ("create", "a/b", "--docker", "host=unix:///x"),
    ("create", "default", "--docker", "host=unix:///x"),
    ("create", "far", "--docker", "host=unix:///x"),
    ("create", "new", "--docker", "host=unix:///x,bogus=1"),
    ("create", "new", "--docker", "host=tcp://h:1,ca=/nope"),
    ("create", "new", "--from", "far", "--docker", "host=unix:///y"),
    ("inspect", "far", "nope"),
    ("inspect", "-f", "{{.Name}} {{.Endpoints.docker.Host}}", "far"),
    ("ls", "--format", "{{.Name}}|{{.Current}}|{{.Description}}|{{.Error}}"),
    ("ls", "-q"),
    ("rm", "nope"),
    ("rm", "default"),
    ("rm", "-f", "nope"),
    ("show",),
    ("update", "nope"),
    ("update", "default"),
    ("use", "nope"),
    ("use", "far"),
    ("rm", "far"),
    ("ls", "--format", "{{.Name}}|{{.Current}}"),
    ("import", "far", "/dev/null"),
]


def test_both_say_the_same(run: Run) -> None:
    for number, program in enumerate(PROGRAMS):
        run(program, "context", "rm", "-f", "far")
        run(program, "context", "create", "far", "--description", "d", "--docker", WITH_TLS)
        said = [run(program, "context", *line) for line in SAME]
        now = [(done.returncode, done.stdout, done.stderr.strip()) for done in said]
        run(program, "context", "use", "default")
        if number == 0:
            before = now
    for line, docker, minictl in zip(SAME, before, now, strict=True):
        assert docker == minictl, line


def test_the_variable_goes_before_the_chosen_context_and_that_is_said(run: Run) -> None:
    run("docker", "context", "create", "far", "--docker", WITH_TLS)
    for program in PROGRAMS:
        done = run(program, "context", "use", "far", DOCKER_HOST="unix:///x")
        assert "Warning: DOCKER_HOST environment variable overrides the active context." in done.stderr
        done = run(program, "context", "ls", DOCKER_HOST="unix:///x")
        assert "default *" in done.stdout and "far *" not in done.stdout
        assert "Warning: DOCKER_HOST environment variable overrides" in done.stderr
        assert "far *" in run(program, "context", "ls").stdout
        done = run(program, "--context", "far", "-H", "unix:///x", "ps")
        assert (done.returncode, done.stderr) == (
            1,
            "conflicting options: cannot specify both --host and --context\n",
        )
        done = run(program, "ps", DOCKER_CONTEXT="gone")
        assert 'unable to resolve docker endpoint: context "gone": context not found' in done.stderr
        assert "gone *" in run(program, "context", "ls", DOCKER_CONTEXT="gone").stdout


def test_what_is_no_context_leaves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"Name": "x"}')
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.add(tmp_path / "meta.json", "meta.json")
        archive.add(tmp_path / "key.pem", "tls/docker/../../../../evil")
    for program in PROGRAMS:
        assert run(program, "context", "import", f"bad-{program}", "bad.tar").returncode == 1
    assert "bad-minictl" not in run("minictl", "context", "ls", "-q").stdout  # docker's has stayed
    assert not list(tmp_path.rglob("evil"))
