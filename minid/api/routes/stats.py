"""What a container uses of the machine: ``docker stats``."""

import contextlib

from aiohttp import web

from minid.api.answers import json_line, json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema import stats as schema
from minid.errors import InvalidParameter

routes = Routes()


@routes.get("/containers/{id}/stats", stoppable=True)
async def container_stats(call: Call) -> web.StreamResponse:
    containers = call.services.containers
    stream, one_shot = call.flag("stream", default=True), call.flag("one-shot")
    if stream and one_shot:
        raise InvalidParameter("cannot have stream=true and one-shot=true")
    container = containers.get(call.parameters["id"])
    if not stream:
        return json_response(schema.stats(await containers.stats.once(container, at_once=one_shot)))
    async with contextlib.aclosing(containers.stats.follow(container)) as usages:
        response = await call.start("application/json")
        async for usage in usages:
            await response.write(json_line(schema.stats(usage)))
        await response.write_eof()
        return response
