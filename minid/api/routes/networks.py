"""Networks: only those that every engine has, until the network service is there."""

from typing import Any

from aiohttp import web

from minid.api.answers import json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema.naming import ZERO_TIME
from minid.api.schema.network import network
from minid.containers.model import ListFilter
from minid.errors import Forbidden, NotFound, Unsupported
from minid.network.fixed import DRIVERS, network_ids

routes = Routes()

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")


@routes.get("/networks")
async def network_list(call: Call) -> web.StreamResponse:
    filters = call.filters(LIST_FILTERS)
    identifiers = network_ids(call.services.engine_id)
    return json_response(
        [
            network(name, identifiers[name], ZERO_TIME, [])
            for name in DRIVERS
            if is_wanted(name, identifiers[name], filters)
        ]
    )


def is_wanted(name: str, identifier: str, filters: dict[str, tuple[str, ...]]) -> bool:
    checks: dict[str, Any] = {
        "driver": lambda value: value == DRIVERS[name],
        "id": identifier.startswith,
        "name": lambda value: value in name,
        "scope": lambda value: value == "local",
        "type": lambda value: value == "builtin",
        "dangling": lambda value: value.lower() in ("0", "false"),
        "label": lambda value: False,
    }
    return all(any(checks[key](value) for value in values) for key, values in filters.items() if values)


@routes.post("/networks/create")
async def network_create(call: Call) -> web.StreamResponse:
    raise Unsupported("creating networks is not implemented yet")


@routes.post("/networks/prune")
async def network_prune(call: Call) -> web.StreamResponse:
    call.filters(PRUNE_FILTERS)
    return json_response({"NetworksDeleted": None})


@routes.get("/networks/{id}")
async def network_inspect(call: Call) -> web.StreamResponse:
    name, identifier = get(call)
    containers = call.services.containers.list(ListFilter())
    return json_response(network(name, identifier, ZERO_TIME, containers))


@routes.delete("/networks/{id}")
async def network_delete(call: Call) -> web.StreamResponse:
    name, _ = get(call)
    raise Forbidden(f"{name} is a pre-defined network and cannot be removed")


@routes.post("/networks/{id}/connect")
@routes.post("/networks/{id}/disconnect")
async def network_connect(call: Call) -> web.StreamResponse:
    get(call)
    raise Unsupported("connecting containers to networks is not implemented yet")


def get(call: Call) -> tuple[str, str]:
    """Name and ID of the network called for, by name, ID or the start of an ID."""
    wanted = call.parameters["id"]
    identifiers = network_ids(call.services.engine_id)
    for name, identifier in identifiers.items():
        if wanted in (name, identifier):
            return name, identifier
    found = [pair for pair in identifiers.items() if pair[1].startswith(wanted)]
    if len(found) != 1:
        raise NotFound(f"network {wanted} not found")
    return found[0]
