"""The keeper of a container: the half of its shim that is always there, and nearly always asleep.

It is the parent of the container's first process and of its execs: it reaps them, and they are killed when it is. It
holds all descriptors: the daemons' connections, the pipes, the log. What there is to do, a *worker* does
(``minid.shim.worker``): a fork of the keeper, with the same table of descriptors, that ends when nothing has happened
for a while.

    keeper                          worker
    fork ─────────────────────────▶ prepare namespaces and mounts, hear the daemon, start the container …
    its title ◀──────────────────── the container's name
    wait ────── who has ended ────▶ … serve streams, requests, execs; record the exit
    sleep until WAKE is ready ◀──── or rest: NOTES for the next worker, what there is to watch at WAKE
    fork ─────────────────────────▶ go on from the notes …

So the memory that Python writes to in all that work is the worker's, and goes with it. The keeper shares its memory
with the forkserver but for the pages that it touches itself: each line here is paid for by every container that
idles (decision 0019), which is why there is no object, no JSON and no event loop.
"""

import os
import select
import time
from collections.abc import Callable
from typing import NoReturn

from minid.kernel import clone, process

WAKE, NOTES = 0, 1  # nobody reads a shim's standard input or writes to its output: their numbers are free
RESTING = 64  # a worker's exit status; others than that are the keeper's own
RETRY_S = 0.1

FirstWork = Callable[[int, int, int], NoReturn]
Work = Callable[[int], NoReturn]


def keep(orders: int, begin: FirstWork, resume: Work) -> int:
    """Be the shim that an order in the socket ``orders`` is about; returns the exit status when all is done.

    Workers call ``begin(orders, news, say)``, those after the first ``resume(news)``: ``news`` is a pipe that says who
    has ended, ``say`` one for the title. Raises OSError when there can be no worker; the order is still there then.
    """
    os.setsid()
    process.leave_session_keyring()
    process.reap_children()
    news, tell = os.pipe2(os.O_CLOEXEC)
    title, say = os.pipe2(os.O_CLOEXEC)
    worker, alive = clone.fork_sharing_descriptors()
    if worker == 0:
        begin(orders, news, say)
    process.set_subreaper()
    process.set_name("minid-shim")
    process.set_title("minid: spare shim")
    if title in select.select((title, alive), (), ())[0]:
        process.set_title(os.read(title, 64).decode())
    for fd in (title, say, alive):
        os.close(fd)
    status = _attend(worker, tell)
    while status == RESTING:
        select.select((WAKE,), (), ())
        status = _attend(_fork_worker(resume, news), tell)
    return status


def _fork_worker(resume: Work, news: int) -> int:
    while True:
        try:
            worker, alive = clone.fork_sharing_descriptors()
        except OSError:  # too many processes, no memory: what there is to do can wait
            time.sleep(RETRY_S)
            continue
        if worker == 0:
            resume(news)
        os.close(alive)
        return worker


def _attend(worker: int, tell: int) -> int:
    """Reap until the worker has ended; its exit status, negative for the signal that killed it."""
    while True:
        pid, status = os.wait()
        if pid == worker:
            return os.waitstatus_to_exitcode(status)
        os.write(tell, b"%d %d\n" % (pid, status))
