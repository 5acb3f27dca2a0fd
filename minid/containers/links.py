"""Links: the names that one container has for others, and what Docker gives it along with a name.

In user-defined networks a link is a name that the nameserver answers. In the default network, which has no
nameserver, it is lines of the hosts file, variables of the environment, and (where containers may not talk to
each other) a way to the ports that the other one exposes. These are the "legacy links" of
docs.docker.com/engine/network/links.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

from minid.containers.model import Container
from minid.containers.store import Store
from minid.containers.validate import parse_port
from minid.errors import Failed, InvalidParameter, NotFound
from minid.network import options
from minid.network.ruleset import LinkedPort
from minid.network.service import Networks

NOT_TOLD = ("HOME", "PATH")  # variables that say nothing about the service

Port = tuple[int, str]


def parse_link(text: str) -> tuple[str, str]:
    """``container:alias`` (either may be a path, as old clients write them). Raises InvalidParameter."""
    ref, _, alias = text.partition(":")
    ref = ref.removeprefix("/")
    alias = os.path.basename(alias) or ref
    if not ref or ":" in alias:
        raise InvalidParameter(f"bad format for links: {text}")
    return ref, alias


class Links:
    """One per daemon."""

    def __init__(self, store: Store, networks: Networks) -> None:
        self._store = store
        self._networks = networks

    def of(self, container: Container) -> Iterable[tuple[str, str, str]]:
        """Container, alias, network: ``--link`` (any network) and those of single endpoints."""
        for text in container.host_config.links or ():
            yield (*parse_link(text), "")
        for name, settings in container.networking.endpoints_config.items():
            for text in (settings or {}).get("Links") or ():
                yield (*parse_link(text), name)

    def legacy(self, container: Container) -> list[tuple[Container, str]]:
        """Whom it is linked to in the default network, and as what; those that exist."""
        result = []
        if container.host_config.links and self._in_default(container):
            for text in container.host_config.links:
                ref, alias = parse_link(text)
                try:
                    result.append((self._store.get(ref), alias))
                except (NotFound, InvalidParameter):
                    pass  # removed meanwhile
        return result

    def shown(self, container: Container) -> list[str]:
        """As ``HostConfig.Links`` has them: those of the default network, with names of now."""
        return [f"/{other.name}:/{container.name}/{alias}" for other, alias in self.legacy(container)]

    def _in_default(self, container: Container) -> bool:
        default = self._networks.default
        return default is not None and default.name in (
            container.networking.endpoints_config or (default.name,)
        )

    def check(self, container: Container) -> None:
        """Before a start: who is linked to must run, in the default network. Raises Failed, in Docker's words."""
        for other, alias in self.legacy(container):
            if not other.state.running:
                raise Failed(
                    f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}"
                )
            if not self._address(other):
                raise Failed(f"Cannot link to /{other.name}, as it does not belong to the default network")

    def environment(self, container: Container) -> list[str]:
        """The variables of all its legacy links."""
        return [
            variable
            for other, alias in self.legacy(container)
            if (address := self._address(other))
            for variable in variables(container.name, alias, address, other)
        ]

    def host_lines(self, container: Container) -> list[str]:
        """The lines of the hosts file."""
        default = self._networks.default
        lines = []
        for other, alias in self.legacy(container):
            sandbox = self._networks.sandbox(other.id)
            endpoint = sandbox.endpoint(default.id) if sandbox is not None and default is not None else None
            if endpoint is not None:
                names = host_names(alias, other)
                lines += [f"{address}\t{names}" for address in (endpoint.ip4, endpoint.ip6) if address]
        return lines

    def linking(self, container: Container) -> list[tuple[Container, str]]:
        """Who runs and has a legacy link to it, and as what."""
        return [
            (other, alias)
            for other in tuple(self._store.all())
            if other.host_config.links and other.state.running and other.id != container.id
            for target, alias in self.legacy(other)
            if target.id == container.id
        ]

    def follow_rename(self, container: Container, old_name: str) -> None:
        """Links by its old name become links by its new one."""
        for other in tuple(self._store.all()):
            links = other.host_config.links or ()
            new = tuple(
                f"{container.name}:{parse_link(text)[1]}" if parse_link(text)[0] == old_name else text
                for text in links
            )
            if new != tuple(links):
                host_config = dataclasses.replace(other.host_config, links=new)
                self._store.replace(dataclasses.replace(other, host_config=host_config))

    def exceptions(self) -> frozenset[LinkedPort]:
        """What legacy links open between containers that may not talk to each other (``icc`` off)."""
        default = self._networks.default
        if default is None or options.icc(default):
            return frozenset()
        return frozenset(
            LinkedPort(default.device, protocol, source, target, port)
            for container in self._store.all()
            if container.host_config.links and (source := self._address(container))
            for other, _ in self.legacy(container)
            if (target := self._address(other))
            for port, protocol in exposed(other)
        )

    def _address(self, container: Container) -> str:
        """In the default network; "" if it has none there now."""
        default, sandbox = self._networks.default, self._networks.sandbox(container.id)
        endpoint = sandbox.endpoint(default.id) if sandbox is not None and default is not None else None
        return endpoint.ip4 if endpoint is not None else ""


def host_names(alias: str, other: Container) -> str:
    """What a line of the hosts file calls somebody who is linked to."""
    return " ".join(dict.fromkeys((alias, other.config.hostname, other.name)))


def exposed(container: Container) -> list[Port]:
    """Its exposed ports by number, TCP before the others."""
    found = {
        (port, protocol)
        for key in container.config.exposed_ports
        for ports, protocol in (parse_port(key),)
        for port in ports
    }
    return sorted(found, key=lambda one: (one[0], one[1] != "tcp", one[1]))


def variables(name: str, alias: str, address: str, other: Container) -> list[str]:
    """What a container called ``name`` is told about the one that it calls ``alias``. Pure.

    As moby's ``daemon/links``, so three or more ports in a row have ``_START`` and ``_END`` too.
    """
    prefix = alias.upper().replace("-", "_")
    ports = exposed(other)
    result: dict[str, str] = {}
    if ports:
        result[f"{prefix}_PORT"] = _url(ports[0], address)
    for first, last in _runs(ports):
        about = f"{prefix}_PORT_{first[0]}_{first[1].upper()}"
        result |= {
            f"{about}_START": _url(first, address),
            f"{about}_ADDR": address,
            f"{about}_PROTO": first[1],
            f"{about}_PORT_START": str(first[0]),
            f"{about}_END": _url(last, address),
            f"{about}_PORT_END": str(last[0]),
        }
    for number, protocol in ports:
        about = f"{prefix}_PORT_{number}_{protocol.upper()}"
        result |= {
            about: _url((number, protocol), address),
            f"{about}_ADDR": address,
            f"{about}_PORT": str(number),
            f"{about}_PROTO": protocol,
        }
    result[f"{prefix}_NAME"] = f"/{name}/{alias}"
    result |= {f"{prefix}_ENV_{key}": value for key, value in _told(other.config.env).items()}
    return [f"{key}={value}" for key, value in result.items()]


def _url(port: Port, address: str) -> str:
    return f"{port[1]}://{address}:{port[0]}"


def _runs(ports: Sequence[Port]) -> list[tuple[Port, Port]]:
    """Three or more whose numbers follow each other, as (first, last); Docker does not look at protocols."""
    found = []
    start = 0
    while start < len(ports):
        end = start
        while end + 1 < len(ports) and ports[end + 1][0] <= ports[start][0] + end + 1 - start:
            end += 1
        if end > start + 1:
            found.append((ports[start], ports[end]))
            start = end + 1
        else:
            start += 1
    return found


def _told(env: Iterable[str]) -> Mapping[str, str]:
    pairs = (entry.partition("=") for entry in env)
    return {name: value for name, separator, value in pairs if separator and name not in NOT_TOLD}
