"""The forkserver: a small process, with all that shims and jobs need already imported, that forks on request.

It has one thread, and hears a byte an order: ``s`` for a shim (``minid.shim.keeper``), ``j`` for a job. What the order
is about waits in a socket for each kind, where the forked process fetches it:

    {"ahead": bool}     for a shim; with it comes the socket on which the shim will hear the daemon
    {"target": "package.module:function", "request": {…}}     for a job; with it the socket for the answer, and
                                                             the descriptors for the function

Of several orders of a kind it does not matter which process fetches which. The forkserver itself looks at nothing:
the memory that it writes to is memory that it no longer shares with the shims it has forked.

Children are reaped by the kernel (SIGCHLD is ignored). It ends when the daemon's end of its pipe is closed; shims
live on.
"""

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from minid.kernel import process
from minid.shim import keeper, messages, worker


def main(orders: int, shims: int, jobs: int, preload: list[str]) -> None:
    """Serve orders until the daemon goes away."""
    for fd in (orders, shims, jobs):
        os.set_inheritable(fd, False)
    modules = {name: importlib.import_module(name) for name in preload}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    os.chdir("/")
    os.umask(0o022)
    process.set_name("minid-forkd")
    process.set_title("minid: forkserver" + (" of jobs" if preload else ""))
    if not preload:
        process.set_dumpable(False)  # nor are shims, then
    gc.collect()
    gc.freeze()
    gc.disable()
    while order := os.read(orders, 1):
        mine, other = (shims, jobs) if order == b"s" else (jobs, shims)
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, no memory: the next one may succeed
            _refuse(mine, error)
            continue
        if pid == 0:
            code = 1
            try:
                os.close(orders)
                os.close(other)
                code = _be_shim(mine) if order == b"s" else _be_job(mine, modules)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)


def _be_shim(orders: int) -> int:
    try:
        return keeper.keep(orders, worker.begin, worker.resume)
    except OSError as error:
        _refuse(orders, error)
        return 1


def _refuse(orders: int, reason: OSError) -> None:
    """Fetch one and answer that it can't be."""
    with socket.socket(fileno=os.dup(orders)) as queue:
        order, fds = messages.receive(queue)
    if order is None:
        return  # the daemon has ended
    with socket.socket(fileno=fds[0]) as peer:
        messages.send(peer, _error(reason))
    for fd in fds[1:]:
        os.close(fd)


def _be_job(orders: int, modules: dict[str, Any]) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=orders) as queue:
        order, fds = messages.receive(queue)
    if order is None:
        return 0
    process.set_name("minid-job")
    process.set_title(f"minid: job {order['target']}")
    module, _, function = order["target"].partition(":")
    # a job that is rare enough need not be in the memory of every child
    loaded = modules.get(module) or importlib.import_module(module)
    with socket.socket(fileno=fds[0]) as peer:
        answer = run_job(getattr(loaded, function), order["request"], fds[1:])
        try:
            messages.send(peer, answer)
        except messages.MessageError as error:
            messages.send(peer, _error(error))
    return 0


def run_job(function: Callable[..., Any], request: dict[str, Any], fds: list[int]) -> messages.Message:
    """Call a job; its result or its error as a message."""
    try:
        return {"result": function(request, fds)}
    except Exception as error:
        return _error(error)


def _error(error: Exception) -> messages.Message:
    return {
        "error": error.strerror if isinstance(error, OSError) and error.strerror else str(error),
        "kind": type(error).__name__,
        "errno": error.errno if isinstance(error, OSError) else None,
        "path": _text(error.filename) if isinstance(error, OSError) else None,
    }


def _text(filename: object) -> str | None:
    """OSError.filename can be bytes, or a descriptor."""
    if filename is None:
        return None
    return os.fsdecode(filename) if isinstance(filename, bytes) else str(filename)
