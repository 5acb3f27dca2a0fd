"""Pushing, and logging in: the docker CLI, minictl and docker-py, to Debian's docker-registry."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from tests import images
from tests.cli import Cli
from tests.conformance.test_registry_auth import HTPASSWD, PASSWORD, USER
from tests.conftest import make_cli, pull
from tests.engine import Engine
from tests.registry import Registry, digest_of
from tests.token_server import TokenServer
from tests.wire import Wire

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
)
HELPER = """#!/bin/sh
# A credential helper that keeps everything in one file; how it was called is in "calls".
store=$(dirname "$0")/store
echo "$1" >>"$(dirname "$0")/calls"
case $1 in
store) cat >"$store" ;;
get) [ -e "$store" ] && cat "$store" || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f "$store" ;;
esac
"""


@pytest.fixture
def target(registry: Registry, busybox: str, wire: Wire, tidy: None) -> Iterator[Callable[[str], str]]:
    """Give the busybox image another name in the shared registry; the names are taken away afterwards."""
    names: list[str] = []

    def tag(name: str) -> str:
        full = f"{registry.address}/{name}"
        repository, _, label = full.rpartition(":")
        assert wire("POST", f"/images/{busybox}/tag", query={"repo": repository, "tag": label}).status == 201
        names.append(full)
        return full

    yield tag
    for name in names:
        wire("DELETE", f"/images/{name}")


def manifest(registry: Registry, name: str, tag: str) -> bytes:
    status, _, body = registry.request("GET", f"/v2/{name}/manifests/{tag}", Accept=MANIFEST_TYPES)
    assert status == 200, body
    return body


def test_push_and_push_again(cli: Cli, registry: Registry, target: Callable[[str], str]) -> None:
    name = target(f"pushed-{cli.name}/box:1.0")
    first = cli.ok("push", name)
    assert first.splitlines()[0] == f"The push refers to repository [{name.removesuffix(':1.0')}]"
    assert first.count(": Preparing") == 2
    assert first.count(": Mounted from ") == 2
    body = manifest(registry, f"pushed-{cli.name}/box", "1.0")
    last = f"1.0: digest: {digest_of(body)} size: {len(body)}"
    assert first.splitlines()[-1] == last
    again = cli.ok("push", name)
    assert again.count(": Layer already exists") == 2
    assert again.splitlines()[-1] == last


@pytest.mark.minid_only("dockerd writes a manifest of its own")
def test_the_digest_stays(cli: Cli, registry: Registry, target: Callable[[str], str]) -> None:
    name = f"kept-{cli.name}/box"
    target(f"{name}:1")
    cli.ok("push", f"{registry.address}/{name}:1")
    assert manifest(registry, name, "1") == manifest(registry, "busybox", "latest")


def test_uploads_what_is_new_and_another_engine_can_run_it(
    cli: Cli, registry: Registry, wire: Wire, busybox: str, tidy: None
) -> None:
    """To another registry, where nothing can be mounted."""
    other = Registry(Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp")))
    name = f"{other.address}/moved/box"
    try:
        other.start()
        wire("POST", f"/images/{busybox}/tag", query={"repo": name, "tag": "1"})
        out = cli.ok("push", f"{name}:1")
        assert out.count(": Pushed") == 2
        wire("DELETE", f"/images/{name}:1")
        layers = json.loads(manifest(other, "moved/box", "1"))["layers"]
        for layer in layers:
            body = other.request("GET", f"/v2/moved/box/blobs/{layer['digest']}")[2]
            assert digest_of(body) == layer["digest"] and len(body) == layer["size"]
        assert cli.ok("run", "--rm", "--network", "none", f"{name}:1", "echo", "moved") == "moved"
    finally:
        wire("DELETE", f"/images/{name}:1")
        other.destroy()


def test_all_tags(cli: Cli, registry: Registry, target: Callable[[str], str]) -> None:
    repository = f"all-{cli.name}/box"
    for tag in ("one", "two"):
        target(f"{repository}:{tag}")
    out = cli.ok("push", "--all-tags", f"{registry.address}/{repository}")
    assert "one: digest: sha256:" in out and "two: digest: sha256:" in out
    status, _, body = registry.request("GET", f"/v2/{repository}/tags/list")
    assert status == 200 and json.loads(body)["tags"] == ["one", "two"]
    refused = cli("push", "--all-tags", f"{registry.address}/{repository}:one")
    assert refused.code == 1 and "tag can't be used with --all-tags/-a" in refused.err


def test_only_the_tag_that_is_named(cli: Cli, registry: Registry, target: Callable[[str], str]) -> None:
    repository = f"one-{cli.name}/box"
    for tag in ("latest", "other"):
        target(f"{repository}:{tag}")
    assert "Using default tag: latest" in cli.ok("push", f"{registry.address}/{repository}")
    tags = json.loads(registry.request("GET", f"/v2/{repository}/tags/list")[2])["tags"]
    assert tags == ["latest"]


def test_what_is_not_there(cli: Cli, registry: Registry, target: Callable[[str], str]) -> None:
    nothing = cli("push", f"{registry.address}/nothing:1")
    assert nothing.code == 1
    assert f"An image does not exist locally with the tag: {registry.address}/nothing" in nothing.err
    name = target(f"partly-{cli.name}/box:1")
    other = cli("push", name.replace(":1", ":2"))
    assert other.code == 1 and "tag does not exist" in other.err


def test_a_registry_that_is_not_there(cli: Cli, wire: Wire, busybox: str, tidy: None) -> None:
    wire("POST", f"/images/{busybox}/tag", query={"repo": "127.0.0.1:1/box", "tag": "1"})
    try:
        gone = cli("push", "127.0.0.1:1/box:1")
        assert gone.code == 1 and "connection refused" in gone.err
    finally:
        wire("DELETE", "/images/127.0.0.1:1/box:1")


def test_the_stream(wire: Wire, registry: Registry, target: Callable[[str], str]) -> None:
    name = target("streamed/box:1")
    query = {"tag": "1"}
    path = f"/images/{name.removesuffix(':1')}/push"
    response = wire("POST", path, query=query, headers={"X-Registry-Auth": "e30="})
    assert response.status == 200 and response.headers["Content-Type"] == "application/json"
    lines = response.json_lines
    body = manifest(registry, "streamed/box", "1")
    assert lines[-1] == {
        "progressDetail": {},
        "aux": {"Tag": "1", "Digest": digest_of(body), "Size": len(body)},
    }
    assert lines[0] == {"status": f"The push refers to repository [{name.removesuffix(':1')}]"}
    assert {key: value for key, value in lines[1].items() if key != "id"} == {
        "status": "Preparing",
        "progressDetail": {},
    }
    failed = wire("POST", path, query={"tag": "none"}, headers={"X-Registry-Auth": "e30="})
    assert failed.status == 200
    assert "tag does not exist" in failed.json_lines[-1]["error"]
    assert failed.json_lines[-1]["errorDetail"]["message"] == failed.json_lines[-1]["error"]


def test_the_event(wire: Wire, docker_cli: Cli, target: Callable[[str], str]) -> None:
    name = target("events/box:1")
    since = f"{time.time():.9f}"
    docker_cli.ok("push", name)
    query = {"since": since, "until": f"{time.time():.9f}", "filters": {"event": ["push"]}}
    events = wire("GET", "/events", query=query).json_lines
    assert [event["Actor"]["ID"] for event in events] == [name]
    assert events[0]["Actor"]["Attributes"]["name"] == name.removesuffix(":1")


def test_docker_py(dockerpy: DockerClient, target: Callable[[str], str]) -> None:
    name = target("docker-py/box:1")
    lines = list(dockerpy.images.push(name.removesuffix(":1"), tag="1", stream=True, decode=True))
    assert lines[-1]["aux"]["Tag"] == "1"


def test_a_repo_digest_appears(wire: Wire, docker_cli: Cli, target: Callable[[str], str]) -> None:
    name = target("digests/box:1")
    repository = name.removesuffix(":1")
    docker_cli.ok("push", name)
    digests = wire.get(f"/images/{name}/json")["RepoDigests"]
    assert [item for item in digests if item.startswith(f"{repository}@sha256:")]
    docker_cli.ok("rmi", name)
    assert wire("GET", f"/images/{repository}/json").status == 404


# logging in


@pytest.fixture(scope="module")
def locked() -> Iterator[Registry]:
    """A registry that wants the password of ``USER``."""
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    (root / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "minid tests", "path": str(root / "htpasswd")}}
    registry = Registry(root, extra={"auth": auth})
    registry.start()
    yield registry
    registry.destroy()


def without_a_store(place: Path) -> Path:
    """Without any credentials in its settings, docker takes docker-credential-pass where that is installed."""
    path = place / "config.json"
    path.write_text(json.dumps({"auths": {"unused.example": {"auth": "eDp5"}}}))
    path.chmod(0o600)
    return place


def tagged(wire: Wire, busybox: str, name: str) -> str:
    repository, _, tag = name.rpartition(":")
    assert wire("POST", f"/images/{busybox}/tag", query={"repo": repository, "tag": tag}).status == 201
    return name


@pytest.mark.parametrize("client", ["docker", "minictl"])
def test_log_in_push_log_out(
    client: str, engine: Engine, wire: Wire, locked: Registry, busybox: str, tmp_path: Path, tidy: None
) -> None:
    name = tagged(wire, busybox, f"{locked.address}/{client}/box:1")
    cli = make_cli(client, engine, without_a_store(tmp_path))
    try:
        anonymous = cli("push", name)
        assert anonymous.code == 1 and "no basic auth credentials" in anonymous.err
        wrong = cli("login", "-u", USER, "--password-stdin", locked.address, stdin="wrong")
        assert wrong.code == 1 and "unauthorized" in wrong.err.lower()
        assert locked.address not in (tmp_path / "config.json").read_text()
        done = cli("login", "-u", USER, "--password-stdin", locked.address, stdin=PASSWORD)
        assert done.code == 0 and "Login Succeeded" in done.out
        config = tmp_path / "config.json"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert set(json.loads(config.read_text())["auths"]) == {"unused.example", locked.address}
        assert ": digest: sha256:" in cli.ok("push", name)
        again = cli("login", locked.address)
        assert again.code == 0 and "Login Succeeded" in again.out
        out = cli.ok("logout", locked.address)
        assert f"Removing login credentials for {locked.address}" in out
        assert cli("push", name).code == 1
        assert cli("logout", locked.address).code == 0
    finally:
        wire("DELETE", f"/images/{name}")
    log = engine.log.read_text(errors="replace")
    assert PASSWORD not in log.replace("secrets", "")


@pytest.mark.parametrize("client", ["docker", "minictl"])
def test_log_in_at_a_terminal(
    client: str, engine: Engine, locked: Registry, tmp_path: Path, tidy: None
) -> None:
    """It asks; the password is not shown while it is typed, and is in no process's arguments."""
    cli = make_cli(client, engine, without_a_store(tmp_path))
    with cli.terminal("login", locked.address, columns=200) as terminal:
        terminal.expect("Username: ")
        terminal.send(f"{USER}\n")
        terminal.expect("Password: ")
        arguments = Path(f"/proc/{terminal.process.pid}/cmdline").read_bytes()
        terminal.send(f"{PASSWORD}\n")
        terminal.expect("Login Succeeded")
        assert terminal.wait() == 0
        assert PASSWORD not in terminal.transcript
        assert PASSWORD.encode() not in arguments
    assert locked.address in (tmp_path / "config.json").read_text()
    refused = cli("login", "unused.example")  # not at a terminal, and what is stored can't be checked
    assert refused.code == 1


@pytest.mark.parametrize("client", ["docker", "minictl"])
@pytest.mark.parametrize("kind", ["credsStore", "credHelpers"])
def test_credential_helpers(
    client: str,
    kind: str,
    engine: Engine,
    wire: Wire,
    locked: Registry,
    busybox: str,
    tmp_path: Path,
    tidy: None,
) -> None:
    helper = tmp_path / "docker-credential-mine"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    settings = {"credsStore": "mine"} if kind == "credsStore" else {"credHelpers": {locked.address: "mine"}}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings))
    cli = make_cli(client, engine, tmp_path)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    name = tagged(wire, busybox, f"{locked.address}/{client}-helper/box:1")
    try:
        done = cli("login", "-u", USER, "--password-stdin", locked.address, stdin=PASSWORD, env=env)
        assert done.code == 0, done.err
        assert json.loads((tmp_path / "store").read_text())["Secret"] == PASSWORD
        assert PASSWORD not in config.read_text() and '"auth":' not in config.read_text()
        pushed = cli("push", name, env=env)
        assert pushed.code == 0, pushed.err
        assert cli("logout", locked.address, env=env).code == 0
        assert not (tmp_path / "store").exists()
        assert cli("push", name, env=env).code == 1
        assert {"store", "get", "erase"} <= set((tmp_path / "calls").read_text().split())
    finally:
        wire("DELETE", f"/images/{name}")


@pytest.mark.skipif(
    not (shutil.which("docker-credential-pass") and shutil.which("pass") and shutil.which("gpg")),
    reason="golang-docker-credential-helpers, pass and gnupg are not installed",
)
def test_debians_own_helper(
    engine: Engine, wire: Wire, locked: Registry, busybox: str, tmp_path: Path, tidy: None
) -> None:
    """docker-credential-pass: what either client stores in it, both use."""
    gpg = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))  # its agent's socket needs a short path
    env = {"GNUPGHOME": str(gpg), "PASSWORD_STORE_DIR": str(tmp_path / "store"), "HOME": str(tmp_path)}
    settled = {**os.environ, **env}
    make_key = [
        "gpg",
        "--batch",
        "--passphrase",
        "",
        "--quick-gen-key",
        "tests@minid.example",
        "default",
        "default",
    ]
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "pass"}))
    docker, minictl = (make_cli(client, engine, tmp_path) for client in ("docker", "minictl"))
    name = tagged(wire, busybox, f"{locked.address}/pass/box:1")
    login = ("login", "-u", USER, "--password-stdin", locked.address)
    try:
        subprocess.run(make_key, env=settled, check=True, capture_output=True, timeout=60)
        subprocess.run(["pass", "init", "tests@minid.example"], env=settled, check=True, capture_output=True)
        for first, second in ((minictl, docker), (docker, minictl)):
            done = first(*login, stdin=PASSWORD, env=env)
            assert done.code == 0, done.err
            assert '"auth":' not in (tmp_path / "config.json").read_text()
            pushed = second("push", name, env=env)
            assert pushed.code == 0, pushed.err
            assert second("logout", locked.address, env=env).code == 0
            assert first("push", name, env=env).code == 1
    finally:
        wire("DELETE", f"/images/{name}")
        subprocess.run(["gpgconf", "--kill", "all"], env=settled, check=False)
        shutil.rmtree(gpg, ignore_errors=True)


def test_minictl_and_docker_share_what_they_know(
    engine: Engine, wire: Wire, locked: Registry, busybox: str, tmp_path: Path, tidy: None
) -> None:
    name = tagged(wire, busybox, f"{locked.address}/shared/box:1")
    place = without_a_store(tmp_path)
    docker, minictl = (make_cli(client, engine, place) for client in ("docker", "minictl"))
    try:
        minictl("login", "-u", USER, "--password-stdin", locked.address, stdin=PASSWORD)
        assert docker("push", name).code == 0
        docker.ok("logout", locked.address)
        assert minictl("push", name).code == 1
        docker("login", "-u", USER, "--password-stdin", locked.address, stdin=PASSWORD)
        assert minictl("push", name).code == 0
    finally:
        wire("DELETE", f"/images/{name}")


def test_the_auth_operation(wire: Wire, locked: Registry, registry: Registry, tidy: None) -> None:
    body = {"username": USER, "password": PASSWORD, "serveraddress": locked.address}
    good = wire.post("/auth", body)
    assert good.status == 200 and good.json["Status"] == "Login Succeeded"
    bad = wire.post("/auth", {**body, "password": "wrong"})
    assert bad.status in (401, 500) and "unauthorized" in bad.message.lower()
    assert PASSWORD not in bad.message and "wrong" not in bad.message
    assert wire.post("/auth", {**body, "serveraddress": registry.address}).status == 200
    assert wire.post("/auth", {**body, "serveraddress": "127.0.0.1:1"}).status >= 500


@pytest.fixture(scope="module")
def tokens() -> Iterator[TokenServer]:
    place = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    rights = {"team/box": {"pull", "push"}, "team/read-only": {"pull"}, "team/copy": {"pull", "push"}}
    with TokenServer(place, {USER: (PASSWORD, rights)}) as server:
        yield server
    subprocess.run(["rm", "-r", str(place)], check=True)


@pytest.fixture(scope="module")
def token_registry(tokens: TokenServer) -> Iterator[Registry]:
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    registry = Registry(root, extra={"auth": tokens.registry_config})
    registry.start()
    yield registry
    registry.destroy()


@pytest.mark.parametrize("client", ["docker", "minictl"])
def test_identity_tokens(
    client: str,
    engine: Engine,
    wire: Wire,
    token_registry: Registry,
    tokens: TokenServer,
    busybox: str,
    tmp_path: Path,
    tidy: None,
) -> None:
    names = [
        tagged(wire, busybox, f"{token_registry.address}/team/{name}:{client}")
        for name in ("box", "copy", "read-only")
    ]
    cli = make_cli(client, engine, without_a_store(tmp_path))
    try:
        done = cli("login", "-u", USER, "--password-stdin", token_registry.address, stdin=PASSWORD)
        assert done.code == 0 and "Login Succeeded" in done.out
        entry = json.loads((tmp_path / "config.json").read_text())["auths"][token_registry.address]
        assert entry["identitytoken"] in tokens.identities
        assert PASSWORD not in (tmp_path / "config.json").read_text()
        assert cli("push", names[0]).code == 0
        mounted = cli.ok("push", names[1])
        assert mounted.count("Mounted from team/box") + mounted.count("Layer already exists") == 2
        denied = cli("push", names[2])
        assert denied.code == 1 and "denied" in denied.err
        assert entry["identitytoken"] not in denied.err
        wire("DELETE", f"/images/{names[0]}")
        assert cli("pull", names[0]).code == 0
    finally:
        for name in names:
            wire("DELETE", f"/images/{name}")
    assert not [token for token in tokens.identities if token in engine.log.read_text(errors="replace")]


def test_an_image_of_oci_form(wire: Wire, registry: Registry, docker_cli: Cli, tidy: None) -> None:
    """Pulled as OCI, it is pushed as OCI; skopeo can copy what was pushed."""
    images.Image([images.Layer().file("oci", b"x" * 4096).done()]).push(registry, "oci/source", form="oci")
    source, copy = f"{registry.address}/oci/source:latest", f"{registry.address}/oci/copy:1"
    pull(wire, source)
    try:
        tagged(wire, source, copy)
        docker_cli.ok("push", copy)
        got = json.loads(manifest(registry, "oci/copy", "1"))
        if engine_is_minid(wire):
            assert got["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        done = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{copy}"], capture_output=True, check=True
        )
        assert json.loads(done.stdout)["Layers"] == [layer["digest"] for layer in got["layers"]]
    finally:
        for name in (copy, source):
            wire("DELETE", f"/images/{name}")


def engine_is_minid(wire: Wire) -> bool:
    return "minid" in json.dumps(wire.get("/version")).lower()


# minictl registry test


def steps(out: str) -> dict[str, str]:
    """Result by step, of what ``minictl registry test`` prints."""
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    return {line[8:15].strip(): line[:8].strip() for line in lines}


@pytest.fixture
def tester(engine: Engine, tmp_path: Path, tidy: None, engine_kind: str) -> Cli:
    if engine_kind != "minid":
        pytest.skip("it is minid's own")
    return make_cli("minictl", engine, tmp_path)


def test_registry_test(tester: Cli, registry: Registry) -> None:
    done = tester("registry", "test", f"{registry.address}/busybox:latest")
    assert done.code == 0, done.out
    expected = {
        "name": "ok",
        "rule": "ok",
        "TCP": "ok",
        "TLS": "note",
        "/v2/": "ok",
        "login": "ok",
        "pull": "ok",
        "push": "ok",
    }
    assert steps(done.out) == expected
    assert "rule: 127.0.0.0/8 is always insecure" in done.out
    for form in (f"http://{registry.address}/", f"https://{registry.address}/v2/", registry.address):
        assert steps(tester.ok("registry", "test", form))["pull"] == "skipped"
    pull_only = tester("registry", "test", "--no-push", f"{registry.address}/busybox")
    assert steps(pull_only.out)["push"] == "skipped"
    lines = [
        json.loads(line)
        for line in tester.ok("registry", "test", "--format", "json", registry.address).splitlines()
    ]
    assert [line["Step"] for line in lines] == ["name", "rule", "TCP", "TLS", "/v2/", "login", "pull"]
    assert all(line["DurationMs"] >= 0 for line in lines)


def test_registry_test_without_a_registry(tester: Cli) -> None:
    done = tester("registry", "test", "127.0.0.1:1")
    assert done.code == 1 and steps(done.out)["TCP"] == "FAILED"
    assert "what to do: is the registry running there" in done.out
    done = tester("registry", "test", "a b")
    assert done.code == 1 and "is not the address of a registry" in done.err
    assert tester("registry", "test", f"{'a' * 70}.invalid").code == 1


def test_registry_test_of_a_password(tester: Cli, locked: Registry, engine: Engine) -> None:
    name = f"{locked.address}/tested/box"
    anonymous = tester("registry", "test", name)
    assert anonymous.code == 1 and steps(anonymous.out)["login"] == "FAILED"
    assert f"what to do: minictl login {locked.address}" in anonymous.out
    tester("login", "-u", USER, "--password-stdin", locked.address, stdin=PASSWORD)
    known = tester("registry", "test", name)
    assert known.code == 0 and f"Basic: accepted as {USER}" in known.out
    assert PASSWORD not in known.out and PASSWORD not in engine.log.read_text(errors="replace").replace(
        "secrets", ""
    )


def test_registry_test_of_rights(tester: Cli, token_registry: Registry) -> None:
    address = token_registry.address
    tester("login", "-u", USER, "--password-stdin", address, stdin=PASSWORD)
    assert steps(tester("registry", "test", f"{address}/team/box").out)["push"] == "ok"
    refused = tester("registry", "test", f"{address}/team/read-only")
    assert refused.code == 1
    assert (steps(refused.out)["pull"], steps(refused.out)["push"]) == ("note", "FAILED")
    assert "the account has no right to it" in refused.out
    assert tester("registry", "test", "--no-push", f"{address}/team/read-only").code == 0
