"""Progress as JSON lines: an answer that starts with the first report, thinned to what a person can see."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from minid.api.answers import json_line
from minid.api.call import Call
from minid.api.failure import message_of
from minid.images.model import Progress

INTERVAL_S = 0.1


class Thinner:
    """Lets through a change of status at once, and of a count at most every ``INTERVAL_S`` per thing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, tuple[str, float]] = {}

    def passes(self, report: Progress) -> bool:
        now = self._clock()
        status, when = self._last.get(report.id, ("", 0.0))
        finished = report.current_bytes is not None and report.current_bytes == report.total_bytes
        counting = status == report.status and report.current_bytes is not None and not finished
        if counting and now - when < INTERVAL_S:
            return False
        self._last[report.id] = (report.status, now)
        return True


async def stream_progress(
    call: Call,
    work: Callable[[Callable[[Progress], None]], Awaitable[object]],
    render: Callable[[Progress], dict[str, Any]],
) -> web.StreamResponse:
    """Run ``work(report)`` and send what it reports; see ``stream_lines``."""
    thinner = Thinner()

    async def run(send: Callable[[dict[str, Any]], None]) -> None:
        def report(progress: Progress) -> None:
            if thinner.passes(progress):
                send(render(progress))

        await work(report)

    return await stream_lines(call, run)


def error_line(error: Exception) -> dict[str, Any]:
    """The last line of what went wrong; without a code: of 401 the docker CLI 20.10 tells nothing else any more."""
    message = message_of(error)
    return {"errorDetail": {"message": message}, "error": message}


async def stream_lines(
    call: Call,
    work: Callable[[Callable[[dict[str, Any]], None]], Awaitable[object]],
    failed: Callable[[Exception], dict[str, Any]] = error_line,
) -> web.StreamResponse:
    """Run ``work(send)`` and send its JSON lines; it is cancelled when the client goes away.

    An error before the first line is an ordinary HTTP error; after it, the last line is ``failed(error)``.
    """
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        line = await queue.get()
        if line is None:
            await task
        response = await call.start("application/json")
        while line is not None:
            batch = [json_line(line)]
            while not queue.empty() and (line := queue.get_nowait()) is not None:
                batch.append(json_line(line))
            await response.write(b"".join(batch))
            if line is not None:
                line = await queue.get()
        try:
            await task
        except Exception as error:
            await response.write(json_line(failed(error)))
        await response.write_eof()
        return response
    finally:
        task.cancel()
        await asyncio.wait([task])
