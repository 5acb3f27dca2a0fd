"""``top``: what ps(1) says of a container's processes. ``Engine API v1.44 GET /containers/{id}/top``."""

import asyncio
from collections.abc import Collection

from minid.errors import Failed, InvalidParameter


async def table(pids: Collection[int], ps_args: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows. ps runs on the host, so pids are the host's; it must be told to print a PID column."""
    try:
        child = await asyncio.create_subprocess_exec(
            "ps", *ps_args.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise Failed("ps was not found on the host: install procps") from None
    output, complaint = await child.communicate()
    if child.returncode != 0:
        raise InvalidParameter(f"ps: {complaint.decode(errors='replace').strip()}")
    return parse(output.decode(errors="replace"), pids)


def parse(output: str, pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """ps's output, reduced to ``pids``; the last column keeps its spaces."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return titles, [row for row in rows if len(row) > column and row[column] in wanted]
