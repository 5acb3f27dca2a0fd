"""Mirrors: the order of hosts, what they are asked for, when the next one is, and that nobody is believed blindly."""

import json
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from minid.config.located import Wrong, parse
from minid.config.registries import (
    RegistryHost,
    RegistryRule,
    problems_of_hosts_toml,
    read_hosts_toml,
    registries,
)
from minid.errors import Failed, NotFound, Unauthorized
from minid.images.reference import parse as parse_reference
from minid.images.registries import Registries
from minid.images.registry.authorizer import Auth
from minid.images.registry.hosts import Hosts, rewritten
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import Built, InProcessRegistry, TokenServer, layer_tar
from tests.unit.images.uploading_registry import UploadingRegistry

PASSWORD = Auth("me", "the-secret")
LAYERS = [layer_tar("a", 5000), layer_tar("b", 300_000)]


@dataclass
class World:
    """An engine, a registry with ``app`` in it, and a mirror that has nothing yet."""

    place: Place
    registry: InProcessRegistry
    mirror: InProcessRegistry
    built: Built = field(init=False)

    @property
    def name(self) -> str:
        return f"{self.registry.address}/app"

    def fill_mirror(self, path: str = "app") -> None:
        assert self.mirror.add_image(path, layers=LAYERS) == self.built or path != "app"

    def rule(self, *hosts: RegistryHost, fallback: bool = True) -> None:
        server = RegistryHost() if fallback else None
        rule = RegistryRule(hosts or (RegistryHost(f"http://{self.mirror.address}"),), server)
        self.place.images.registries.reload((), {self.registry.address: rule})

    def host(self, capabilities: tuple[str, ...] = ("pull", "resolve"), **more: Any) -> RegistryHost:
        return RegistryHost(f"http://{self.mirror.address}", capabilities, **more)

    async def pull(self, name: str = "", **more: Any) -> str:
        image = await self.place.images.pull(name or self.name, progress=self.place.tell, **more)
        return image.id

    def asked(self, server: InProcessRegistry) -> list[str]:
        return [path for _, path in server.requests]


@pytest.fixture
async def world(place: Place, registry: InProcessRegistry) -> AsyncIterator[World]:
    async with InProcessRegistry() as mirror:
        world = World(place, registry, mirror)
        # the config has the name in it: both have the same image
        world.built = registry.add_image("app", layers=LAYERS)
        yield world


# order and capabilities


async def test_a_mirror_that_has_it_is_the_only_one_asked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "minid.images.registry.mirrors")
    world.fill_mirror()
    world.rule(world.host())
    assert await world.pull() == world.built.config_digest
    assert world.asked(world.registry) == []
    assert (
        f"Served by: {world.mirror.address} (4); registries has {world.registry.address}"
        in world.place.statuses()
    )
    assert {record.host for record in caplog.records} == {world.mirror.address}  # type: ignore[attr-defined]
    assert world.place.images.get(world.name).digests == (f"{world.name}@{world.built.manifest_digest}",)


async def test_without_a_rule_nothing_is_said_of_hosts(world: World) -> None:
    await world.pull()
    assert not [line for line in world.place.statuses() if line.startswith("Served by")]


async def test_a_mirror_that_does_not_have_it_is_passed_over(world: World) -> None:
    world.rule(world.host())
    assert await world.pull() == world.built.config_digest
    notes = [line for line in world.place.statuses() if "; asking " in line]
    assert len(notes) == 1
    assert notes[0].startswith(f"{world.mirror.address}: manifest for {world.name}:latest not found")
    assert notes[0].endswith(f"; asking {world.registry.address}")
    assert f"Served by: {world.registry.address} (4)" in " ".join(world.place.statuses())


async def test_nobody_listens_at_the_mirror(world: World) -> None:
    world.rule(RegistryHost("http://127.0.0.1:9", ("pull", "resolve")))
    assert await world.pull() == world.built.config_digest
    assert "127.0.0.1:9: connection refused (http)" in " ".join(world.place.statuses())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_mirror_in_trouble_is_left_out_for_the_rest(world: World, status: int) -> None:
    world.fill_mirror()
    world.mirror.statuses["/latest"] = [status]
    world.rule(world.host())
    await world.pull()
    assert len(world.mirror.requests) == 1  # and never waited for


async def test_the_third_is_asked_after_the_second(world: World) -> None:
    async with InProcessRegistry() as third:
        assert third.add_image("app", layers=LAYERS) == world.built
        world.mirror.statuses["/latest"] = [503]
        world.rule(world.host(), RegistryHost(f"http://{third.address}"))
        await world.pull()
        assert world.asked(world.registry) == []
        assert len(third.requests) == 4


async def test_layers_that_the_mirror_lacks_come_from_the_registry(world: World) -> None:
    world.fill_mirror()
    del world.mirror.blobs[world.built.layer_digests[1]]
    world.rule(world.host())
    assert await world.pull() == world.built.config_digest
    assert world.asked(world.registry) == [f"/v2/app/blobs/{world.built.layer_digests[1]}"]
    served = next(line for line in world.place.statuses() if line.startswith("Served by"))
    assert f"{world.mirror.address} (3), {world.registry.address} (1)" in served


async def test_a_mirror_without_resolve_is_never_asked_what_a_tag_means(world: World) -> None:
    """It has another image under the tag, and the right one by its digest."""
    world.fill_mirror()
    other = world.mirror.add_image("app", layers=[layer_tar("evil")])
    assert world.mirror.manifests["app", "latest"][0] != world.registry.manifests["app", "latest"][0]
    world.rule(world.host(("pull",)))
    assert await world.pull() == world.built.config_digest
    assert not [path for path in world.asked(world.mirror) if path.endswith("/latest")]
    assert world.asked(world.registry) == ["/v2/app/manifests/latest"]  # one HEAD, the rest from the mirror
    assert world.registry.requests[0][0] == "HEAD"
    assert other.manifest_digest not in " ".join(world.asked(world.mirror))


async def test_a_mirror_with_resolve_says_what_a_tag_means(world: World) -> None:
    other = world.mirror.add_image("app", layers=[layer_tar("newer")])
    world.rule(world.host())
    assert await world.pull() == other.config_digest


async def test_a_mirror_that_may_only_resolve(world: World) -> None:
    world.fill_mirror()
    world.rule(world.host(("resolve",)))
    await world.pull()
    assert world.mirror.requests == [("HEAD", "/v2/app/manifests/latest")]


async def test_only_the_mirror(world: World) -> None:
    world.rule(world.host(), fallback=False)
    with pytest.raises(NotFound, match="manifest unknown"):
        await world.pull()
    world.fill_mirror()
    await world.pull()
    assert world.registry.requests == []


async def test_nobody_may_resolve(world: World) -> None:
    world.fill_mirror()
    world.rule(world.host(("pull",)), fallback=False)
    with pytest.raises(Failed, match=r"no host has the capability resolve \(registries has"):
        await world.pull()
    await world.pull(f"{world.name}@{world.built.manifest_digest}")


async def test_the_last_one_is_waited_for(world: World) -> None:
    """Trouble at a mirror moves on at once, trouble at the end is tried again as ever."""
    world.rule(world.host())
    world.registry.statuses["/latest"] = [503, 503]
    await world.pull()
    assert world.mirror.count("GET", "/latest") == 1
    assert world.registry.count("GET", "/latest") == 3


async def test_all_tags(world: World) -> None:
    world.mirror.add_image("app", "1")
    world.mirror.add_image("app", "2")
    world.rule(world.host())
    await world.pull(all_tags=True)
    assert {tag.rpartition(":")[2] for tag in world.place.images.list()[0].tags} == {"1", "2"}


async def test_the_namespace_is_told(world: World) -> None:
    world.fill_mirror()
    world.rule(world.host())
    await world.pull()
    assert set(world.mirror.queries) == {f"ns={world.registry.address}"}
    await world.pull()


# who is not believed


async def test_a_manifest_with_another_digest(world: World) -> None:
    world.fill_mirror()
    data, kind = world.mirror.manifests["app", "latest"]
    world.mirror.manifests["app", world.built.manifest_digest] = (data + b" ", kind)
    world.rule(world.host(("pull",)))
    assert await world.pull() == world.built.config_digest
    assert "has the digest" in " ".join(world.place.statuses())
    # it has lied once: it is asked for nothing more
    assert len(world.mirror.requests) == 1


async def test_a_config_with_another_digest(world: World) -> None:
    world.fill_mirror()
    size = len(world.mirror.blobs[world.built.config_digest])
    world.mirror.blobs[world.built.config_digest] = b"x" * size
    world.rule(world.host())
    assert await world.pull() == world.built.config_digest


@pytest.mark.parametrize(
    "fault", ["other bytes", "one bit", "shorter", "longer", "cut again and again", "nothing"]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_layer_that_is_not_what_was_asked_for(world: World, fault: str, chunked: bool) -> None:
    world.fill_mirror()
    world.mirror.chunked = chunked
    digest = world.built.layer_digests[1]
    good = world.mirror.blobs[digest]
    world.mirror.blobs[digest] = {
        "other bytes": b"\0" * len(good),
        "one bit": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
        "shorter": good[:-100],
        "longer": good + b"more",
        "nothing": b"",
    }.get(fault, good)
    if fault == "cut again and again":
        world.mirror.cuts[digest] = [1000] * 50
    world.rule(world.host())
    assert await world.pull() == world.built.config_digest
    assert world.registry.count("GET", digest) >= 1
    for layer_digest in world.built.layer_digests:
        assert world.place.images._content.read(layer_digest, 1 << 20) == world.registry.blobs[layer_digest]


async def test_a_layer_that_nobody_has_right(world: World) -> None:
    world.fill_mirror()
    digest = world.built.layer_digests[1]
    for server in (world.mirror, world.registry):
        server.blobs[digest] = b"\0" * len(server.blobs[digest])
    world.rule(world.host())
    with pytest.raises(Failed, match="was received with another content"):
        await world.pull()
    assert world.place.files() == []
    assert world.mirror.count("GET", digest) == world.registry.count("GET", digest) == 1


async def test_a_wrong_beginning_and_a_right_end(world: World) -> None:
    """The mirror breaks off in the middle of wrong bytes; the registry's own, from there on, do not mend that."""
    world.fill_mirror()
    digest = world.built.layer_digests[1]
    world.mirror.blobs[digest] = b"\0" * len(world.mirror.blobs[digest])
    world.mirror.cuts[digest] = [10_000]
    world.rule(world.host())
    assert await world.pull() == world.built.config_digest
    assert world.registry.count("GET", digest) == 2  # the rest, and then all of it


# credentials


async def test_credentials_are_for_the_registry_alone(world: World) -> None:
    world.mirror.basic = ("me", "the-secret")
    world.registry.basic = ("me", "the-secret")
    world.rule(world.host())
    assert await world.pull(auth=PASSWORD) == world.built.config_digest
    assert world.mirror.requests and not [item for item in world.mirror.headers if "Authorization" in item]
    assert [item for item in world.registry.headers if "Authorization" in item]


async def test_a_mirrors_token_server_gets_no_password(world: World) -> None:
    world.fill_mirror()
    async with TokenServer(accounts={"me": "the-secret"}) as tokens:
        world.mirror.bearer = tokens
        world.rule(world.host())
        await world.pull(auth=PASSWORD)
        assert tokens.queries and not [query for query in tokens.queries if "account" in query]
        assert tokens.queries[0]["scope"] == "repository:app:pull"
    assert world.registry.requests == []


async def test_a_mirror_has_credentials_of_its_own(world: World) -> None:
    """``header`` goes to that host only, not where it redirects to, and never to the registry."""
    world.fill_mirror()
    world.mirror.basic = ("mirror", "its-own")
    secret = "Basic bWlycm9yOml0cy1vd24="
    async with InProcessRegistry() as elsewhere:
        elsewhere.blobs = dict(world.mirror.blobs)
        world.mirror.redirect_blobs = f"http://{elsewhere.address}/v2/app/blobs"
        del elsewhere.blobs[world.built.layer_digests[0]]
        world.rule(world.host(header=(("Authorization", secret), ("X-Team", "a"))))
        assert await world.pull(auth=PASSWORD) == world.built.config_digest
        assert {item["Authorization"] for item in world.mirror.headers} == {secret}
        assert {item["X-Team"] for item in world.mirror.headers} == {"a"}
        for server in (elsewhere, world.registry):
            assert (
                server.headers and secret not in str(server.headers) and "X-Team" not in str(server.headers)
            )
    route = world.place.images.registries.route(world.name)[1]
    assert secret not in repr(route) and secret not in " ".join(world.place.statuses())


async def test_a_push_goes_to_the_first_that_may_be_pushed_to(place: Place) -> None:
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(UploadingRegistry())
        mirror = await stack.enter_async_context(UploadingRegistry())
        registry.put_image("app", layers=[layer_tar("a")])
        name = f"{registry.address}/app"
        await place.images.pull(name, progress=place.tell)
        place.images.tag(name, f"{registry.address}/team/copy:1")
        reload = place.images.registries.reload

        pulls = RegistryHost(f"http://{mirror.address}", ("pull", "resolve"))
        reload((), {registry.address: RegistryRule((pulls,), RegistryHost())})
        await place.images.push(f"{registry.address}/team/copy:1", auth=PASSWORD, progress=place.tell)
        assert ("team/copy", "1") in registry.manifests and not mirror.manifests

        pushes = RegistryHost(f"http://{mirror.address}", ("push",), rewrite=(("team/*", "x/*"),))
        reload((), {registry.address: RegistryRule((pushes,), RegistryHost())})
        await place.images.push(f"{registry.address}/team/copy:1", auth=PASSWORD, progress=place.tell)
        assert ("x/copy", "1") in mirror.manifests
        assert not [item for item in mirror.headers if "Authorization" in item]

        reload((), {registry.address: RegistryRule((pulls,), None)})
        with pytest.raises(Failed, match="no host has the capability push"):
            await place.images.push(f"{registry.address}/team/copy:1", progress=place.tell)


# rules


async def test_rewriting(world: World) -> None:
    world.fill_mirror("hub/proxy/app")
    built = world.mirror.add_image("hub/proxy/app", layers=LAYERS)
    world.rule(world.host(rewrite=(("*", "hub/proxy/*"),)), fallback=False)
    assert await world.pull() == built.config_digest
    assert world.place.images.get(world.name).tags == (f"{world.name}:latest",)


async def test_a_url_with_a_path_and_override_path(world: World) -> None:
    world.mirror.add_image("cache/v2/app", layers=LAYERS)  # /v2/cache/v2/app
    url = f"http://{world.mirror.address}/v2/cache"
    world.rule(RegistryHost(url, ("pull", "resolve")), fallback=False)
    await world.pull()
    world.mirror.add_image("other/app", layers=LAYERS)
    url = f"http://{world.mirror.address}/v2/other"
    world.rule(RegistryHost(url, ("pull", "resolve"), override_path=True), fallback=False)
    await world.pull()
    assert "/v2/other/app/manifests/latest" in world.asked(world.mirror)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("library/busybox", "hub/busybox"),
        ("library/deep/busybox", "deeper/busybox"),
        ("library", "library"),
        ("library/one", "single"),
        ("team/app", "all/team/app"),
    ],
)
def test_patterns_of_rewrite(path: str, expected: str) -> None:
    rule = registries(
        parse(
            b"x.example: {rewrite: {library/*: hub/*, '*': all/*, library/one: single, library: library,"
            b" library/deep/*: deeper/*}}"
        )
    )["x.example"]
    assert rule.server is not None
    assert rewritten(path, rule.server.rewrite) == expected


def test_which_rule_counts(tmp_path: Path) -> None:
    def write(name: str, url: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts.toml").write_text(f'[host."{url}"]\n')

    rules = registries(
        parse(
            b"Corp.Example: {hosts: [url: 'https://domain']}\n"
            b"corp.example/a/*: {hosts: [url: 'https://a']}\n"
            b"corp.example/a/b/*: {hosts: [url: 'https://ab']}\n"
            b"'*': {hosts: [url: 'https://any']}\n"
        )
    )
    write("toml.example:5000", "https://toml")
    write("port.example_5000_", "https://port")
    write("_default", "https://default")
    hosts = Hosts(rules, ("https://mirror/",), (tmp_path / "no", tmp_path))

    def first(name: str, hosts: Hosts = hosts) -> tuple[str, str]:
        route = hosts.route(parse_reference(name))
        return route.places[0].host, route.rule

    assert first("corp.example/x") == ("domain", "registries has corp.example")
    assert first("corp.example/a/x") == ("a", "registries has corp.example/a/*")
    assert first("corp.example/a/b/x")[0] == "ab"
    assert first("corp.example/ab/x")[0] == "domain"
    assert first("busybox") == ("mirror", "registry-mirrors")
    assert first("toml.example:5000/x") == ("toml", str(tmp_path / "toml.example:5000/hosts.toml"))
    assert first("port.example:5000/x")[0] == "port"
    assert first("toml.example/x") == ("any", "registries has *")
    without = Hosts({}, (), (tmp_path,))
    assert first("toml.example/x", without) == ("default", str(tmp_path / "_default/hosts.toml"))
    assert first("busybox", Hosts({}, (), ())) == (
        "registry-1.docker.io",
        "no rule is for it: the registry itself",
    )


def test_hosts_toml(tmp_path: Path) -> None:
    """The example of containerd's documentation, and what its keys mean."""
    place = tmp_path / "docker.io"
    place.mkdir()
    file = place / "hosts.toml"
    file.write_text(
        """
server = "https://registry-1.docker.io"    # Exclude this to not use upstream

[host."https://public-mirror.example.com"]
  capabilities = ["pull"]
[host."https://docker-mirror.internal/us/"]
  capabilities = ["pull", "resolve"]
  ca = "docker-mirror.crt"
  client = [["client.cert", "client.key"], ["/both.pem", ""]]
  skip_verify = false
  dial_timeout = "1s"
  [host."https://docker-mirror.internal/us/".header]
    x-custom = ["value1", "value2"]
[host."http://plain.example:80/v2/upstream"]
  override_path = true
"""
    )
    route = Hosts({}, (), (tmp_path,)).route(parse_reference("busybox"))
    public, internal, plain, server = route.places
    assert [place.capabilities for place in route.places] == [
        ("pull",),
        ("pull", "resolve"),
        ("pull", "resolve", "push"),
        ("pull", "resolve", "push"),
    ]
    assert public.url == "https://public-mirror.example.com/v2/library/busybox"
    assert public.target("/tags/list?n=1") == "/v2/library/busybox/tags/list?n=1&ns=docker.io"
    assert internal.target("/blobs/x") == "/us/v2/library/busybox/blobs/x?ns=docker.io"
    assert internal.access.ca == (place / "docker-mirror.crt",)
    assert internal.access.client == (
        (place / "client.cert", place / "client.key"),
        (Path("/both.pem"), Path("/both.pem")),
    )
    assert internal.access.dial_timeout_s == 1.0
    assert internal.access.header == (("x-custom", "value1"), ("x-custom", "value2"))
    assert (plain.access.scheme, plain.host) == ("http", "plain.example")
    assert plain.target("/blobs/x") == "/v2/upstream/library/busybox/blobs/x?ns=docker.io"
    assert server.is_own and not server.namespace and server.access.dial_timeout_s is None
    assert not any(place.is_own for place in (public, internal, plain))
    file.write_text("server = ")
    with pytest.raises(Failed, match=r"docker\.io/hosts\.toml: not valid TOML"):
        Hosts({}, (), (tmp_path,)).route(parse_reference("busybox"))


def test_docker_io_in_a_url_is_where_docker_hub_is(tmp_path: Path) -> None:
    """As in the first example of containerd's documentation."""
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "docker.io/hosts.toml").write_text(
        'server = "https://docker.io"\n[host."https://registry-1.docker.io"]\n  capabilities = ["pull"]\n'
    )
    route = Hosts({}, (), (tmp_path,)).route(parse_reference("busybox"))
    assert [place.host for place in route.places] == ["registry-1.docker.io"] * 2
    assert all(place.is_own for place in route.places)


def test_the_example_of_the_documentation_is_right() -> None:
    page = (Path(__file__).parents[3] / "docs/registries.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert "registries:" in example
    rules = registries(parse(example.partition("\nregistries:\n")[2].encode()))
    assert list(rules) == ["ghcr.io", "corp.example/library/*", "corp.example", "*"]
    hosts = Hosts(rules, (), ())
    app = hosts.route(parse_reference("ghcr.io/org/app"))
    assert [place.url for place in app.places] == [
        "https://mirror.example/ghcr/v2/org/app",
        "http://10.0.0.7:5000/v2/org/app",
        "https://ghcr.io/v2/org/app",
    ]
    (harbor,) = hosts.route(parse_reference("corp.example/library/x")).places
    assert harbor.url == "https://harbor.example/v2/proxy/library/x"
    assert [place.host for place in hosts.route(parse_reference("corp.example/x")).places] == [
        "registry.corp.example"
    ]
    assert [place.host for place in hosts.route(parse_reference("quay.io/x/y")).places] == [
        "cache.example",
        "quay.io",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[host."https://x"]\ncapabilities = ["fly"]', "there is no capability 'fly'"),
        ('[host."https://x"]\nproxy = "http://p"', "a proxy for one host is not taken"),
        ('[host."https://x"]\nspeed = 1', "speed: unknown key"),
        ('[host."ftp://x"]', "is not a URL with http:// or https://"),
        ('[host."https://me:pw@x"]', "must not hold a user name or password"),
        ('[host."me:pw@x"]', "must not hold a user name or password"),
        ('[host."https://me:pw@x y"]', "must not hold a user name or password"),
        ('hosts = "x"', "in hosts.toml each host is a table"),
        ('host = "x"', "expected tables"),
        ("server = 5", "expected text, got the number 5"),
        ("server = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_hosts_toml(
    tmp_path: Path, text: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/hosts.toml").write_text(text)
    (problem,) = problems_of_hosts_toml((tmp_path, tmp_path / "none"))
    Registries(certs_directories=(tmp_path,))
    assert [record.problem for record in caplog.records] == [problem]  # type: ignore[attr-defined]
    assert problem.startswith(f"{tmp_path}/x/hosts.toml: ") and message in problem
    assert "pw" not in problem


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("'https://x.example': {}", 1, "is not host[:port], host[:port]/path/* or * (no scheme here)"),
        ("x.example/a: {}", 1, "is not host[:port], host[:port]/path/* or *"),
        ("a.example: {}\nA.example: {}", 2, "given twice"),
        ("x.example:\n  hosts:\n    - capabilities: [pull]", 3, "a host needs its url"),
        ("x.example:\n  hosts: https://x", 2, "expected a list"),
        ("x.example:\n  hosts:\n    - {url: 'https://x', ca: ca.pem}", 3, "must be an absolute path"),
        ("x.example:\n  hosts:\n    - {url: 'http://x', ca: /ca.pem}", 3, "are of no use without https"),
        ("x.example:\n  hosts:\n    - {url: 'https://x', rewrite: {a/*: b}}", 3, "either both end with *"),
        (
            "x.example:\n  hosts:\n    - {url: 'https://x', rewrite: {'a*': 'b*'}}",
            3,
            "is not path/* or a path",
        ),
        ("x.example:\n  hosts:\n    - {url: 'https://x', header: {Host: y}}", 3, "'Host' cannot be set"),
        ("x.example:\n  hosts:\n    - {url: 'https://x', dial_timeout: 5}", 3, "expected text"),
        ("x.example:\n  hosts:\n    - {url: 'https://x', dial_timeout: 0s}", 3, "expected a time such as 5s"),
        ("x.example:\n  hosts:\n    - {url: 'https://x', client: [[a]]}", 3, "a pair is [certificate, key]"),
        ("x.example:\n  fallback: false", 0, "needs hosts"),
        ("x.example:\n  hosts: [url: 'https://x']\n  fallback: false\n  server: 'https://y'", 4, "of no use"),
        ("x.example:\n  hosts: [{url: 'https://x', skip_verify: maybe}]", 2, "expected true or false"),
    ],
)
def test_what_is_wrong_with_registries(text: str, line: int, message: str) -> None:
    with pytest.raises(Wrong) as caught:
        registries(parse(text.encode()))
    assert message in str(caught.value)
    assert not line or caught.value.line == line


async def test_nothing_changes_when_a_reload_fails(world: World) -> None:
    from minid.errors import InvalidParameter

    world.rule(world.host())
    before = world.place.images.registries.route(world.name)[1]
    with pytest.raises(InvalidParameter):
        world.place.images.registries.reload(["http://wrong"], {}, ())
    assert world.place.images.registries.route(world.name)[1] == before


async def test_a_mirror_that_wants_credentials_and_nobody_else(world: World) -> None:
    world.mirror.basic = ("me", "the-secret")
    world.rule(world.host(), fallback=False)
    with pytest.raises(Unauthorized, match="no basic auth credentials: a header in its rule can hold them"):
        await world.pull(auth=PASSWORD)


# anything at all

_SCALARS = st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=12)
_WORDS = st.sampled_from(
    (
        *("*", "hosts", "server", "fallback", "url", "ca", "client", "rewrite", "header", "capabilities"),
        *("skip_verify", "override_path", "dial_timeout", "docker.io", "x.example:5000", "x/*", "https://x"),
        *("http://[::1]:5000/a", "pull"),
    )
)
_VALUES = st.recursive(
    _SCALARS | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(_VALUES)
def test_any_value_is_a_rule_or_wrong(value: Any) -> None:
    """And what is a rule makes routes whose addresses are addresses."""
    try:
        rules = registries(parse(json.dumps(value).encode()))
    except Wrong:
        return
    hosts = Hosts(rules, (), ())
    for name in ("busybox", "x.example:5000/x/app", "other.example/a"):
        for place in hosts.route(parse_reference(name)).places:
            assert URL(place.url).host
            assert place.target("/tags/list").startswith("/") or not place.root


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.builds(lambda url, key: f'[host."{url}"]\n{key} = 1', st.text(max_size=9), _WORDS)
)
def test_any_hosts_toml_is_a_rule_or_wrong(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "hosts.toml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            read_hosts_toml(path)
        except Wrong as error:
            assert str(path) in str(error)
