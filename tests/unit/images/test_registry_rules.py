"""How a registry may be reached, and what it asks for: the pure parts of the registry client."""

import asyncio
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import Failed, InvalidParameter
from minid.images.registry.challenge import Challenge, parse_challenges
from minid.images.registry.endpoint import Certificates, InsecureRules, registry_host, split_host


def test_docker_hub_lives_elsewhere() -> None:
    assert registry_host("docker.io") == "registry-1.docker.io"
    assert registry_host("ghcr.io") == "ghcr.io"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", ("a.b", "")),
        ("a:1", ("a", "1")),
        ("[::1]:5000", ("::1", "5000")),
        ("[::1]", ("::1", "")),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, str]) -> None:
    assert split_host(text) == expected


@pytest.mark.parametrize(
    ("host", "insecure"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.8.9.1:5000", True),
        ("[::1]:5000", True),
        ("[::ffff:127.0.0.1]:5000", True),
        ("localhost.evil.com", False),
        ("127.0.0.1.evil.com", False),
        ("registry.example.com", False),
        ("10.1.2.3:5000", True),
        ("10.2.0.1", False),
        ("my.host:5000", True),
        ("MY.host:5000", True),
        ("my.host", False),
        ("my.host:5001", False),
        ("plain", True),
        ("plain:5000", False),
        ("[fd00::7]:5000", True),
        ("128.0.0.1", False),
    ],
)
def test_which_registries_are_insecure(host: str, insecure: bool) -> None:
    rules = InsecureRules.parse(["10.1.0.0/16", "my.host:5000", "plain", "fd00::/8"])
    assert rules.allows(host) is insecure


def test_a_name_is_insecure_only_if_all_its_addresses_are() -> None:
    rules = InsecureRules.parse(["10.0.0.0/8"])
    assert rules.allows("r.example:5000", ["10.0.0.1", "10.0.0.2"])
    assert not rules.allows("r.example:5000", ["10.0.0.1", "8.8.8.8"])
    assert not rules.allows("r.example:5000", [])
    assert not rules.allows("r.example:5000", ["127.0.0.1"])  # DNS must not be able to switch TLS off


async def test_a_name_that_does_not_resolve_is_secure() -> None:
    assert not await InsecureRules.parse(["10.0.0.0/8"]).is_insecure("does-not-exist.invalid:5000")


@pytest.mark.parametrize("value", ["http://x", "10.0.0.0/99", "x:port", "x:99999", ""])
def test_malformed_insecure_registries(value: str) -> None:
    with pytest.raises(InvalidParameter, match="insecure-registries"):
        InsecureRules.parse([value])


async def test_certificates_are_strict_unless_told(tmp_path: Path) -> None:
    certificates = Certificates([tmp_path])
    strict = await certificates.context("r.example:5000", verify=True)
    assert strict.verify_mode == ssl.CERT_REQUIRED
    assert strict.check_hostname
    assert await certificates.context("other", verify=True) is strict
    assert (await certificates.context("other", verify=False)).verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("name", "message"),
    [("ca.crt", "cannot use"), ("client.cert", "missing key"), ("client.key", "missing client certificate")],
)
async def test_broken_certs_directories_are_told(tmp_path: Path, name: str, message: str) -> None:
    directory = tmp_path / "r.example:5000"
    directory.mkdir()
    (directory / name).write_text("not a certificate")
    with pytest.raises(Failed, match=message):
        await Certificates([tmp_path]).context("r.example:5000", verify=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/t?x=1,2",service=reg.io,scope="repository:a/b:pull,push"'],
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a/t?x=1,2", "service": "reg.io", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            ['bearer realm="a\\"b" , Service = "s", Basic realm=x'],
            [Challenge("bearer", {"realm": 'a"b', "service": "s"}), Challenge("basic", {"realm": "x"})],
        ),
        (["Negotiate", 'Basic realm="y"'], [Challenge("negotiate"), Challenge("basic", {"realm": "y"})]),
        (["Negotiate, Basic realm=z"], [Challenge("negotiate"), Challenge("basic", {"realm": "z"})]),
        ([""], []),
        (['="'], []),
    ],
)
def test_challenges(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_header_is_read_without_error(headers: list[str]) -> None:
    parse_challenges(headers)


def test_is_insecure_needs_no_lookup_for_literals() -> None:
    assert asyncio.run(InsecureRules.parse([]).is_insecure("127.0.0.1:5000"))
