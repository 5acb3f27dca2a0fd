"""Swarm and plugins, answered as by a dockerd that has none."""

from aiohttp import web

from minid.api.answers import json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.errors import NotFound, Unavailable

routes = Routes()

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)


async def not_a_swarm_manager(call: Call) -> web.StreamResponse:
    raise Unavailable(NOT_A_MANAGER)


for noun in ("swarm", "nodes", "services", "tasks", "secrets", "configs"):
    for method in ("GET", "POST", "DELETE"):
        for rest in ("", "/{rest:.*}"):
            routes.add(method, f"/{noun}{rest}")(not_a_swarm_manager)


@routes.get("/plugins")
async def plugin_list(call: Call) -> web.StreamResponse:
    return json_response([])


@routes.get("/plugins/{name:.*}/json")
async def plugin_inspect(call: Call) -> web.StreamResponse:
    raise NotFound(f'plugin "{call.parameters["name"]}" not found')
