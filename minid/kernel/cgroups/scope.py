"""A systemd scope for the containers and their shims: a unit of their own, beside the daemon's.

Below the daemon's own service they would be in the way: systemd cannot start the service's main process again
in a cgroup that has controllers for its children (EBUSY, status 219/CGROUP; ``DelegateSubgroup=`` came with
systemd 254), and ``systemctl kill`` signals everything in the unit. A scope (systemd.scope(5)) is a unit
without a main process that lives as long as anything is in it. ``Delegate=`` makes what is below it ours
("Control Group APIs and Delegation", systemd.io/CGROUP_DELEGATION).
"""

import contextlib
import os
import time

from minid.kernel import dbus
from minid.kernel.cgroups.cgroup import write

MANAGER_SOCKET = "/run/systemd/private"
SHIMS = "shims"
_NAME = "org.freedesktop.systemd1"
_INFINITE = 2**64 - 1
# How long containers have after SIGTERM when the machine goes down; `docker stop` gives as much.
_STOP_S = 10


def unit_names(own: str) -> tuple[str, str, str] | None:
    """(service, scope, slice) for the cgroup of a systemd service, as in /proc/self/cgroup; None for others.

    ``/system.slice/minid.service`` → ``("minid.service", "minid-containers.scope", "system.slice")``.
    """
    above, service = os.path.split(own)
    above = os.path.basename(above)
    if not service.endswith(".service") or not (above.endswith(".slice") or above == ""):
        return None
    return service, service.removesuffix(".service") + "-containers.scope", above or "-.slice"


def ensure(mount: str, own: str, resident: int, timeout_s: float = 10.0) -> str | None:
    """The directory of the scope beside the service ``own``, with the process ``resident`` in its leaf
    ``shims``; None if ``own`` is no service or systemd does not run. OSError: systemd refuses.

    As long as any process is in it the scope is there, so an earlier daemon's is joined.
    """
    names = unit_names(own)
    if names is None or not os.path.exists(MANAGER_SOCKET):
        return None
    service, scope, slice_ = names
    directory = f"{mount}{os.path.dirname(own).rstrip('/')}/{scope}"
    deadline = time.monotonic() + timeout_s
    while not _enter(directory, resident):
        try:
            _start(scope, service, slice_, resident)
        except dbus.DBusError as error:
            # It is just ending, with the last process of an earlier daemon.
            if not error.name.endswith(".UnitExists") or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    return directory


def _enter(directory: str, pid: int) -> bool:
    """Into the leaf: a cgroup with controllers for its children has no processes itself."""
    if not os.path.isdir(directory):
        return False
    leaf = f"{directory}/{SHIMS}"
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(leaf)
        write(leaf + "/cgroup.procs", str(pid))
    except OSError:
        if os.path.isdir(leaf):
            raise
        return False  # it has just ended
    return True


def _start(scope: str, service: str, slice_: str, pid: int) -> None:
    """StartTransientUnit (org.freedesktop.systemd1(5)), until the job is done."""
    properties = [
        ("Description", ("s", f"Containers of {service}")),
        ("PIDs", ("au", [pid])),
        ("Slice", ("s", slice_)),
        ("Delegate", ("b", True)),
        ("TasksMax", ("t", _INFINITE)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("TimeoutStopUSec", ("t", _STOP_S * 1_000_000)),
        # When the machine goes down the daemon stops first, so that it does not take the containers' end for theirs.
        ("Before", ("as", [service])),
    ]
    with dbus.Peer(MANAGER_SOCKET) as systemd:
        (job,) = systemd.call(
            "/org/freedesktop/systemd1",
            f"{_NAME}.Manager",
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            scope,
            "fail",
            properties,
            [],
            destination=_NAME,
        )
        while True:
            signal = systemd.next_signal()
            if signal.member == "JobRemoved" and signal.body[1] == job:
                break
    if signal.body[3] != "done":
        raise dbus.DBusError(f"{_NAME}.JobFailed", f"systemd did not start {scope}: {signal.body[3]}")
