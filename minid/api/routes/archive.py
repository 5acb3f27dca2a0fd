"""Files in and out of a container: archive (``docker cp``) and export."""

import base64
from collections.abc import AsyncIterator

from aiohttp import web

from minid.api.answers import empty_response, json_line
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema.path import path_stat
from minid.containers.archive import PathStat
from minid.errors import InvalidParameter

routes = Routes()

TAR = "application/x-tar"
STAT_HEADER = "X-Docker-Container-Path-Stat"


def wanted_path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")
    return path


def stat_header(stat: PathStat) -> dict[str, str]:
    return {STAT_HEADER: base64.b64encode(json_line(path_stat(stat)).rstrip()).decode()}


@routes.add("HEAD", "/containers/{id}/archive")
async def container_archive_info(call: Call) -> web.StreamResponse:
    stat = await call.services.containers.files.stat(call.parameters["id"], wanted_path(call))
    return web.Response(headers=stat_header(stat))


@routes.get("/containers/{id}/archive", stoppable=True)
async def container_archive(call: Call) -> web.StreamResponse:
    stat, pieces = await call.services.containers.files.get(call.parameters["id"], wanted_path(call))
    return await send_tar(call, pieces, stat_header(stat))


@routes.add("PUT", "/containers/{id}/archive", stoppable=True)
async def put_container_archive(call: Call) -> web.StreamResponse:
    await call.services.containers.files.put(
        call.parameters["id"],
        wanted_path(call),
        call.stream(),
        no_overwrite_dir_non_dir=call.flag("noOverwriteDirNonDir"),
        copy_uidgid=call.flag("copyUIDGID"),
    )
    return empty_response(200)


@routes.get("/containers/{id}/export", stoppable=True)
async def container_export(call: Call) -> web.StreamResponse:
    pieces = await call.services.containers.files.export(call.parameters["id"])
    return await send_tar(call, pieces, {})


async def send_tar(call: Call, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """A failure half-way breaks the connection off: an archive that ends early must not look whole."""
    response = await call.start(TAR, more=headers)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response
