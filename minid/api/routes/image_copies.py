"""Copying images between daemons and registries: extensions (docs/compatibility.md, docs/registries.md)."""

from collections.abc import Callable

from aiohttp import web

from minid.api.answers import json_response
from minid.api.call import Call
from minid.api.progress import stream_progress
from minid.api.registry_auth import decode_registry_auth
from minid.api.routes.archive import send_tar
from minid.api.routing import Routes
from minid.api.schema import image as image_schema
from minid.errors import InvalidParameter
from minid.images.digest import is_digest
from minid.images.model import Progress

routes = Routes()

SOURCE_AUTH = "X-Registry-Auth-Source"
LAYERS_MAX = 4096


@routes.post("/minid/images/copy", stoppable=True)
async def image_copy(call: Call) -> web.StreamResponse:
    """Copy ``source`` (an image here, or ``registry://…``) to ``destination`` (``registry://…``); ``all`` platforms."""
    auth = decode_registry_auth(call.request.headers.get("X-Registry-Auth", ""))
    source_auth = decode_registry_auth(call.request.headers.get(SOURCE_AUTH, ""))

    async def work(report: Callable[[Progress], None]) -> None:
        await call.services.images.copies.to_registry(
            call.text("source"),
            call.text("destination"),
            source_auth=source_auth,
            auth=auth,
            platform=call.text("platform"),
            all_platforms=call.flag("all"),
            progress=report,
        )

    return await stream_progress(call, work, image_schema.progress)


@routes.get("/minid/images/{name:.*}/contents")
async def image_contents(call: Call) -> web.StreamResponse:
    """What an archive of the image consists of: names and layers."""
    contents = call.services.images.copies.contents(call.parameters["name"])
    layers = [
        {
            "MediaType": descriptor.media_type,
            "Digest": descriptor.digest,
            "Size": descriptor.size_bytes,
            "DiffId": diff_id,
        }
        for descriptor, diff_id in contents.layers
    ]
    return json_response({"Id": contents.image_id, "Names": list(contents.names), "Layers": layers})


@routes.post("/minid/images/missing")
async def images_missing(call: Call) -> web.StreamResponse:
    """Of ``Layers`` ([{Digest, DiffId}]), the digests of those that are not here."""
    layers = _list(await call.json(), "Layers")
    pairs: list[tuple[str, str]] = []
    for layer in layers:
        if not isinstance(layer, dict):
            raise InvalidParameter("Layers must be a list of objects")
        digest, diff_id = str(layer.get("Digest")), str(layer.get("DiffId") or "")
        if not is_digest(digest) or (diff_id and not is_digest(diff_id)):
            raise InvalidParameter("Layers: each must have a Digest, and may have a DiffId")
        pairs.append((digest, diff_id))
    return json_response({"Missing": call.services.images.copies.missing(pairs)})


@routes.post("/minid/images/{name:.*}/save", stoppable=True)
async def image_save(call: Call) -> web.StreamResponse:
    """As GET /images/{name}/get: ``As`` is the image's name in the archive, ``Without`` the layers left out."""
    body = await call.json(optional=True)
    without = _list(body, "Without")
    called = body.get("As") or ""
    if not isinstance(called, str) or not all(is_digest(item) for item in without):
        raise InvalidParameter("As must be a name, and Without a list of digests")
    left_out = frozenset(str(item) for item in without)
    pieces = call.services.images.copies.save(call.parameters["name"], called=called, without=left_out)
    return await send_tar(call, pieces, {})


def _list(body: dict[str, object], key: str) -> list[object]:
    value = body.get(key) or []
    if not isinstance(value, list) or len(value) > LAYERS_MAX:
        raise InvalidParameter(f"{key} must be a list of at most {LAYERS_MAX}")
    return value
