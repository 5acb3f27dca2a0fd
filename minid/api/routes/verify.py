"""Checking images on the disk: an extension (docs/compatibility.md)."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from minid.api.call import Call
from minid.api.progress import stream_lines
from minid.api.routing import Routes
from minid.api.schema import verify as schema
from minid.api.schema.build import registry_config
from minid.errors import InvalidParameter

routes = Routes()


@routes.post("/minid/images/verify", stoppable=True)
async def images_verify(call: Call) -> web.StreamResponse:
    """Check the images ``name`` (repeated), or with ``all=1`` every one: a JSON line a thing; ``repair=1`` mends."""
    images = call.services.images
    names = [] if call.flag("all") else call.request.query.getall("name", [])
    if not names and not call.flag("all"):
        raise InvalidParameter("name is needed: the image to verify; or all=1")
    auths = registry_config(call.request.headers.get("X-Registry-Config", ""))

    async def work(send: Callable[[dict[str, Any]], None]) -> None:
        await images.verify(
            names, lambda finding: send(schema.finding(finding)), repair=call.flag("repair"), auths=auths
        )

    return await stream_lines(call, work)
