"""What the text of single options may be. Pure: each returns the value to keep, or raises ValueError."""

import ipaddress
import re
from urllib.parse import urlsplit

UNIX_PATH_MAX_BYTES = 107  # sun_path of unix(7), less its closing NUL

_DOMAIN = re.compile(
    r"(?=.{1,253}\.?$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?",
    re.I,
)
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")


def host(raw: str) -> str:
    """An address to listen on: ``unix://PATH``, ``tcp://[HOST][:PORT]`` or ``fd://[NUMBER or NAME]``
    (``systemd.socket(5)``). A TCP address keeps no port where none was given: TLS decides which one it is.
    """
    scheme, separator, rest = raw.strip().partition("://")
    if not separator:
        raise ValueError(f"{raw!r} is not an address to listen on: write unix:///path/to.sock or fd://")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ValueError(f"{raw}: the path of a unix socket must be absolute")
        if len(rest.encode()) > UNIX_PATH_MAX_BYTES:
            raise ValueError(f"{raw}: longer than a unix socket's path may be ({UNIX_PATH_MAX_BYTES} bytes)")
        return f"unix://{rest}"
    if scheme == "fd":
        return f"fd://{rest.strip('/')}" if rest != "*" else "fd://"
    if scheme == "tcp":
        return _tcp(raw, rest.rstrip("/"))
    raise ValueError(f"{raw}: {scheme}:// is not understood: use unix://, tcp:// or fd://")


def _tcp(raw: str, rest: str) -> str:
    name, separator, port = rest.rpartition(":")
    if not separator or port.endswith("]"):
        name, port = rest, ""
    bare = name.removeprefix("[").removesuffix("]") if name.startswith("[") else name
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{raw}: {port!r} is no port")
    if bare and bare != "localhost":
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise ValueError(
                f"{raw}: {bare!r} is not an address of this machine: write it as a number"
            ) from None
    return f"tcp://{name}" + (f":{port}" if port else "")


def tls_file(raw: str) -> str:
    """An absolute path; "" for the usual one."""
    return absolute_path(raw) if raw else ""


def absolute_path(raw: str) -> str:
    """An absolute path; a trailing slash is dropped."""
    if not raw.startswith("/"):
        raise ValueError(f"{raw!r} must be an absolute path")
    return raw.rstrip("/") or "/"


def label(raw: str) -> str:
    """``key=value``; dockerd takes nothing less for a daemon's label."""
    key, equals, _ = raw.partition("=")
    if not equals or not key or any(c.isspace() for c in key):
        raise ValueError(f"expected key=value, got {raw!r}")
    return raw


def ip_address(raw: str) -> str:
    try:
        return str(ipaddress.ip_address(raw.strip()))
    except ValueError:
        raise ValueError(f"{raw!r} is not an IP address") from None


def network(raw: str) -> str:
    """A network in CIDR notation, host bits clear or not."""
    try:
        ipaddress.ip_interface(raw)
    except ValueError:
        raise ValueError(f"{raw!r} is not a network in CIDR notation, such as 10.1.0.0/16") from None
    if "/" not in raw:
        raise ValueError(f"{raw!r} lacks the prefix length: write {raw}/24 or so")
    return raw


def bridge_address(raw: str) -> str:
    """The bridge's own address with its prefix length, ``172.17.0.1/16``."""
    network(raw)
    interface = ipaddress.ip_interface(raw)
    if interface.ip == interface.network.network_address and interface.network.num_addresses > 2:
        raise ValueError(
            f"{raw!r} is the network, not an address in it: write {interface.ip + 1}/{raw.split('/')[1]}"
        )
    return raw


def search_domain(raw: str) -> str:
    if raw.strip() == ".":
        return "."
    if not _DOMAIN.fullmatch(raw.strip()):
        raise ValueError(f"{raw!r} is not a domain")
    return raw.strip()


def insecure_registry(raw: str) -> str:
    """``host[:port]`` or a network in CIDR notation. No scheme: it would look like more than it is."""
    raw = raw.strip()
    if "://" in raw:
        raise ValueError(f"{raw!r}: write host[:port] without {raw.split('://')[0]}://")
    if "/" in raw:
        return network(raw)
    if not _REGISTRY.fullmatch(raw):
        raise ValueError(f"{raw!r} is not host[:port] or a network in CIDR notation")
    port = raw.rpartition(":")[2] if not raw.endswith("]") and ":" in raw else ""
    if port and not 0 < int(port) < 65536:
        raise ValueError(f"{raw!r}: there is no port {port}")
    return raw


def registry_mirror(raw: str) -> str:
    """``http(s)://host[:port]`` with a trailing slash, as dockerd keeps it."""
    if "@" in raw:  # first, so that no message shows it
        raise ValueError("a mirror's URL must not hold a user name or password")
    url = urlsplit(raw.strip())
    if url.scheme not in ("http", "https") or not url.netloc:
        raise ValueError(f"{raw!r} is not a URL with http:// or https://")
    if url.query or url.fragment:
        raise ValueError(f"{raw!r}: a mirror's URL has no query and no fragment")
    return raw.strip().rstrip("/") + "/"


def exec_option(raw: str) -> str:
    key, equals, value = (part.strip() for part in raw.partition("="))
    if not equals or not value:
        raise ValueError(f"expected option=value, got {raw!r}")
    if key.lower() != "native.cgroupdriver":
        raise ValueError(f"there is no option {key!r}: known is native.cgroupdriver")
    if value not in ("cgroupfs", "systemd"):
        raise ValueError(f"native.cgroupdriver is cgroupfs or systemd, not {value!r}")
    return f"native.cgroupdriver={value}"


def seccomp_profile(raw: str) -> str:
    """``builtin``, ``unconfined`` or the absolute path of a profile."""
    return raw if raw in ("", "builtin", "unconfined") else absolute_path(raw)


def group(raw: str) -> str:
    if raw and (any(c.isspace() or c in ":/" for c in raw) or raw.startswith("-")):
        raise ValueError(f"{raw!r} is not a group's name")
    return raw


def interface(raw: str) -> str:
    """A network interface's name (IFNAMSIZ), or ``none``."""
    if raw and (len(raw.encode()) > 15 or "/" in raw or any(c.isspace() for c in raw) or raw in (".", "..")):
        raise ValueError(f"{raw!r} cannot be an interface's name (at most 15 bytes, no spaces, no slash)")
    return raw
