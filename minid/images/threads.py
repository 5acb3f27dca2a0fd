"""Blocking steps of a download, run in threads without ever leaving one behind."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class BlockingPool:
    """A few threads for reading, hashing and writing. ``close`` waits for what is under way."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="minid-blob")

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Begin ``function`` in a thread; give the future to ``settle``."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` in a thread. A cancellation is raised only after the thread has finished."""
        return await settle(self.start(function, *args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown(wait=True)


async def settle(future: "asyncio.Future[T]") -> T:
    """Wait until ``future`` is done, even if cancelled: it uses what the caller is about to close."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen
        raise cancelled
    return future.result()
