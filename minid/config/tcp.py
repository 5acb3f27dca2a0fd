"""TCP addresses of the API: which port is meant, and who may be let in there. Pure.

A TCP socket gives root to whoever is let in, so one without certificates of clients is refused unless only this machine
reaches it, or the administrator says that they know. Ports as dockerd's: 2376 with TLS, 2375 without.
"""

from collections.abc import Sequence

TLS_PORT, PLAIN_PORT = 2376, 2375


def settle_hosts(
    hosts: Sequence[str], *, tls: bool, verified: bool, insecure: bool
) -> tuple[tuple[str, ...], list[str]]:
    """``hosts`` with every TCP address complete, and what is wrong with them."""
    settled, problems = [], []
    for host in hosts:
        if not host.startswith("tcp://"):
            settled.append(host)
            continue
        name, port = split(host)
        name = name or "127.0.0.1"
        port = port or (TLS_PORT if tls else PLAIN_PORT)
        shown = f"tcp://[{name}]:{port}" if ":" in name else f"tcp://{name}:{port}"
        settled.append(shown)
        if not verified and not insecure and not is_loopback(name):
            problems.append(
                f"{shown}: whoever reaches this port would be root on this machine: let clients show certificates "
                "(--tlsverify with --tlscacert, --tlscert and --tlskey), or listen on 127.0.0.1"
                + ("" if tls else "; --insecure-tcp-i-know listens all the same")
            )
    return tuple(dict.fromkeys(settled)), problems


def split(host: str) -> tuple[str, int]:
    """``tcp://[::1]:2376`` → ``("::1", 2376)``; "" and 0 for what is not there."""
    rest = host.removeprefix("tcp://")
    name, separator, port = rest.rpartition(":")
    if not separator or port.endswith("]"):
        name, port = rest, ""
    return name.removeprefix("[").removesuffix("]"), int(port or 0)


def is_loopback(name: str) -> bool:
    """Whether only this machine reaches the address."""
    return name in ("localhost", "::1") or name.startswith("127.")
