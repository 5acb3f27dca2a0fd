"""Builds: ``POST /build``, its cache, and (an extension) what a client has ready for steps of a build."""

import base64
import binascii
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from aiohttp import web

from minid.api.answers import empty_response, json_response
from minid.api.call import Call
from minid.api.failure import message_of
from minid.api.progress import stream_lines
from minid.api.routing import Routes
from minid.api.schema import build as schema
from minid.api.stream import hijack
from minid.build.pruning import FILTERS, Wanted
from minid.containers.model import Client
from minid.errors import InvalidParameter
from minid.images.timestamps import moment

routes = Routes()


@routes.post("/build", stoppable=True)
async def image_build(call: Call) -> web.StreamResponse:
    """Build an image of the context in the body. Stops at once when the client goes away."""
    builds = call.services.builds
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(builds.sessions.use(call.text("session")))
        request = schema.build_request(call, session)
        if call.text("remote"):
            context, is_dockerfile = await builds.fetch(call.text("remote"), request.dockerfile, session)
            if is_dockerfile:
                request = dataclasses.replace(request, dockerfile="Dockerfile")
        else:
            context = await builds.receive(call.stream())
        stack.enter_context(context)

        async def work(send: Callable[[dict[str, Any]], None]) -> None:
            stream: schema.Classic | schema.Steps
            if call.text("progress") == "steps":
                stream = schema.Steps(send)
            else:
                stream = schema.Classic(send, quiet=call.flag("q"))
            if request.check_only:
                for warning in await builds.check(request, context):
                    stream.report(warning)
                return
            try:
                image_id = await builds.build(request, context, stream.report)
            finally:
                stream.finish()
            stream.done(image_id, request.names)

        return await stream_lines(call, work, lambda error: schema.failed(error, message_of(error)))


@routes.post("/build/prune")
async def build_prune(call: Call) -> web.StreamResponse:
    """Forget what the build cache has and no image needs (``all``: or does)."""
    filters = call.filters(FILTERS)
    untils = [*filters.pop("until", ()), *filters.pop("unused-for", ())]
    wanted = Wanted(
        all=call.flag("all"),
        keep_bytes=call.integer("keep-storage") or 0,
        before_ns=min((moment(text) for text in untils), default=None),
        filters=filters,
    )
    pruned = await call.services.builds.prune(wanted)
    return json_response(
        {"CachesDeleted": list(pruned.keys) or None, "SpaceReclaimed": pruned.reclaimed_bytes}
    )


@routes.post("/build/session")
async def build_session(call: Call) -> web.StreamResponse:
    """Secrets, the names of SSH agents and further contexts for one build: ``{"secrets": {id: base64}, …}``."""
    body = await call.json()
    secrets, agents, places = body.get("secrets") or {}, body.get("ssh") or [], body.get("contexts") or {}
    if not isinstance(secrets, dict) or not isinstance(places, dict) or not isinstance(agents, list):
        raise InvalidParameter("secrets and contexts must be objects, ssh a list")
    if not all(isinstance(text, str) for text in (*secrets.values(), *agents, *places.values())):
        raise InvalidParameter("secrets, contexts and ssh must have strings in them")
    try:
        decoded = {name: base64.b64decode(text, validate=True) for name, text in secrets.items()}
    except (binascii.Error, ValueError):
        raise InvalidParameter("a secret is not base64") from None
    return json_response({"id": call.services.builds.sessions.create(decoded, agents, places)}, status=201)


@routes.post("/build/session/{id}/context", stoppable=True)
async def build_session_context(call: Call) -> web.StreamResponse:
    """A further context: a tar in the body."""
    builds = call.services.builds
    context = await builds.receive(call.stream())
    try:
        builds.sessions.add_context(call.parameters["id"], call.text("name"), context)
    except BaseException:
        context.close()
        raise
    return empty_response(204)


@routes.post("/build/session/{id}/ssh")
async def build_session_ssh(call: Call) -> web.StreamResponse:
    """A connection that waits for a program in a RUN which wants the client's SSH agent."""
    sessions = call.services.builds.sessions
    session_id, name = call.parameters["id"], call.text("name", "default")
    sessions.find_agent(session_id, name)

    async def hand_over(client: Client) -> None:
        sessions.offer_agent(session_id, name, client.fd)

    return await hijack(call, tty=True, hand_over=hand_over, output_at_once=False)
