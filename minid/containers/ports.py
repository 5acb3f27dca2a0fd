"""What ``-p`` and ``-P`` ask for, port by port. Pure.

Source: Engine API v1.44 ``HostConfig.PortBindings``, ``PublishAllPorts``.
"""

from collections.abc import Mapping
from typing import Any

from minid.containers.model import Container, PortBinding
from minid.containers.validate import parse_port
from minid.network.model import PortSpec

Bindings = Mapping[str, tuple[PortBinding, ...] | None]


def port_specs(container: Container) -> list[PortSpec]:
    """What ``-p`` and ``-P`` ask for; fixed host ports before those that may be any."""
    host_config = container.host_config
    specs = specs_of(host_config.port_bindings)
    if host_config.publish_all_ports:
        bound = {(spec.protocol, spec.container_port) for spec in specs}
        for key in container.config.exposed_ports:
            ports, protocol = parse_port(key)
            specs += [PortSpec(protocol, port) for port in ports if (protocol, port) not in bound]
    return sorted(specs, key=lambda spec: (spec.host_ports[0] == 0, spec.host_ports[1] - spec.host_ports[0]))


def specs_of(all_bindings: Bindings) -> list[PortSpec]:
    """The API's ``PortBindings``, port by port."""
    specs: list[PortSpec] = []
    for key, bindings in all_bindings.items():
        ports, protocol = parse_port(key)
        for binding in bindings or (PortBinding(),):
            first, _, last = binding.host_port.partition("-")
            low = int(first or 0)
            high = int(last or first or 0)
            for offset, port in enumerate(ports):
                # a range of container ports takes one host port after the other, a single one any of the range
                chosen = (low + offset, low + offset) if low and len(ports) > 1 else (low, high)
                specs.append(PortSpec(protocol, port, binding.host_ip, chosen))
    return specs


def without_bindings(all_bindings: Bindings, unwanted: Bindings) -> dict[str, tuple[PortBinding, ...] | None]:
    """What is left of the wanted bindings; no host address or port in ``unwanted`` means any."""
    result = dict(all_bindings)
    for key, bindings in unwanted.items():
        kept = [
            one
            for one in result.pop(key, None) or ()
            if not any(
                one.host_ip in (other.host_ip or one.host_ip,)
                and one.host_port in ("", other.host_port or one.host_port)
                for other in bindings or (PortBinding(),)
            )
        ]
        if kept:
            result[key] = tuple(kept)
    return result


def spec_fits(spec: PortSpec, record: Mapping[str, Any]) -> bool:
    """Whether a published port is one that ``spec`` names; it may leave out host address and port."""
    first, last = spec.host_ports
    return (
        (spec.protocol, spec.container_port) == (record["protocol"], record["container_port"])
        and spec.host_ip in ("", record["host_ip"])
        and (first == 0 or first <= record["host_port"] <= last)
    )
