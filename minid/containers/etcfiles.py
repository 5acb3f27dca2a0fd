"""The three files under /etc that a container gets from the daemon: hostname, hosts, resolv.conf."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from minid.containers.model import Container
from minid.errors import InvalidParameter

HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(container: Container, host_hosts: str) -> str:
    """``/etc/hosts``: the host's own file with ``--network host``, else the usual one; ``--add-host`` lines
    behind.
    """
    extra = "".join(
        f"{address}\t{name}\n"
        for name, address in map(parse_extra_host, container.host_config.extra_hosts or ())
    )
    if container.host_config.network_mode == "host":
        return host_hosts + extra
    return HOSTS + extra


def parse_extra_host(text: str) -> tuple[str, str]:
    """``name:address`` (or ``name=address``) of ``--add-host``. Raises InvalidParameter."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    address = address.removeprefix("[").removesuffix("]")
    if not found or not name:
        raise InvalidParameter(f'bad format for add-host: "{text}"')
    if address != "host-gateway":
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return name, address


def resolv_conf(container: Container, host_resolv_conf: str) -> str:
    """``/etc/resolv.conf``: the host's, with ``--dns``, ``--dns-search`` and ``--dns-option`` in place of
    its lines.
    """
    host_config = container.host_config
    chosen = {
        "nameserver": [f"nameserver {address}" for address in host_config.dns or ()],
        "search": _line("search", host_config.dns_search),
        "options": _line("options", host_config.dns_options),
    }
    kept = []
    for line in host_resolv_conf.splitlines():
        word = (line.split() or [""])[0]
        word = "search" if word == "domain" else word
        if not chosen.get(word):
            kept.append(line)
    lines = kept + [line for group in chosen.values() for line in group]
    return "\n".join(lines) + "\n"


def _line(word: str, values: Iterable[str] | None) -> list[str]:
    text = " ".join(value for value in values or () if value != ".")
    return [f"{word} {text}"] if text else []


def write(container: Container, directory: Path) -> dict[str, str]:
    """Write the files into ``directory``; destination in the container → source. Nothing for
    ``container:ID`` networks.
    """
    sources = {}
    contents = {
        "hosts": hosts(container, _read("/etc/hosts")),
        "hostname": container.config.hostname + "\n",
        "resolv.conf": resolv_conf(container, _read("/etc/resolv.conf")),
    }
    for name, content in contents.items():
        path = directory / name
        path.write_text(content)
        sources[f"/etc/{name}"] = str(path)
    return sources


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
