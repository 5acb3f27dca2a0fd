"""What flags of `build` come to, where it is not the docker CLI that says so (see tests/conformance)."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from minictl import flags, registry_auth
from minictl.build import context, output, request, session
from minictl.errors import Failure, UsageError
from minictl.verbs.build import BUILD

HOST = "unix:///nowhere"


def options(*line: str) -> flags.Options:
    return flags.parse(BUILD, [*line, "."])[0]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def test_build_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    assert request.build_arguments(["B=1", "HERE", "NOT_HERE", "E=", "B=2=3"], HOST) == {
        "B": "2=3", "E": "", "HERE": "yes", "NOT_HERE": None,
    }  # fmt: skip


def test_the_epoch_is_passed_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "17")
    assert request.build_arguments([], HOST) == {"SOURCE_DATE_EPOCH": "17"}
    assert request.build_arguments(["SOURCE_DATE_EPOCH=3"], HOST) == {"SOURCE_DATE_EPOCH": "3"}


def test_proxies_of_the_settings_are_passed(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text('{"proxies": {"default": {"httpProxy": "http://p"}}}')
    assert request.build_arguments(["http_proxy=x"], HOST) == {"HTTP_PROXY": "http://p", "http_proxy": "x"}


def test_credentials_of_every_registry_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "bin" / "docker-credential-mine"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\nif [ "$1" = list ]; then echo \'{"c:1": "u"}\'; exit; fi\n'
        'read server; echo "{\\"Username\\": \\"u-$server\\", \\"Secret\\": \\"s\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    assert registry_auth.header_for_all() == "e30="
    (tmp_path / "config").mkdir()
    settings = {"auths": {"a:1": {"auth": base64.b64encode(b"me:pw").decode()}, "empty": {}}}
    (tmp_path / "config" / "config.json").write_text(json.dumps(settings))
    found = json.loads(base64.urlsafe_b64decode(registry_auth.header_for_all()))
    assert found == {"a:1": {"serveraddress": "a:1", "username": "me", "password": "pw"}}
    settings["credHelpers"] = {"b:1": "mine"}  # type: ignore[assignment]
    settings["credsStore"] = "mine"  # type: ignore[assignment]
    (tmp_path / "config" / "config.json").write_text(json.dumps(settings))
    found = json.loads(base64.urlsafe_b64decode(registry_auth.header_for_all()))
    assert {name: one["username"] for name, one in found.items()} == {
        "a:1": "u-a:1", "b:1": "u-b:1", "c:1": "u-c:1", "empty": "u-empty",
    }  # fmt: skip


def test_cache_sources() -> None:
    assert request.cache_sources(["a", "type=registry", "ref=b/c:d", "e"]) == ["a", "b/c:d", "e"]
    for wrong in (["type=local", "src=x"], ["type=gha"], ["ref=x"]):
        with pytest.raises(UsageError):
            request.cache_sources(wrong)


@pytest.mark.parametrize("target", ["type=local,dest=x", "type=registry,ref=x", "x/y", "type=gha"])
def test_other_cache_targets_than_the_image_are_refused(target: str) -> None:
    request.check_cache_targets(["type=inline"])
    with pytest.raises(UsageError, match="is not supported"):
        request.check_cache_targets([target])


def test_more_than_one_platform_is_refused() -> None:
    chosen = context.Context(None, "")
    assert request.query(options("--platform", "Linux/AMD64"), chosen, HOST, [])["platform"] == "linux/amd64"
    with pytest.raises(UsageError, match="one platform"):
        request.query(options("--platform", "linux/amd64,linux/arm64"), chosen, HOST, [])


def test_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0\xff")
    monkeypatch.setenv("TOKEN", "t\n")
    found = session.secrets(
        ["id=a,src=file", "id=b,env=TOKEN", "id=TOKEN", "src=file", "id=c,type=env,src=TOKEN"]
    )
    assert {name: base64.b64decode(value) for name, value in found.items()} == {
        "a": b"\0\xff", "b": b"t\n", "TOKEN": b"t\n", "file": b"\0\xff", "c": b"t\n",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["id=a,src=nowhere", "id=a,env=NOT_SET", "id=a,foo=b", "a", "type=x,id=a", "src=", "id=nowhere"]
)
def test_wrong_secrets_are_refused(text: str) -> None:
    with pytest.raises(Failure):
        session.secrets([text])


def test_a_secret_has_a_largest_size(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 512_001)
    with pytest.raises(Failure, match="larger than 512000 bytes"):
        session.secrets(["id=a,src=big"])


def test_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="SSH_AUTH_SOCK is not set"):
        session.ssh_sources(["default"])
    assert session.ssh_sources(["a=/s", "b=k1,k2"]) == [("a", ["/s"]), ("b", ["k1", "k2"])]
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    assert session.ssh_sources(["default", "x"]) == [("default", []), ("x", [])]


def test_build_contexts() -> None:
    assert session.contexts(["A=dir", "b=docker-image://x"]) == {"a": "dir", "b": "docker-image://x"}
    for wrong in ("a", "=b", "a="):
        with pytest.raises(UsageError):
            session.contexts([wrong])


OUTPUTS: list[tuple[list[str], list[tuple[Any, ...]]]] = [
    ([], [("image", "", [], False)]),
    (["-o", "out"], [("local", "out", [], False)]),
    (["-o", "-"], [("tar", "-", [], False)]),
    (["-o", "type=local,dest=a b"], [("local", "a b", [], False)]),
    (["-o", "type=tar,dest=x.tar"], [("tar", "x.tar", [], False)]),
    (["-o", "type=oci"], [("oci", "-", [], False)]),
    (["-o", "type=docker"], [("docker", "", [], False)]),
    (["-o", 'type=image,"name=a,b",push=true'], [("image", "", ["a", "b"], True)]),
    (["-o", "type=registry,name=x"], [("registry", "", ["x"], True)]),
    (["--push", "-t", "x"], [("registry", "", [], True)]),
    (["--push", "--load", "-t", "x"], [("registry", "", [], True), ("image", "", [], False)]),
    (["-o", "a", "--load"], [("local", "a", [], False), ("image", "", [], False)]),
    (["-o", "type=cacheonly"], [("cacheonly", "", [], False)]),
]


@pytest.mark.parametrize(("line", "wanted"), OUTPUTS)
def test_outputs(line: list[str], wanted: list[tuple[Any, ...]]) -> None:
    found = output.outputs(options(*line))
    assert [(one.kind, one.dest, one.names, one.push) for one in found] == wanted


@pytest.mark.parametrize(
    "line",
    [
        ["-o", "type=foo"],
        ["-o", "dest=x"],
        ["-o", "type=local"],
        ["-o", "type=tar,dest"],
        ["-o", "type=tar,compression=zstd"],
        ["-o", "type=oci,dest=x,tar=false"],
        ["-o", "type=image,push=maybe"],
        ["-o", "type=image,name=A"],
        ["-o", "type=tar,push=true"],
        ["-o", "type=registry"],
        ["--push"],
        ["-o", "-", "-o", "type=oci"],
    ],
)
def test_wrong_outputs_are_refused(line: list[str]) -> None:
    with pytest.raises(UsageError):
        output.outputs(options(*line))


def test_an_image_that_is_not_kept_gets_no_name() -> None:
    assert output.names_to_build(output.outputs(options("-o", "x")), ["a"]) == []
    assert output.names_to_build(output.outputs(options("-o", "x", "--load")), ["a"]) == ["a"]
    assert output.names_to_build(output.outputs(options("-o", "type=image,name=b")), ["a"]) == ["a", "b"]


@pytest.mark.parametrize(
    "place",
    [
        "https://host/x.tar", "http://host/x", "git://host/x", "git@host:x/y.git", "ssh://git@host/x",
        "github.com/x/y", "user@host:x.git#main:sub",
    ],
)  # fmt: skip
def test_what_the_daemon_fetches(place: str) -> None:
    chosen = context.choose(place, "sub/Dockerfile")
    assert (chosen.remote, chosen.body, chosen.dockerfile) == (place, None, "sub/Dockerfile")


def test_the_dockerfiles_own_ignore_file_counts(tmp_path: Path) -> None:
    import io
    import tarfile

    for name in ("Dockerfile", "Other", "a", "b", "c"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "Other.dockerignore").write_text("b\nOther*\n.dockerignore\n")

    def names(dockerfile: str) -> list[str]:
        chosen = context.choose(".", dockerfile)
        assert chosen.body is not None
        with tarfile.open(fileobj=io.BytesIO(b"".join(chosen.body))) as tar:
            return tar.getnames()

    assert names("") == [".dockerignore", "Dockerfile", "Other", "Other.dockerignore", "b", "c"]
    assert names("Other") == ["Dockerfile", "Other", "Other.dockerignore", "a", "c"]


def test_an_ignore_file_beside_a_dockerfile_elsewhere(tmp_path: Path) -> None:
    import io
    import tarfile

    (tmp_path / "context").mkdir()
    for name in ("a", "b"):
        (tmp_path / "context" / name).write_text(name)
    (tmp_path / "D").write_text("FROM x")
    (tmp_path / "D.dockerignore").write_text("a")
    chosen = context.choose("context", "D")
    assert chosen.body is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(chosen.body))) as tar:
        assert tar.getnames() == ["b", chosen.dockerfile, f"{chosen.dockerfile}.dockerignore"]
        ignored = tar.extractfile(f"{chosen.dockerfile}.dockerignore")
        assert ignored is not None
        assert ignored.read().split() == [
            b"a", chosen.dockerfile.encode(), f"{chosen.dockerfile}.dockerignore".encode()
        ]  # fmt: skip
    assert chosen.origin == "D"
