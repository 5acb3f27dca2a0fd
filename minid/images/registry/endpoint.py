"""Where a registry is, and how much it must prove: the rules for HTTPS, certificates and plain HTTP.

A registry is reached by HTTPS with a certificate that the system's CAs, or those in
``certs.d/HOST:PORT/*.crt``, vouch for. Only an *insecure* one (this machine itself, or named by
``--insecure-registry``) is reached by unverified HTTPS, and failing that by plain HTTP. A CA in ``certs.d``
never makes a registry insecure.

Source: dockerd(8) ``--insecure-registry``; docs.docker.com, "Verify repository client with certificates".
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minid.config.registries import CERTS_DIRECTORIES
from minid.errors import Failed, InvalidParameter
from minid.images.reference import DEFAULT_DOMAIN

DOCKER_HUB = "registry-1.docker.io"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Signature = tuple[tuple[str, int, int], ...]
Pairs = tuple[tuple[Path, Path], ...]  # certificate, key
Files = tuple[tuple[Path, ...], Pairs]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOST_PORT = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9.:_\[\]-]*")
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def registry_host(domain: str) -> str:
    """The ``host[:port]`` that serves a reference's domain: Docker Hub's is not ``docker.io``."""
    return DOCKER_HUB if domain == DEFAULT_DOMAIN else domain


def is_host_port(text: str) -> bool:
    """Whether it looks like ``host[:port]`` (and is safe as the name of a directory)."""
    return _HOST_PORT.fullmatch(text) is not None


def split_host(host_port: str) -> tuple[str, str]:
    """``("::1", "5000")`` of ``[::1]:5000``; the port is ``""`` when there is none."""
    if host_port.startswith("["):
        host, _, rest = host_port[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = host_port.partition(":")
    return host, port


@dataclass(frozen=True, slots=True)
class InsecureRules:
    """The parsed ``--insecure-registry`` values: names (with port or not), networks."""

    names: frozenset[str]
    networks: tuple[Network, ...]

    @classmethod
    def parse(cls, values: Iterable[str]) -> "InsecureRules":
        """``InvalidParameter`` for a value with a scheme or a malformed port."""
        names: set[str] = set()
        networks: list[Network] = []
        for value in values:
            try:
                if "/" in value:
                    networks.append(ipaddress.ip_network(value, strict=False))
                    continue
            except ValueError:
                raise InvalidParameter(
                    f"insecure-registries: {value!r} is not host, host:port or a network in CIDR notation"
                ) from None
            _, port = split_host(value)
            if not value or (port and not (port.isascii() and port.isdigit() and int(port) < 65536)):
                raise InvalidParameter(f"insecure-registries: {value!r} is not host or host:port")
            names.add(value.lower())
        return cls(frozenset(names), tuple(networks))

    def allows(self, host_port: str, addresses: Sequence[str] = ()) -> bool:
        """Whether plain HTTP may be used; ``addresses`` are what the host's name resolves to."""
        return bool(self.reason(host_port, addresses))

    def reason(self, host_port: str, addresses: Sequence[str] = ()) -> str:
        """The rule that makes the registry insecure, in words; "" if none does."""
        host, _ = split_host(host_port.lower())
        if host == "localhost":
            return "localhost is always insecure"
        if host_port.lower() in self.names:
            return f"insecure-registries has {host_port.lower()}"
        address = _address(host)
        if address is not None:
            for network in _LOOPBACK:
                if _inside(address, network):
                    return f"{network} is always insecure"
        found = [address] if address is not None else [_address(text) for text in addresses]
        which = [
            next((network for network in self.networks if item is not None and _inside(item, network)), None)
            for item in found
        ]
        if not which or None in which:
            return ""
        return f"insecure-registries has {', '.join(sorted({str(network) for network in which}))}"

    async def is_insecure(self, host_port: str) -> bool:
        """``allows``, after resolving the host's name where a configured network could contain it."""
        host, port = split_host(host_port)
        addresses: list[str] = []
        if self.networks and _address(host) is None and not self.allows(host_port):
            try:
                infos = await asyncio.get_running_loop().getaddrinfo(
                    host, int(port or 443), type=socket.SOCK_STREAM
                )
            except (OSError, UnicodeError):
                infos = []
            addresses = [str(info[4][0]) for info in infos]
        return self.allows(host_port, addresses)


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _inside(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


class Certificates:
    """TLS contexts, made when first needed (10 ms, in a thread); anew when their ``certs.d`` files have changed.

    ``reload`` forgets them all, for the system's CAs.
    """

    def __init__(self, directories: Sequence[Path] = CERTS_DIRECTORIES) -> None:
        self._directories = tuple(directories)
        self._contexts: dict[tuple[str, bool, Files], tuple[Signature, ssl.SSLContext]] = {}

    def reload(self) -> None:
        self._contexts.clear()

    def directories(self, host_port: str) -> list[Path]:
        """Those that there are for ``host:port``; with the default port they may be named with or without it."""
        if not is_host_port(host_port):
            return []
        names = [host_port] if split_host(host_port)[1] else [host_port, f"{host_port}:443"]
        return [path for root in self._directories for name in names if (path := root / name).is_dir()]

    async def context(
        self, host_port: str, *, verify: bool, ca: tuple[Path, ...] = (), client: Pairs = ()
    ) -> ssl.SSLContext:
        """The context for ``host:port``; ``Failed`` when its ``certs.d`` directory is not usable.

        ``ca`` and ``client`` are files that its configuration names.
        """
        directories = self.directories(host_port)
        files = (ca, client)
        key = (host_port if directories or ca or client else "", verify, files)
        signature = _signature(directories, [*ca, *(path for pair in client for path in pair)])
        known = self._contexts.get(key)
        if known is None or known[0] != signature:
            try:
                context = await asyncio.to_thread(_make_context, directories, verify, files)
            except Failed as error:
                raise Failed(f"registry {host_port}: {error}") from error
            known = (signature, context)
            self._contexts[key] = known
        return known[1]

    async def context_for_any_name(self, host_port: str) -> ssl.SSLContext:
        """Verifies all but the name: to see for which names a certificate is."""
        context = await asyncio.to_thread(_make_context, self.directories(host_port), True)
        context.check_hostname = False
        return context


def _signature(directories: Sequence[Path], files: Sequence[Path] = ()) -> Signature:
    """What changes when a file in them, or one of ``files``, does."""
    try:
        entries = [*sorted(item for directory in directories for item in directory.iterdir()), *files]
        return tuple(
            (str(path), status.st_mtime_ns, status.st_ino) for path in entries if (status := path.stat())
        )
    except OSError as error:
        raise Failed(f"cannot use {error.filename}: {error.strerror}") from error


def _make_context(directories: Sequence[Path], verify: bool, files: Files = ((), ())) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for directory in directories:
        for path in sorted(directory.iterdir()):
            try:
                if path.suffix == ".crt":
                    context.load_verify_locations(cafile=path)
                elif path.suffix == ".cert":
                    if not path.with_suffix(".key").exists():
                        raise Failed(
                            f"missing key {path.with_suffix('.key')} for client certificate {path.name} "
                            "(a CA's certificate ends in .crt)"
                        )
                    # Without a password OpenSSL would ask for one on the terminal.
                    context.load_cert_chain(path, path.with_suffix(".key"), password="")
                elif path.suffix == ".key" and not path.with_suffix(".cert").exists():
                    raise Failed(
                        f"missing client certificate {path.with_suffix('.cert')} for key {path.name}"
                    )
            except (OSError, ssl.SSLError) as error:
                raise Failed(f"cannot use {path}: {error}") from error
    for path in files[0]:
        try:
            context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise Failed(f"cannot use {path}: {error}") from error
    for certificate, key in files[1]:
        try:
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError) as error:
            raise Failed(f"cannot use {certificate} with {key}: {error}") from error
    return context
