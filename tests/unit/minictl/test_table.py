"""Tables as Go's tabwriter lays them out, ports as docker shows them, credentials as it keeps them."""

import json
from pathlib import Path
from typing import Any

import pytest

from minictl import config, registry_auth, table
from minictl.errors import Failure
from minictl.reference import familiar_tagged, parse
from minictl.verbs.ps import ports_text


def test_columns() -> None:
    assert table.aligned([["ID", "NAME", "X"], ["0123456789ab", "a", ""]]) == (
        "ID             NAME      X\n0123456789ab   a         \n"
    )


def test_a_line_without_a_column_ends_it() -> None:
    assert table.aligned([["a", "b"], ["x"], ["a longer one", "b"]]) == "a         b\nx\na longer one   b\n"


def test_ellipsis() -> None:
    assert table.ellipsis("abcdef", 6) == "abcdef"
    assert table.ellipsis("abcdefg", 6) == "abcde…"


def port(private: int, public: int = 0, ip: str = "", kind: str = "tcp") -> dict[str, Any]:
    found: dict[str, Any] = {"PrivatePort": private, "Type": kind}
    return found | ({"PublicPort": public, "IP": ip} if public else {})


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(80, kind="udp"), port(80)], "80/tcp, 80/udp"),
        ([port(80, 80, "0.0.0.0")], "0.0.0.0:80->80/tcp"),
        ([port(80, 8080, "0.0.0.0"), port(80, 8080, "::")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([port(n) for n in (82, 80, 81)], "80-82/tcp"),
        ([port(n, n, "0.0.0.0") for n in (90, 91)], "0.0.0.0:90-91->90-91/tcp"),
        ([port(80), port(90), port(91)], "80/tcp, 90-91/tcp"),
    ],
)
def test_ports(ports: list[dict[str, Any]], text: str) -> None:
    assert ports_text(ports) == text


@pytest.mark.parametrize(
    ("text", "name", "tag", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "", "busybox:latest"),
        ("a/b:c", "docker.io/a/b", "c", "a/b:c"),
        ("localhost/b", "localhost/b", "", "localhost/b:latest"),
        ("h:5000/a.b/c_d:1", "h:5000/a.b/c_d", "1", "h:5000/a.b/c_d:1"),
        ("docker.io/library/x", "docker.io/library/x", "", "x:latest"),
        ("index.docker.io/x", "docker.io/library/x", "", "x:latest"),
        ("Host/x", "Host/x", "", "Host/x:latest"),
    ],
)
def test_references(text: str, name: str, tag: str, familiar: str) -> None:
    reference = parse(text)
    assert (reference.name, reference.tag, familiar_tagged(text)) == (name, tag, familiar)


@pytest.mark.parametrize("text", ["", "Foo", "a//b", "a:", "-a", "a:b c", "a@x", "f" * 64, ":x", "a/B"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(Failure, match="invalid reference format"):
        parse(text)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def decoded(header: str) -> Any:
    import base64

    return json.loads(base64.urlsafe_b64decode(header))


def test_credentials(directory: Path) -> None:
    assert registry_auth.header_for("docker.io") == "e30="
    auths = {"h:5000": {"auth": "dXNlcjpwYTpzcw=="}, "https://index.docker.io/v1/": {"identitytoken": "T"}}
    (directory / "config.json").write_text(json.dumps({"auths": auths}))
    assert decoded(registry_auth.header_for("h:5000")) == {
        "serveraddress": "h:5000", "username": "user", "password": "pa:ss",
    }  # fmt: skip
    assert decoded(registry_auth.header_for("docker.io"))["identitytoken"] == "T"
    assert registry_auth.header_for("elsewhere") == "e30="


def test_a_credential_helper_is_asked(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = directory / "docker-credential-mine"
    helper.write_text(
        '#!/bin/sh\nread server\necho "{\\"Username\\":\\"u-$server\\",\\"Secret\\":\\"s\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    (directory / "config.json").write_text(json.dumps({"credsStore": "mine"}))
    assert decoded(registry_auth.header_for("h"))["username"] == "u-h"


def test_a_broken_settings_file_is_named(directory: Path) -> None:
    (directory / "config.json").write_text("{")
    with pytest.raises(Failure, match=r"Error loading config file: .*config\.json"):
        config.load()


def test_settings_are_replaced_whole_and_private(directory: Path) -> None:
    config.save({"auths": {"h": {}}})
    assert config.load() == {"auths": {"h": {}}}
    assert (directory / "config.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in directory.iterdir()] == ["config.json"]
