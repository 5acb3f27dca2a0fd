"""Network sysctls of the calling thread's network namespace (``/proc/sys/net``; a part may hold dots)."""

import os


def path(*parts: str) -> str:
    return "/proc/sys/net/" + "/".join(parts)


def find(*parts: str) -> str | None:
    """The value; None where this kernel has no such sysctl."""
    try:
        with open(path(*parts), encoding="ascii") as file:
            return file.read().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def ensure(value: str, *parts: str) -> bool:
    """Give it ``value``; whether it had another one. Nothing happens where this kernel has no such sysctl."""
    old = find(*parts)
    if old is None or old == value:
        return False
    with open(path(*parts), "w", encoding="ascii") as file:
        file.write(value)
    return True


def keep_router_advertisements() -> None:
    """An interface that forwards takes no routes from routers any more, unless told to (``accept_ra`` 2):
    for a host that has its default route from one, switching forwarding on would end IPv6.
    """
    for interface in os.listdir(path("ipv6", "conf")):
        if find("ipv6", "conf", interface, "accept_ra") == "1":
            ensure("2", "ipv6", "conf", interface, "accept_ra")
