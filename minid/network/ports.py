"""Host ports: which are free, which are ours, and sockets that keep them so.

A reserved port is held by sockets that are really bound (TCP ones listen), so that no other program takes it
and a port that another program has is noticed before anything starts. Measured on Linux 6.18: a socket bound
without SO_REUSEADDR, or one that listens, keeps everybody out, also those who set SO_REUSEADDR or
SO_REUSEPORT, and those who ask for one address of a wildcard. TCP sockets set SO_REUSEADDR and listen, because
a bind without it fails for a minute after another server has closed connections (TIME_WAIT).

The sockets go to the port holder (``holder.py``), which outlives the daemon and serves what arrives at them.
A kernel without SCTP sockets has nothing to hold an SCTP port with; those are kept in memory only.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minid.errors import Conflict, Failed, InvalidParameter
from minid.network.model import PortSpec

PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_RANGE = (49153, 65535)
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
}
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_NO_PROTOCOL = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
_IP_PKTINFO, _IPV6_RECVPKTINFO = 8, 49
BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Reservation:
    """A host port that is ours. ``sockets``: empty after they went to the port holder."""

    protocol: str
    host_ip: str  # as asked for: "" every address, "0.0.0.0" and "::" every one of a family
    host_port: int
    container_port: int
    sockets: list[socket.socket] = field(default_factory=list, compare=False)

    def close(self) -> None:
        """Close the sockets that are still here; whoever has been sent them has their own."""
        while self.sockets:
            self.sockets.pop().close()


class Ports:
    """All host ports of ours. One thread."""

    def __init__(self, dynamic: tuple[int, int] | None = None) -> None:
        self._first, self._last = dynamic or dynamic_range()
        self._next = self._first
        self._held: dict[tuple[str, int], list[Reservation]] = {}

    def reserve(self, specs: Iterable[PortSpec]) -> list[Reservation]:
        """A port for each of ``specs``, or none and Conflict (taken), InvalidParameter (no such address).

        ``host_ports`` (0, 0) takes the next free one of the dynamic range, a range its first free one.
        """
        done: list[Reservation] = []
        try:
            for spec in specs:
                done.append(self._reserve(spec))
        except BaseException:
            self.release(done)
            raise
        return done

    def release(self, reservations: Iterable[Reservation]) -> None:
        """Idempotent."""
        for reservation in reservations:
            reservation.close()
            key = (reservation.protocol, reservation.host_port)
            rest = [one for one in self._held.get(key, []) if one is not reservation and one != reservation]
            if rest:
                self._held[key] = rest
            else:
                self._held.pop(key, None)

    def adopt(self, protocol: str, host_ip: str, host_port: int, container_port: int) -> Reservation:
        """Take note of a port that the port holder has kept while the daemon was away."""
        reservation = Reservation(protocol, host_ip, host_port, container_port)
        self._held.setdefault((protocol, host_port), []).append(reservation)
        return reservation

    def __iter__(self) -> Iterator[Reservation]:
        for reservations in self._held.values():
            yield from reservations

    def _reserve(self, spec: PortSpec) -> Reservation:
        if spec.protocol not in _KINDS:
            raise InvalidParameter(f"invalid protocol {spec.protocol!r} of port {spec.container_port}")
        _families(spec.host_ip)
        first, last = spec.host_ports
        if first == 0:
            return self._reserve_dynamic(spec)
        if not 0 < first <= last <= 65535:
            raise InvalidParameter(f"invalid range of host ports {first}-{last}")
        failure: Conflict | None = None
        for port in range(first, last + 1):
            try:
                return self._take(spec, port)
            except Conflict as error:
                failure = error
        if first == last and failure is not None:
            raise failure
        raise Conflict(f"Bind for {spec.host_ip or '0.0.0.0'}:{first}-{last} failed: all ports are allocated")

    def _reserve_dynamic(self, spec: PortSpec) -> Reservation:
        for _ in range(self._last - self._first + 1):
            port = self._next
            self._next = port + 1 if port < self._last else self._first
            try:
                return self._take(spec, port)
            except Conflict:
                continue
        raise Conflict(f"all ports from {self._first} to {self._last} are allocated")

    def _take(self, spec: PortSpec, port: int) -> Reservation:
        held = self._held.get((spec.protocol, port), [])
        if any(_overlap(one.host_ip, spec.host_ip) for one in held):
            raise Conflict(f"Bind for {spec.host_ip or '0.0.0.0'}:{port} failed: port is already allocated")
        reservation = Reservation(spec.protocol, spec.host_ip, port, spec.container_port)
        try:
            for address in _families(spec.host_ip):
                try:
                    bound = _bind(spec.protocol, address, port)
                except OSError as error:
                    if error.errno in _NO_FAMILY and spec.host_ip == "" and address == "::":
                        continue  # a host without IPv6
                    raise _refused(error, spec, address, port) from error
                if bound is not None:
                    reservation.sockets.append(bound)
        except BaseException:
            reservation.close()
            raise
        self._held.setdefault((spec.protocol, port), []).append(reservation)
        return reservation


def dynamic_range(path: Path = PORT_RANGE) -> tuple[int, int]:
    """The kernel's own range for clients, from which Docker chooses too; 49153 to 65535 if it can't be read."""
    try:
        first, last = path.read_text().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return DEFAULT_RANGE


def _families(host_ip: str) -> Sequence[str]:
    """The addresses to bind. Raises InvalidParameter for what is no address."""
    if host_ip == "":
        return ("0.0.0.0", "::")
    try:
        return (str(ipaddress.ip_address(host_ip)),)
    except ValueError:
        raise InvalidParameter(f"invalid host address of a published port: {host_ip!r}") from None


def _overlap(one: str, other: str) -> bool:
    for mine in _families(one):
        for theirs in _families(other):
            if (":" in mine) == (":" in theirs) and (mine == theirs or {mine, theirs} & {"0.0.0.0", "::"}):
                return True
    return False


def _bind(protocol: str, address: str, port: int) -> socket.socket | None:
    """``None`` if the kernel has no sockets of the protocol."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind, number = _KINDS[protocol]
    try:
        bound = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, number)
    except OSError as error:
        if protocol == "sctp" and error.errno in _NO_PROTOCOL:
            return None
        raise
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "udp":
            # answers must leave from the address that was asked, also where the socket has every address
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            else:
                bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        if protocol != "udp":
            bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def _refused(error: OSError, spec: PortSpec, address: str, port: int) -> Exception:
    shown = f"[{address}]" if ":" in address else address
    reason = os.strerror(error.errno or 0).lower()
    text = f"failed to bind host port {shown}:{port}/{spec.protocol}: {reason}"
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"{text}; another program has it")
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidParameter(f"{text}; it is no address of this host")
    return Failed(text)
