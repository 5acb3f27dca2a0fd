"""Network sysctls of the calling thread's network namespace (``/proc/sys/net``; a part may hold dots)."""


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
