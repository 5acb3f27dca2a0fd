"""Registries as the daemon sees them: an extension (docs/compatibility.md)."""

from aiohttp import web

from minid.api.answers import json_line, json_response
from minid.api.call import Call
from minid.api.registry_auth import decode_registry_auth
from minid.api.routing import Routes
from minid.api.schema import registry as schema

routes = Routes()


@routes.get("/minid/registries/{name:.*}/test", stoppable=True)
async def registry_test(call: Call) -> web.StreamResponse:
    """Try a registry step by step: a JSON line a step, as it is done. ``push=0`` leaves out the right to push."""
    auth = decode_registry_auth(call.request.headers.get("X-Registry-Auth", ""))
    probe = call.services.images.registries.probe(
        call.parameters["name"], auth=auth, try_push=call.flag("push", True)
    )
    response = await call.start("application/json")
    async for step in probe.steps():
        await response.write(json_line(schema.step(step)))
    await response.write_eof()
    return response


@routes.get("/minid/images/{name:.*}/explain")
async def image_explain(call: Call) -> web.StreamResponse:
    """How a name is read, and where it would be pulled from and pushed to, by which rule. Asks nobody."""
    images = call.services.images
    reference, route = images.registries.route(call.parameters["name"])
    image = images.find(call.parameters["name"])
    return json_response(schema.explanation(reference, route, image.id if image is not None else ""))
