"""Tells systemd how the daemon is: ``sd_notify(3)``. Everything is a no-op when systemd did not start us."""

import os
import socket
import time


def notify(*assignments: str) -> bool:
    """Send ``KEY=value`` lines to ``$NOTIFY_SOCKET``; False when there is none or it is gone."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.sendall("\n".join(assignments).encode())
    except OSError:
        return False
    return True


def ready(status: str) -> bool:
    """Start-up, or a reload, is complete."""
    return notify("READY=1", f"STATUS={status}")


def reloading() -> bool:
    """A reload begins; ``ready`` ends it. The time is what ``Type=notify-reload`` asks for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping(status: str = "stopping") -> bool:
    return notify("STOPPING=1", f"STATUS={status}")


def status(text: str) -> bool:
    """One line for ``systemctl status``."""
    return notify(f"STATUS={text}")
