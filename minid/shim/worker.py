"""A worker: the half of a shim that is there while there is something to do (see ``minid.shim.keeper``).

The first one is forked together with its keeper, prepares what it can, and starts the container. Those that come
later go on from the notes of the one before.
"""

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from minid.kernel import process
from minid.shim import keeper, messages, sandbox
from minid.shim.shim import Shim

DONE, FAILED = 0, 1


def begin(orders: int, news: int, say: int) -> NoReturn:
    """Fetch an order out of the socket ``orders``, be the shim of the container that the daemon will name on the
    socket that comes with it, and exit; the container's name is written to ``say``.

    ``{"ahead": true}``: prepare what most containers need before it is known which one it will be.
    """
    _work(lambda: _first(orders, news, say))


def resume(news: int) -> NoReturn:
    """Go on where the worker before has rested, and exit."""
    _work(lambda: _next(news))


def _first(orders: int, news: int, say: int) -> Shim:
    with socket.socket(fileno=orders) as queue:
        order, fds = messages.receive(queue)
    if order is None:  # the daemon has ended
        os._exit(DONE)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number, inheritable=False)
    os.close(null)
    os.umask(0)
    prepared = sandbox.prepare() if order["ahead"] else {}
    process.set_title("minid: worker of a spare shim")
    os.umask(0o077)
    return Shim.begin(socket.socket(fileno=fds[0]), news, prepared, say)


def _next(news: int) -> Shim:
    os.umask(0o077)
    size = os.lseek(keeper.NOTES, 0, os.SEEK_END)
    return Shim.resume(json.loads(os.pread(keeper.NOTES, size, 0)), news)


def _work(make_shim: Callable[[], Shim]) -> NoReturn:
    status, shim = FAILED, None
    try:
        _end_with_keeper()
        shim = make_shim()
        notes = shim.run()
        status = DONE
        if notes is not None:
            shim.leave_at(keeper.WAKE)
            _leave_notes(json.dumps(notes).encode())
            status = keeper.RESTING
    except Exception:
        status = FAILED
        if shim is not None and shim.directory:
            import traceback  # only for this

            with open(os.path.join(shim.directory, "shim-error.txt"), "w") as file:
                file.write(traceback.format_exc())
    finally:
        os._exit(status)


def _end_with_keeper() -> None:
    process.set_name("minid-worker")
    process.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != os.getsid(0):  # the keeper leads its session, and has ended already
        os._exit(FAILED)


def _leave_notes(data: bytes) -> None:
    memory = os.memfd_create("minid-notes", os.MFD_CLOEXEC)
    os.write(memory, data)
    os.dup2(memory, keeper.NOTES, inheritable=False)
    os.close(memory)
