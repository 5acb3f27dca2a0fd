"""A stream of bytes from the event loop into a job's pipe."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any


async def feed(writing: int, stream: AsyncIterator[bytes], job: "asyncio.Future[Any]") -> None:
    """Write the stream into the pipe ``writing`` (the caller closes it) until it ends, or the job does.

    Why the job ended, it says itself.
    """
    os.set_blocking(writing, False)
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    job.add_done_callback(lambda _: ready.set())
    async for chunk in stream:
        data = memoryview(chunk)
        while data:
            if job.done():
                return
            try:
                data = data[os.write(writing, data) :]
            except BlockingIOError:
                ready.clear()
                loop.add_writer(writing, ready.set)
                try:
                    if not job.done():
                        await ready.wait()
                finally:
                    loop.remove_writer(writing)
            except BrokenPipeError:
                return
