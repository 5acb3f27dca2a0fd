"""`-p` and `--expose`: ports of the container, and where of the host they are published."""

from __future__ import annotations

import _socket

from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_ports(publish: list[str], expose: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ExposedPorts, PortBindings) for `[[ip:][hostPort[-end]]:]port[-end][/protocol]` and
    `port[-end][/protocol]`.

    Raises Failure(125) with docker's words.
    """
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    for text in publish:
        if "=" in text:
            text = _from_fields(text)
        for port, binding in _published(text):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    for text in expose:
        port, _, protocol = text.partition("/")
        if ":" in text:
            raise Failure(f"invalid port format for --expose: {text}", 125)
        try:
            numbers = _range(port)
        except ValueError as error:
            raise Failure(f"invalid range format for --expose: {text}, error: {error}", 125) from None
        for number in numbers:
            exposed.setdefault(f"{number}/{(protocol or 'tcp').lower()}", {})
    return exposed, bindings


def _published(text: str) -> list[tuple[str, dict[str, str]]]:
    front, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    head, _, inside = front.rpartition(":")
    address, _, outside = head.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    if not inside:
        raise Failure(f"no port specified: {text}<empty>", 125)
    if address:
        try:
            _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
        except OSError:
            raise Failure(f"invalid IP address: {address}", 125) from None
    if protocol not in ("tcp", "udp", "sctp"):
        raise Failure(f"invalid proto: {protocol}", 125)
    try:
        numbers = _range(inside)
    except ValueError:
        raise Failure(f"invalid containerPort: {inside}", 125) from None
    try:
        hosts = _range(outside) if outside else range(0)
    except ValueError:
        raise Failure(f"invalid hostPort: {outside}", 125) from None
    if outside and len(hosts) != len(numbers):
        if len(numbers) != 1:
            raise Failure(
                f"invalid ranges specified for container and host Ports: {inside} and {outside}", 125
            )
        return [(f"{numbers[0]}/{protocol}", {"HostIp": address, "HostPort": outside})]
    return [
        (f"{number}/{protocol}", {"HostIp": address, "HostPort": str(hosts[index]) if outside else ""})
        for index, number in enumerate(numbers)
    ]


def _range(text: str) -> range:
    """`8080` or `8000-8010`. Raises ValueError in Go's words."""
    first, dash, last = text.partition("-")
    numbers = []
    for part in (first, last) if dash else (first,):
        if not part.isascii() or not part.isdigit():
            raise ValueError(f'strconv.ParseUint: parsing "{part}": invalid syntax')
        if int(part) > 65535:
            raise ValueError(f'strconv.ParseUint: parsing "{part}": value out of range')
        numbers.append(int(part))
    if numbers[-1] < numbers[0]:
        raise ValueError(f"invalid range specified for port: {text}")
    return range(numbers[0], numbers[-1] + 1)


def _from_fields(text: str) -> str:
    """`target=80,published=8080,protocol=tcp`, the long form, as the short one."""
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    if not fields.get("target"):
        raise Failure("missing mandatory field 'target'", 125)
    unknown = set(fields) - {"target", "published", "protocol", "mode"}
    if unknown:
        raise Failure(f"invalid field key: {min(unknown)}", 125)
    outside = f"{fields['published']}:" if fields.get("published") else ""
    return f"{outside}{fields['target']}/{fields.get('protocol', 'tcp')}"
