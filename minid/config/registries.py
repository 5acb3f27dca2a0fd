"""Where images come from and go to: the key ``registries``, and ``hosts.toml`` files, which say the same.

    registries:
      docker.io:                      HOST[:PORT], HOST[:PORT]/PATH/* (some of its repositories), or "*" (all others)
        hosts:                        asked first, in this order
          - url: https://mirror.example
            capabilities: [pull, resolve]
            ca: /etc/ssl/mirror.pem
        server: https://…             asked last; the registry itself unless it is said
        fallback: false               only the hosts, never the server

Pure but for ``read_hosts_toml``. The keys of a host are those of containerd's ``hosts.toml`` (its docs/hosts.md), and
``rewrite``, which k3s has too: other paths at that host, ``library/*: hub/library/*``.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minid.config.kinds import Kind, bool_of, entries, items, text_of
from minid.config.located import Entries, Located, Wrong

CERTS_DIRECTORIES = (Path("/etc/minid/certs.d"), Path("/etc/docker/certs.d"))
HOSTS_TOML = "hosts.toml"
ANY = "*"
PULL, RESOLVE, PUSH = "pull", "resolve", "push"
CAPABILITIES = (PULL, RESOLVE, PUSH)
DIAL_TIMEOUT_MAX_S = 300.0

_KEY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?(?P<path>(?:/[a-z0-9._-]+)+/\*)?"
)
_NETLOC = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_PATTERN = re.compile(r"(?:[a-z0-9._-]+/)*(?:[a-z0-9._-]+|\*)")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_OF_HOST = (
    "capabilities",
    "ca",
    "client",
    "skip_verify",
    "override_path",
    "rewrite",
    "header",
    "dial_timeout",
)
_NOT_TAKEN = {"proxy": "a proxy for one host is not taken: use https-proxy and no-proxy"}


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """One place to ask. ``url`` has no slash at its end, and is "" for the registry itself.

    ``client``: pairs of files, certificate and key (the same file if it holds both). ``rewrite``: patterns of paths.
    ``header`` is sent to this host only and may be secret.
    """

    url: str = ""
    capabilities: tuple[str, ...] = CAPABILITIES
    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path], ...] = ()
    skip_verify: bool = False
    override_path: bool = False
    rewrite: tuple[tuple[str, str], ...] = ()
    header: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dial_timeout_s: float | None = None

    def __str__(self) -> str:
        return self.url or "the registry itself"


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """What is asked for the repositories of one registry: ``hosts`` in order, then ``server`` (None: nobody more)."""

    hosts: tuple[RegistryHost, ...]
    server: RegistryHost | None


def read_hosts_toml(path: Path) -> RegistryRule:
    """The rule in containerd's form. ``Wrong``, with the file's name; ``OSError`` when it cannot be read.

    Paths in it are relative to its directory.
    """
    try:
        document = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Wrong(f"{path}: not valid TOML: {error}") from None
    try:
        if "hosts" in document:
            raise Wrong('hosts: unknown key: in hosts.toml each host is a table [host."https://…"]')
        hosts = document.pop("host", {})
        if not isinstance(hosts, dict):
            raise Wrong('host: expected tables [host."https://…"]')
        listed = [
            _host(_located(settings), url, path.parent, CAPABILITIES) for url, settings in hosts.items()
        ]
        return _rule(_located(document), listed, path.parent)
    except Wrong as error:
        raise Wrong(f"{path}: {error}") from None


def problems_of_hosts_toml(directories: Sequence[Path] = CERTS_DIRECTORIES) -> list[str]:
    """What is wrong with the ``hosts.toml`` files below ``directories``, a line for each."""
    problems = []
    for path in sorted(path for directory in directories for path in directory.glob(f"*/{HOSTS_TOML}")):
        try:
            read_hosts_toml(path)
        except Wrong as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
    return problems


def registries(node: Located) -> Mapping[str, RegistryRule]:
    """The value of the key ``registries``. ``Wrong``."""
    rules: dict[str, RegistryRule] = {}
    for key, line, value in entries(node):
        name = _key(key, line)
        if name in rules:
            raise Wrong(f"{key}: given twice", line)
        try:
            fields = _fields(value, ("hosts", "server", "fallback", *_OF_HOST))
            listed = []
            for item in items(fields["hosts"]) if "hosts" in fields else []:
                url = _fields(item, ("url", *_OF_HOST)).get("url")
                if url is None:
                    raise Wrong("a host needs its url", item.line)
                listed.append(_host(item, text_of(url), Path("/"), (PULL, RESOLVE)))
            rules[name] = _rule(value, listed, Path("/"))
        except Wrong as error:
            raise Wrong(f"{key}: {error}", error.line or line) from None
    return rules


def _no_text(raw: str) -> Any:
    raise Wrong(f"this cannot be given as a flag: {raw!r}")


REGISTRIES = Kind("map", _no_text, registries)


def mirror(url: str) -> RegistryHost:
    """A ``registry-mirrors`` entry, which dockerd asks for tags, too."""
    return RegistryHost(url.rstrip("/"), (PULL, RESOLVE))


def _key(key: str, line: int) -> str:
    match = _KEY.fullmatch(key)
    if key != ANY and match is None:
        raise Wrong(
            f"{key!r} is not host[:port], host[:port]/path/* or *"
            + (" (no scheme here)" if "://" in key else ""),
            line,
        )
    return key.lower() if match is None or not match["path"] else key


def _rule(node: Located, listed: list[RegistryHost], base: Path) -> RegistryRule:
    fields = _fields(node, ("hosts", "server", "fallback", *_OF_HOST))
    own = [key for key in (*_OF_HOST, "server") if key in fields]
    fallback = bool_of(fields["fallback"]) if "fallback" in fields else True
    if not fallback:
        if own:
            raise Wrong(f"{own[0]}: of no use with fallback: false", fields[own[0]].line)
        if not listed:
            raise Wrong("fallback: false needs hosts: otherwise there is nobody to ask", node.line)
        return RegistryRule(tuple(listed), None)
    url = text_of(fields["server"]) if "server" in fields else ""
    rest = Located(
        Entries(tuple((key, value.line, value) for key, value in fields.items() if key in _OF_HOST)),
        node.line,
    )
    return RegistryRule(tuple(listed), _host(rest, url, base, CAPABILITIES))


def _host(node: Located, url: str, base: Path, capabilities: tuple[str, ...]) -> RegistryHost:
    fields = _fields(node, ("url", *_OF_HOST))
    line = fields["url"].line if "url" in fields else node.line
    overrides = bool_of(fields["override_path"]) if "override_path" in fields else False
    host = RegistryHost(
        _url(url, line) if url else "",
        _capabilities(fields["capabilities"]) if "capabilities" in fields else capabilities,
        tuple(_path(item, base) for item in _one_or_more(fields.get("ca"))),
        _client(fields.get("client"), base),
        bool_of(fields["skip_verify"]) if "skip_verify" in fields else False,
        overrides,
        _rewrite(fields["rewrite"]) if "rewrite" in fields else (),
        _header(fields["header"]) if "header" in fields else (),
        _duration_s(fields["dial_timeout"]) if "dial_timeout" in fields else None,
    )
    if url.startswith("http://") and (host.ca or host.client):
        raise Wrong(f"{url}: ca and client are of no use without https", line)
    return host


def _fields(node: Located, known: tuple[str, ...]) -> dict[str, Located]:
    fields: dict[str, Located] = {}
    for key, line, value in entries(node):
        if key in _NOT_TAKEN:
            raise Wrong(f"{key}: {_NOT_TAKEN[key]}", line)
        if key not in known:
            raise Wrong(f"{key}: unknown key (known are {', '.join(known)})", line)
        if key in fields:
            raise Wrong(f"{key}: given twice", line)
        if value.value is not None:
            fields[key] = value
    return fields


def _url(text: str, line: int) -> str:
    if "@" in text:  # first, so that no message shows it
        raise Wrong("a URL must not hold a user name or password; use header", line)
    try:
        url = urlsplit(text.strip())
        usable = (
            url.scheme in ("http", "https") and _NETLOC.fullmatch(url.netloc) is not None and url.port != 0
        )
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in text.strip()):
        raise Wrong(f"{text!r} is not a URL with http:// or https://", line)
    if url.query or url.fragment:
        raise Wrong(f"{text!r}: the URL of a host has no query and no fragment", line)
    return text.strip().rstrip("/")


def _capabilities(node: Located) -> tuple[str, ...]:
    given = [text_of(item) for item in items(node)]
    for name in given:
        if name not in CAPABILITIES:
            raise Wrong(f"there is no capability {name!r}: known are {', '.join(CAPABILITIES)}", node.line)
    return tuple(name for name in CAPABILITIES if name in given)


def _one_or_more(node: Located | None) -> list[Located]:
    if node is None:
        return []
    return items(node) if isinstance(node.value, list) else [node]


def _path(node: Located, base: Path) -> Path:
    path = base / text_of(node)
    if base == Path("/") and not text_of(node).startswith("/"):
        raise Wrong(f"{text_of(node)!r} must be an absolute path", node.line)
    return path


def _client(node: Located | None, base: Path) -> tuple[tuple[Path, Path], ...]:
    """A path, a list of paths, or a list of pairs; a file without a key beside it holds both."""
    pairs = []
    for item in _one_or_more(node):
        if not isinstance(item.value, list):
            path = _path(item, base)
            pairs.append((path, path))
            continue
        if len(item.value) != 2:
            raise Wrong("client: a pair is [certificate, key]", item.line)
        certificate = _path(item.value[0], base)
        key = _path(item.value[1], base) if text_of(item.value[1]) else certificate
        pairs.append((certificate, key))
    return tuple(pairs)


def _rewrite(node: Located) -> tuple[tuple[str, str], ...]:
    """The longest pattern first."""
    pairs = []
    for old, line, value in entries(node):
        new = text_of(value)
        for pattern in (old, new):
            if not _PATTERN.fullmatch(pattern):
                raise Wrong(f"rewrite: {pattern!r} is not path/* or a path", line)
        if old.endswith("*") != new.endswith("*"):
            raise Wrong(f"rewrite: {old} → {new}: either both end with * or none does", line)
        pairs.append((old, new))
    return tuple(sorted(pairs, key=lambda pair: (-len(pair[0].rstrip("*")), pair[0].endswith("*"))))


def _header(node: Located) -> tuple[tuple[str, str], ...]:
    pairs = []
    for name, line, value in entries(node):
        if not _HEADER_NAME.fullmatch(name) or name.lower() in (
            "host",
            "content-length",
            "transfer-encoding",
        ):
            raise Wrong(f"header: {name!r} cannot be set", line)
        for item in _one_or_more(value):
            text = text_of(item)
            if not text.isascii() or not text.isprintable():
                raise Wrong(f"header: {name}: has characters that are not allowed in a header", line)
            pairs.append((name, text))
    return tuple(pairs)


def _duration_s(node: Located) -> float:
    """``5s``, ``500ms``, ``1m``."""
    match = _DURATION.fullmatch(text_of(node))
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= DIAL_TIMEOUT_MAX_S:
        raise Wrong(f"dial_timeout: expected a time such as 5s or 500ms, got {node.described()}", node.line)
    return seconds


def _located(value: Any) -> Located:
    """What TOML has, in the form of what YAML has; there are no lines."""
    if isinstance(value, dict):
        return Located(Entries(tuple((key, 0, _located(item)) for key, item in value.items())), 0)
    if isinstance(value, list):
        return Located([_located(item) for item in value], 0)
    return Located(value if isinstance(value, bool | int | float | str) else str(value), 0)
