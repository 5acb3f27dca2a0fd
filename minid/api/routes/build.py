"""Builds: ``POST /build`` and its cache."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from minid.api.answers import json_response
from minid.api.call import Call
from minid.api.failure import message_of
from minid.api.progress import stream_lines
from minid.api.routing import Routes
from minid.api.schema import build as schema
from minid.build import context as contexts
from minid.build.request import Session

routes = Routes()


@routes.post("/build", stoppable=True)
async def image_build(call: Call) -> web.StreamResponse:
    """Build an image of the context in the body. Stops at once when the client goes away."""
    builds = call.services.builds
    request = schema.build_request(call, Session())
    with await contexts.receive(call.stream(), builds.asides, builds.jobs) as context:

        async def work(send: Callable[[dict[str, Any]], None]) -> None:
            stream: schema.Classic | schema.Steps
            if call.text("progress") == "steps":
                stream = schema.Steps(send)
            else:
                stream = schema.Classic(send, quiet=call.flag("q"))
            try:
                image_id = await builds.build(request, context, stream.report)
            finally:
                stream.finish()
            stream.done(image_id, request.names)

        return await stream_lines(call, work, lambda error: schema.failed(error, message_of(error)))


@routes.post("/build/prune")
async def build_prune(call: Call) -> web.StreamResponse:
    """Forget what the build cache has and no image needs."""
    builds = call.services.builds
    pruned = await builds.prune(builds.cache.all())
    return json_response(
        {"CachesDeleted": list(pruned.keys) or None, "SpaceReclaimed": pruned.reclaimed_bytes}
    )
