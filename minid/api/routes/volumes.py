"""Volumes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from minid.api.answers import empty_response, json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema.naming import read
from minid.api.schema.volume import volume
from minid.errors import Unsupported

routes = Routes()

LIST_FILTERS = ("dangling", "driver", "label", "name")
PRUNE_FILTERS = ("all", "label", "label!")


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """The body of ``POST /volumes/create``."""

    name: str = ""
    driver: str = "local"
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cluster_volume_spec: Any = None


@routes.get("/volumes")
async def volume_list(call: Call) -> web.StreamResponse:
    volumes = call.services.volumes.list(call.filters(LIST_FILTERS))
    return json_response({"Volumes": [volume(item) for item in volumes], "Warnings": None})


@routes.post("/volumes/create")
async def volume_create(call: Call) -> web.StreamResponse:
    request = read(VolumeRequest, await call.json())
    if request.cluster_volume_spec is not None:
        raise Unsupported("cluster volumes are not implemented: this node is not part of a swarm")
    created = call.services.volumes.create(
        request.name, driver=request.driver or "local", labels=request.labels, options=request.driver_opts
    )
    return json_response(volume(created), status=201)


@routes.post("/volumes/prune")
async def volume_prune(call: Call) -> web.StreamResponse:
    """Anonymous volumes; ``all=true`` among the filters takes named ones too (since API 1.42)."""
    filters = call.filters(PRUNE_FILTERS)
    wants_all = any(value.lower() in ("1", "true") for value in filters.pop("all", ()))
    pruned = await call.services.volumes.prune(all=wants_all or not call.after(1, 42), filters=filters)
    return json_response(
        {"VolumesDeleted": list(pruned.names) or None, "SpaceReclaimed": pruned.reclaimed_bytes}
    )


@routes.get("/volumes/{name}")
async def volume_inspect(call: Call) -> web.StreamResponse:
    return json_response(volume(call.services.volumes.get(call.parameters["name"])))


@routes.delete("/volumes/{name}")
async def volume_delete(call: Call) -> web.StreamResponse:
    await call.services.volumes.remove(call.parameters["name"], force=call.flag("force"))
    return empty_response()
