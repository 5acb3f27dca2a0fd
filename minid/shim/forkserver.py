"""The forkserver: a small process, with all that shims and jobs need already imported, that forks on request.

It has one thread and knows two requests, each with the socket that the child is to answer on as first
descriptor:

    {"op": "shim", "ahead": bool}     become a shim (``minid.shim.shim``)
    {"op": "job", "target": "package.module:function", "request": {…}}   call a function, answer, end

Children are reaped by the kernel (SIGCHLD is ignored). It ends when the daemon's end of its socket is
closed; shims live on.
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
from minid.shim import messages, shim


def main(control_fd: int, preload: list[str]) -> None:
    """Serve requests on ``control_fd`` until the daemon goes away."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    modules = {name: importlib.import_module(name) for name in preload}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    os.chdir("/")
    os.umask(0o022)
    process.set_name("minid-forkd")
    process.set_title("minid: forkserver" + (" of jobs" if preload else ""))
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        message, fds = messages.receive(control)
        if message is None:
            return
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, no memory: the next one may succeed
            with socket.socket(fileno=fds.pop(0)) as peer:
                messages.send(peer, _error(error))
            pid = -1
        if pid == 0:
            control.close()
            code = 1
            try:
                code = _child(message, fds, modules)
            finally:
                os._exit(code)
        for fd in fds:
            os.close(fd)


def _child(message: messages.Message, fds: list[int], modules: dict[str, Any]) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    peer = socket.socket(fileno=fds[0])
    if message["op"] == "shim":
        return shim.main(message, peer)
    process.set_name("minid-job")
    process.set_title(f"minid: job {message['target']}")
    module, _, function = message["target"].partition(":")
    # a job that is rare enough need not be in the memory of every child
    loaded = modules.get(module) or importlib.import_module(module)
    answer = run_job(getattr(loaded, function), message["request"], fds[1:])
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


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
