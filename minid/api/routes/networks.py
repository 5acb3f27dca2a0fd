"""Networks: list, inspect, create, delete, connect, disconnect, prune."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from minid.api.answers import empty_response, json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema import network as schema
from minid.containers.filters import match_labels, matches_pattern
from minid.errors import Forbidden, InvalidParameter, NotFound
from minid.images.timestamps import moment
from minid.network.model import Network

routes = Routes()

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")


@routes.get("/networks")
async def network_list(call: Call) -> web.StreamResponse:
    filters = call.filters(LIST_FILTERS)
    check = matcher(call, filters)
    found = sorted(call.services.networks.all(), key=lambda network: (network.created_ns, network.name))
    return json_response([schema.network(network) for network in found if check(network)])


def matcher(call: Call, filters: Mapping[str, Sequence[str]]) -> Callable[[Network], bool]:
    """Values of one key are alternatives (labels must all match), keys add up."""
    for value in filters.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{value}'")
    for value in filters.get("scope", ()):
        if value not in ("local", "global", "swarm"):
            raise InvalidParameter(f"invalid filter: 'scope'='{value}'")
    for value in filters.get("dangling", ()):
        if value.lower() not in ("0", "1", "false", "true"):
            raise InvalidParameter(f"invalid filter 'dangling={value}'")

    def dangling(network: Network, value: str) -> bool:
        unused = not network.builtin and not call.services.networking.of_network(network)
        return unused == (value.lower() in ("1", "true"))

    checks: dict[str, Callable[[Network, str], bool]] = {
        "driver": lambda network, value: network.driver == value,
        "id": lambda network, value: network.id.startswith(value),
        "name": lambda network, value: matches_pattern(value, network.name),
        "scope": lambda network, value: value == "local",
        "type": lambda network, value: network.builtin == (value == "builtin"),
        "dangling": dangling,
    }

    def check(network: Network) -> bool:
        return all(
            match_labels(network.labels, values)
            if key == "label"
            else any(checks[key](network, value) for value in values)
            for key, values in filters.items()
            if values
        )

    return check


@routes.post("/networks/create")
async def network_create(call: Call) -> web.StreamResponse:
    created = await call.services.networks.create(schema.create_request(await call.json()))
    return json_response({"Id": created.id, "Warning": ""}, status=201)


@routes.post("/networks/prune")
async def network_prune(call: Call) -> web.StreamResponse:
    """Networks that no container runs in, or waits to."""
    filters = call.filters(PRUNE_FILTERS)
    limit_ns = min((moment(text) for text in filters.get("until", ())), default=1 << 63)
    removed = []
    for network in call.services.networks.all():
        unwanted = filters.get("label!")
        if (
            not network.builtin
            and network.created_ns < limit_ns
            and match_labels(network.labels, filters.get("label", ()))
            and not (unwanted and match_labels(network.labels, unwanted))
            and not call.services.networking.of_network(network)
        ):
            try:
                await call.services.networks.remove(network.id)
            except (Forbidden, NotFound):
                continue  # somebody was quicker
            removed.append(network.name)
    return json_response({"NetworksDeleted": removed or None})


@routes.get("/networks/{id}")
async def network_inspect(call: Call) -> web.StreamResponse:
    scope = call.text("scope")
    if scope not in ("", "local"):
        raise NotFound(f"network {call.parameters['id']} not found")
    network = call.services.networks.get(call.parameters["id"])
    return json_response(schema.network(network, call.services.networking.of_network(network)))


@routes.delete("/networks/{id}")
async def network_delete(call: Call) -> web.StreamResponse:
    await call.services.networks.remove(call.parameters["id"])
    return empty_response()


@routes.post("/networks/{id}/connect")
async def network_connect(call: Call) -> web.StreamResponse:
    network, body = call.services.networks.get(call.parameters["id"]), folded(await call.json())
    await call.services.containers.connect(wanted(body), network.id, body.get("endpointconfig"))
    return empty_response(200)


@routes.post("/networks/{id}/disconnect")
async def network_disconnect(call: Call) -> web.StreamResponse:
    network, body = call.services.networks.get(call.parameters["id"]), folded(await call.json())
    await call.services.containers.disconnect(wanted(body), network.id)
    return empty_response(200)


def folded(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in body.items()}


def wanted(body: Mapping[str, Any]) -> str:
    """The container that a body names."""
    ref = body.get("container")
    if not isinstance(ref, str) or not ref:
        raise InvalidParameter("Container: the name or id of a container is needed")
    return ref
