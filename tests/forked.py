"""Run a function in a forked process and get its result: for what a process can do only once, or only to
itself.
"""

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any


class Ended(Exception):
    """The process ended without a result: ``status`` as os.waitstatus_to_exitcode gives it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the forked process ended with {status}")
        self.status = status


def forked(function: Callable[[], Any]) -> Any:
    """``function()`` in a child; its result, or its exception raised here. ``Ended`` if it was killed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            try:
                answer = (True, function())
            except Exception as error:
                answer = (False, (error, traceback.format_exc()))
            with os.fdopen(write, "wb") as file:
                pickle.dump(answer, file)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise Ended(os.waitstatus_to_exitcode(status))
    fine, result = pickle.loads(data)
    if fine:
        return result
    error, trace = result
    error.add_note(trace)
    raise error


class Child:
    """A child that runs ``function`` and then waits to be told to end (or killed); a context manager."""

    def __init__(self, function: Callable[[], object] = lambda: None) -> None:
        ready_read, ready = os.pipe()
        end, self._end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._end)
                function()
                os.write(ready, b"1")
                os.close(ready)
                os.read(end, 1)
            finally:
                os._exit(0)
        os.close(ready)
        os.close(end)
        started = os.read(ready_read, 1)
        os.close(ready_read)
        self.status: int | None = None
        if not started:
            raise Ended(self.wait())

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        if self.status is None:
            os.close(self._end)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status
