"""The three files under /etc that a container gets from the daemon: hostname, hosts, resolv.conf."""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
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

PUBLIC_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
NAMESERVER = "127.0.0.11"  # our own, in user-defined networks: minid/network/nameserver.py
FILE_BYTES = 1 << 16  # more of a file that a container may write is not read


def hosts(
    container: Container,
    host_hosts: str,
    own_lines: Sequence[str] = (),
    host_gateways: Callable[[], Sequence[str]] = tuple,
) -> str:
    """``/etc/hosts``: the host's own file with ``--network host``, else the usual one; ``--add-host`` lines
    behind, then ``own_lines``. ``host_gateways`` says what ``host-gateway`` stands for, if it is asked for.
    """
    extra = ""
    for name, address in map(parse_extra_host, container.host_config.extra_hosts or ()):
        found = host_gateways() if address == "host-gateway" else (address,)
        extra += "".join(f"{one}\t{name}\n" for one in found)
    extra += "".join(f"{line}\n" for line in own_lines)
    if container.host_config.network_mode == "host":
        return host_hosts + extra
    return HOSTS + extra


def replace_lines(path: Path, unwanted: Callable[[str], bool], wanted: Iterable[str]) -> None:
    """Change a file that is bound into a running container, in place: the lines that are there no more go,
    new ones come behind; what somebody else wrote stays. A file that the container has blown up is left alone.
    """
    try:
        if path.stat().st_size > FILE_BYTES:
            return
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return
    new = [line for line in lines if not unwanted(line)]
    new += [line for line in wanted if line not in new]
    if new != lines:
        with path.open("r+", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(line + "\n" for line in new))
            file.truncate()


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


def resolv_conf(container: Container, host_resolv_conf: str, *, nameserver: bool = False) -> str:
    """``/etc/resolv.conf``: the host's, with ``--dns``, ``--dns-search`` and ``--dns-option`` in place of
    its lines. ``nameserver``: the container has its own, which asks the others.
    """
    host_config = container.host_config
    chosen = {
        "nameserver": [f"nameserver {address}" for address in host_config.dns or ()] or None,
        "search": _line("search", host_config.dns_search),
        "options": _line("options", host_config.dns_options),
    }
    if nameserver:
        chosen["nameserver"] = [f"nameserver {NAMESERVER}"]
        options = chosen["options"] or [
            one for one in host_resolv_conf.splitlines() if _word(one) == "options"
        ]
        words = [word for line in options for word in line.split()[1:]]
        if not any(word.startswith("ndots:") for word in words):
            words.append("ndots:0")  # bare names are names in the network, not below the search domains
        chosen["options"] = _line("options", words)
    kept = [line for line in host_resolv_conf.splitlines() if chosen.get(_word(line)) is None]
    lines = kept + [line for group in chosen.values() for line in group or ()]
    return "\n".join(lines) + "\n"


def lead_to_nameserver(path: Path, container: Container, started_at_ns: int) -> None:
    """Change the resolv.conf of a running container whose nameserver is new, unless somebody has edited it
    since the start.
    """
    try:
        if path.stat().st_mtime_ns > started_at_ns or leads_to_nameserver(path):
            return
        text = resolv_conf(container, _host_resolv_conf(container), nameserver=True)
        with path.open("r+", encoding="utf-8") as file:
            file.write(text)
            file.truncate()
    except FileNotFoundError:
        pass  # it has none of its own


def leads_to_nameserver(path: Path) -> bool:
    """Whether the container's resolv.conf names the nameserver (it may say anything: its own to write)."""
    try:
        with path.open("rb") as file:
            return f"nameserver {NAMESERVER}".encode() in file.read(FILE_BYTES)
    except OSError:
        return False


def _word(line: str) -> str:
    word = (line.split() or [""])[0]
    return "search" if word == "domain" else word


def reachable_nameservers(text: str) -> str:
    """A host's resolv.conf for a container with a network namespace of its own: a resolver on the host's
    loopback can't be reached from there. When none is left, public ones, as Docker has it.
    """
    lines = text.splitlines()
    kept = [line for line in lines if not _is_local_nameserver(line)]
    if not any(line.split()[:1] == ["nameserver"] for line in kept):
        kept += [f"nameserver {address}" for address in PUBLIC_NAMESERVERS]
    return "\n".join(kept) + "\n"


def _is_local_nameserver(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return False


def _host_resolv_conf(container: Container) -> str:
    text = _read("/etc/resolv.conf")
    if container.host_config.network_mode == "host":
        return text
    if "nameserver 127.0.0.53" in text:  # systemd-resolved keeps the real ones elsewhere
        text = _read("/run/systemd/resolve/resolv.conf") or text
    return reachable_nameservers(text)


def _line(word: str, values: Sequence[str] | None) -> list[str] | None:
    """None if nothing was asked for; no line at all for "."."""
    if not values:
        return None
    text = " ".join(value for value in values if value != ".")
    return [f"{word} {text}"] if text else []


def write(
    container: Container,
    directory: Path,
    own_lines: Sequence[str] = (),
    host_gateways: Callable[[], Sequence[str]] = tuple,
    *,
    nameserver: bool = False,
) -> dict[str, str]:
    """Write the files into ``directory``; destination in the container → source. ``nameserver``: see
    ``resolv_conf``.
    """
    contents = {
        "hosts": hosts(container, _read("/etc/hosts"), own_lines, host_gateways),
        "hostname": container.config.hostname + "\n",
        "resolv.conf": resolv_conf(container, _host_resolv_conf(container), nameserver=nameserver),
    }
    for name, content in contents.items():
        (directory / name).write_text(content)
    return paths(directory)


def paths(directory: Path) -> dict[str, str]:
    """Destination → source of the files that are there. A container that shares another one's network has
    that one's files, so that both see the same names.
    """
    return {f"/etc/{name}": str(directory / name) for name in ("hosts", "hostname", "resolv.conf")}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
