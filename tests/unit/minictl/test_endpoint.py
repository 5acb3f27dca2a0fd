"""Where the daemon is, by options, variables and contexts; nothing is connected to."""

from pathlib import Path
from typing import Any

import pytest

from minictl import contexts, flags, ssh, tcp
from minictl.endpoint import Choice, Endpoint
from minictl.errors import Failure
from minictl.main import GLOBAL_FLAGS


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def choice(*line: str, **variables: str) -> Choice:
    top = flags.Command("", "", "", lambda *_: 0, GLOBAL_FLAGS, interspersed=False)
    options, _ = flags.parse(top, list(line))
    environ: Any = variables
    return Choice(options, environ)


def host(*line: str, **variables: str) -> str:
    return choice(*line, **variables).endpoint().host


def test_the_option_goes_before_the_variables() -> None:
    assert host() == "unix:///run/minid/minid.sock"
    assert host(DOCKER_HOST="unix:///d") == "unix:///d"
    assert host(DOCKER_HOST="unix:///d", MINID_HOST="unix:///m") == "unix:///m"
    assert host("-H", "unix:///h", MINID_HOST="unix:///m") == "unix:///h"
    assert host("-H", "/a/b") == "unix:///a/b"
    assert host("-H", "10.0.0.1:2375") == "tcp://10.0.0.1:2375"
    for wrong in ("http://h:1", "https://h:1", "npipe://x", "h"):
        with pytest.raises(Failure, match=r"unix://|tcp://"):
            host("-H", wrong)


def test_contexts_go_as_with_docker(config: Path) -> None:
    contexts.put("far", "", "tcp://far:2376", False, {})
    contexts.put("further", "", "ssh://further", False, {})
    assert host("--context", "far", DOCKER_HOST="unix:///d") == "tcp://far:2376"
    assert host(DOCKER_HOST="unix:///d", DOCKER_CONTEXT="far") == "unix:///d"
    (config / "config.json").write_text('{"currentContext": "further"}')
    assert host() == "ssh://further"
    assert host(DOCKER_CONTEXT="far") == "tcp://far:2376"
    assert host("-H", "unix:///h", DOCKER_CONTEXT="far") == "unix:///h"
    assert host("--context", "default") == "unix:///run/minid/minid.sock"
    with pytest.raises(Failure, match="cannot specify both --host and --context"):
        choice("-H", "unix:///h", "-c", "far")
    with pytest.raises(Failure, match='unable to resolve docker endpoint: context "no": context not found'):
        host(DOCKER_CONTEXT="no")


def test_tls_is_wanted_when_docker_would_want_it(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem"):
        (tmp_path / name).touch()
    place = {"DOCKER_CERT_PATH": str(tmp_path)}

    def tls(*line: str, **variables: str) -> Any:
        return choice(*line, **(place | variables)).endpoint().tls

    assert tls() is tls("--tls=false", DOCKER_TLS="1") is None
    for line, variables, verify in (
        (("--tls",), {}, False),
        (("--tlsverify",), {}, True),
        (("--tlsverify=false",), {}, False),  # docker: --tlsverify, whatever it says, turns TLS on
        ((), {"DOCKER_TLS": "0"}, False),  # docker: set is yes
        ((), {"DOCKER_TLS_VERIFY": "0"}, True),
        (("--tlsverify=false",), {"DOCKER_TLS_VERIFY": "1"}, False),
    ):
        files = tls(*line, **variables)
        assert files.verify is verify, (line, variables)
        assert (files.ca, files.certificate) == (f"{tmp_path}/ca.pem", f"{tmp_path}/cert.pem")
        assert files.key == ""  # looked for, and not there
    assert tls("--tlsverify", "--tlskey", "/k").key == "/k"
    (tmp_path / "ca.pem").unlink()
    assert tls("--tls").ca == ""
    assert (
        tls("--tlsverify").ca == f"{tmp_path}/ca.pem"
    )  # its absence is an error, not a reason to trust anybody


def test_a_context_brings_its_certificates() -> None:
    contexts.put("far", "", "tcp://far:2376", False, {"ca.pem": b"ca", "key.pem": b"key"})
    files = contexts.endpoint("far").tls
    assert files is not None and files.verify
    assert Path(files.ca).read_bytes() == b"ca"
    assert files.certificate == ""
    assert Path(files.key).stat().st_mode & 0o777 == 0o600
    contexts.put("far", "", "tcp://far:2376", True, {})
    files = contexts.endpoint("far").tls
    assert files is not None and not files.verify and not files.ca
    contexts.put("far", "", "tcp://far:2375", False, {})
    assert contexts.endpoint("far").tls is None


def test_addresses_of_tcp() -> None:
    assert tcp.address("tcp://h:1234", tls=False) == ("h", 1234)
    assert tcp.address("tcp://h", tls=False) == ("h", 2375)
    assert tcp.address("tcp://h/", tls=True) == ("h", 2376)
    assert tcp.address("tcp://:1", tls=True) == ("localhost", 1)
    assert tcp.address("tcp://[::1]:1", tls=True) == ("::1", 1)
    assert tcp.address("tcp://[fe80::1]", tls=True) == ("fe80::1", 2376)
    for wrong in ("tcp://h:x", "tcp://h:0", "tcp://h:65536", "tcp://user@h:1"):
        with pytest.raises(Failure, match="invalid bind address format"):
            tcp.address(wrong, tls=False)


def test_what_ssh_is_given() -> None:
    assert ssh.arguments("ssh://u%40d@Host:2222")[:8] == [
        *("-o", "ConnectTimeout=30", "-T", "-l", "u@d", "-p", "2222", "--"),
    ]  # fmt: skip
    assert ssh.arguments("ssh://Host")[-2] == "Host"
    assert ssh.arguments("ssh://[::1]:22")[-2] == "::1"
    assert "unix:///run/a b.sock" in ssh.arguments("ssh://h/run/a%20b.sock")[-1]
    for wrong, words in (
        ("ssh://u:secret@h", "plain-text password is not supported"),
        ("ssh://", "hostname is empty"),
        ("ssh://h?x", "query parameters are not allowed"),
        ("ssh://h:x", "invalid SSH URL"),
    ):
        with pytest.raises(Failure, match=words) as failure:
            ssh.arguments(wrong)
        assert "secret" not in failure.value.message
    assert Endpoint("ssh://h").scheme == "ssh"
