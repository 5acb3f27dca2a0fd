"""Mirrors with real parts: Debian's docker-registry as origin and as pull-through cache, TLS with client certificates,
and a daemon that is told of them by its YAML file, by ``--registry-mirror`` and by SIGHUP.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Certificate
from tests.cli import Cli
from tests.conftest import make_cli
from tests.engine import REPOSITORY, Engine
from tests.images import Image, Layer
from tests.registry import PROGRAM, Descriptor, Registry
from tests.system.test_registry_rules import own_address

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason="docker-registry is not installed"),
    pytest.mark.minid_only("it configures minid by its YAML file"),
]


@dataclass
class World:
    """An origin, a pull-through cache of it that wants client certificates, and a plain mirror of docker.io."""

    place: Path
    origin: Registry
    cache: Registry
    plain: Registry
    authority: Authority
    client: Certificate
    address: str
    pushed: dict[str, Descriptor] = field(default_factory=dict)

    def at(self, registry: Registry) -> str:
        return f"{self.address}:{registry.port}"

    def rule(self, **more: Any) -> str:
        """JSON is YAML. The origin is asked after its cache, by HTTPS with the test's CA."""
        cache = {
            "url": f"https://{self.at(self.cache)}",
            "ca": str(self.authority.certificate),
            "client": [[str(self.client.certificate), str(self.client.key)]],
        }
        rule = {"hosts": [cache], "ca": [str(self.authority.certificate)], **more}
        return json.dumps({"registries": {self.at(self.origin): rule}})


def image(text: str) -> Image:
    return Image([Layer().file(f"{text}-base", text * 50).done(), Layer().file(text, text * 2000).done()])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    place = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    address = own_address()
    authority = Authority(place / "ca")
    served = authority.issue("served", f"IP:{address},IP:127.0.0.1")
    tls = {"certificate": str(served.certificate), "key": str(served.key)}
    registries = [Registry(place / name) for name in ("origin", "cache", "plain")]
    origin, cache, plain = registries
    world = World(place, origin, cache, plain, authority, authority.issue("client", "DNS:client"), address)
    try:
        origin.start()  # by plain HTTP, to be filled
        for name in ("one", "two", "three"):
            world.pushed[name] = image(name).push(origin, f"team/{name}")
        origin.stop()
        origin.extra = {"http": {"addr": f":{origin.port}", "tls": tls}}
        origin.start()
        cache.environment["SSL_CERT_FILE"] = str(authority.certificate)
        cache.extra = {
            "http": {"addr": f":{cache.port}", "tls": {**tls, "clientcas": [str(authority.certificate)]}},
            "proxy": {"remoteurl": f"https://{address}:{origin.port}"},
        }
        cache.start()
        plain.start()
        image("hub").push(plain, "library/minid-test-image")
        yield world
    finally:
        for registry in registries:
            registry.stop()
        shutil.rmtree(place)


@pytest.fixture
def configured(
    world: World, make_engine: Callable[..., Engine], tmp_path: Path
) -> Callable[..., tuple[Engine, Cli, Cli]]:
    def start(text: str, *flags: str) -> tuple[Engine, Cli, Cli]:
        (tmp_path / "minid.yaml").write_text(text)
        engine = make_engine()
        engine.extra = ["--config-file", str(tmp_path / "minid.yaml"), *flags]
        engine.start()
        docker, minictl = (make_cli(client, engine, tmp_path) for client in ("docker", "minictl"))
        return engine, docker, minictl

    return start


def reloaded(engine: Engine, settings: Path, text: str, told: str) -> None:
    """SIGHUP with another configuration; the log tells what came of it."""
    settings.write_text(text)
    before = engine.log.read_text().count(told)
    os.kill(engine.pid, signal.SIGHUP)
    while engine.log.read_text().count(told) == before:
        assert engine.running


READ = "configuration read again"
WRONG = "the configuration is wrong, the old one stays in force"


def test_a_pull_through_cache(
    world: World, configured: Callable[..., tuple[Engine, Cli, Cli]], tmp_path: Path
) -> None:
    engine, docker, minictl = configured(world.rule())
    origin, cache = world.at(world.origin), world.at(world.cache)
    name = f"{origin}/team/one:latest"

    pulled = docker.ok("pull", name)
    assert f"Served by: {cache} (4); registries has {origin}" in pulled
    assert f"Digest: {world.pushed['one'].digest}" in pulled
    inspected = json.loads(docker.ok("inspect", name))[0]
    assert inspected["RepoDigests"] == [f"{origin}/team/one@{world.pushed['one'].digest}"]

    explained = minictl.ok("explain", name)
    assert f"1. https://{cache}/v2/team/one (pull, resolve)" in explained
    assert f"2. https://{origin}/v2/team/one (pull, resolve, push)" in explained
    assert f"client certificate: {world.client.certificate}" in explained
    assert f"pushed to:  {origin}" in explained
    assert f"rule:       registries has {origin}" in explained
    assert f"here:       {inspected['Id']}" in explained

    tested = minictl("registry", "test", name)
    assert f"1. {cache} (pull, resolve), 2. {origin} (pull, resolve, push)" in tested.out
    assert f"{cache}: has team/one:latest" in tested.out
    assert tested.code == 0 and "team/one:latest can be pulled" in tested.out, tested.out
    assert f"certificates in {world.authority.certificate} are used, too" in tested.out
    assert f"rule: registries has {origin}" in tested.out

    # the cache is away: the origin serves, and is told why
    world.cache.stop()
    try:
        pulled = minictl.ok("pull", f"{origin}/team/two")
        assert f"{cache}: connection refused (https)" in pulled and f"; asking {origin}" in pulled
        assert f"Served by: {origin} (4)" in pulled
        tested = minictl("registry", "test", name)
        assert f"note    host   {cache}: connection refused" in tested.out

        # only the cache: nothing
        only = {"hosts": json.loads(world.rule())["registries"][origin]["hosts"], "fallback": False}
        settings = tmp_path / "minid.yaml"
        reloaded(engine, settings, json.dumps({"registries": {origin: only}}), READ)
        refused = docker("pull", f"{origin}/team/three")
        assert refused.code == 1 and f"registry {cache}: connection refused" in refused.err
        tested = minictl("registry", "test", name)
        assert tested.code == 1 and f"FAILED  host   {cache}: connection refused" in tested.out
        refused = docker("push", name)
        assert refused.code == 1 and "no host has the capability push" in refused.err
    finally:
        world.cache.start()
    assert f"Served by: {cache} (4)" in docker.ok("pull", f"{origin}/team/three")


def test_a_reload_is_all_or_nothing(
    world: World, configured: Callable[..., tuple[Engine, Cli, Cli]], tmp_path: Path
) -> None:
    engine, docker, minictl = configured("{}")
    origin, settings = world.at(world.origin), tmp_path / "minid.yaml"
    name = f"{origin}/team/one"
    assert "signed by an unknown CA" in docker("pull", name).err
    assert "rule:       no rule is for it" in minictl.ok("explain", name)

    wrong = json.loads(world.rule())
    wrong["insecure-registries"] = [origin]
    wrong["registries"][origin]["hosts"][0]["capabilities"] = ["fly"]
    reloaded(engine, settings, json.dumps(wrong), WRONG)
    assert "there is no capability 'fly'" in engine.log.read_text()
    assert "signed by an unknown CA" in docker("pull", name).err  # nothing of it is in force

    reloaded(engine, settings, world.rule(), READ)
    assert f"Served by: {world.at(world.cache)}" in docker.ok("pull", name)


def test_a_mirror_of_docker_hub(
    world: World, configured: Callable[..., tuple[Engine, Cli, Cli]], tmp_path: Path
) -> None:
    url = f"http://{world.plain.address}"
    engine, docker, minictl = configured("{}", "--registry-mirror", url, "--debug")
    info = json.loads(docker.ok("info", "--format", "{{json .RegistryConfig}}"))
    assert info["Mirrors"] == [f"{url}/"] == info["IndexConfigs"]["docker.io"]["Mirrors"]
    assert f"Registry Mirrors:\n  {url}/" in docker.ok("info")
    assert f"Registry Mirrors:\n  {url}/" in minictl.ok("info")
    pulled = docker.ok("pull", "minid-test-image")
    assert f"Served by: {world.plain.address} (4); registry-mirrors" in pulled
    served = [line for line in engine.log.read_text().splitlines() if "a registry host serves" in line]
    assert len(served) == 4 and all(f"host={world.plain.address}" in line for line in served), served
    assert all("rule=registry-mirrors" in line for line in served)
    assert docker.ok("images", "-q", "minid-test-image")


def test_mirrors_change_by_sighup(
    world: World, configured: Callable[..., tuple[Engine, Cli, Cli]], tmp_path: Path
) -> None:
    engine, docker, _ = configured("{}")
    url = f"http://{world.plain.address}"
    reloaded(engine, tmp_path / "minid.yaml", json.dumps({"registry-mirrors": [url]}), READ)
    assert f"Registry Mirrors:\n  {url}/" in docker.ok("info")
    docker.ok("pull", "minid-test-image")


def test_validate(world: World, tmp_path: Path) -> None:
    def validated(text: str) -> tuple[int, str]:
        (tmp_path / "minid.yaml").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "minid.cli", "--validate", "--config-file", str(tmp_path / "minid.yaml")],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    assert validated(world.rule()) == (0, "")
    code, said = validated("registries:\n  corp.example:\n    hosts:\n      - url: corp.example\n")
    assert code != 0
    assert f"{tmp_path}/minid.yaml:4: registries: corp.example: 'corp.example' is not a URL" in said
    code, said = validated("registry-mirrors: ['https://m']\nregistries: {docker.io: {fallback: true}}\n")
    assert code != 0 and "both say what is asked for docker.io" in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"client": None}, "it wants a certificate from this client"),
        ({"ca": None}, "its certificate is not trusted, it is signed by an unknown CA"),
        ({"ca": "/nonexistent/ca.pem"}, "cannot use /nonexistent/ca.pem"),
        ({"url": "http://{cache}"}, "answered 400"),
        ({"skip_verify": True, "ca": None}, ""),
    ],
    ids=["no client certificate", "no CA", "no such file", "plain HTTP", "skip_verify"],
)
def test_how_a_mirror_is_believed(
    world: World, configured: Callable[..., tuple[Engine, Cli, Cli]], change: dict[str, Any], told: str
) -> None:
    """A mirror that is not as the rule says is passed over, and that is told."""
    origin, cache = world.at(world.origin), world.at(world.cache)
    rules = json.loads(world.rule())
    host = rules["registries"][origin]["hosts"][0]
    host.update(change)
    host["url"] = host["url"].format(cache=cache)
    if host["url"].startswith("http://"):
        host.update(ca=None, client=None)
    _, docker, _ = configured(json.dumps(rules))
    pulled = docker.ok("pull", f"{origin}/team/one")
    if told:
        assert told in pulled and f"; asking {origin}" in pulled
        assert f"Served by: {origin} (4)" in pulled
    else:
        assert f"Served by: {cache} (4)" in pulled
