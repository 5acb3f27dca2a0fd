"""Containers: from create to delete, without their streams (see ``attach``, ``logs`` and ``archive``)."""

import time
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from minid.api.answers import empty_response, json_line, json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema import container as schema
from minid.containers.model import Container, ListFilter
from minid.errors import InvalidParameter, MinidError, NotFound
from minid.images.rootfs import Rootfs

routes = Routes()

LIST_FILTERS = (
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
)
PRUNE_FILTERS = ("label", "label!", "until")
WAIT_CONDITIONS = ("not-running", "next-exit", "removed")


@routes.get("/containers/json")
async def container_list(call: Call) -> web.StreamResponse:
    wanted = ListFilter(
        all=call.flag("all"),
        limit=call.integer("limit", 0) or 0,
        size=call.flag("size"),
        filters=call.filters(LIST_FILTERS),
    )
    containers = call.services.containers.list(wanted)
    return json_response(await summarize(call, containers, sizes=wanted.size))


async def summarize(call: Call, containers: Iterable[Container], *, sizes: bool) -> list[dict[str, Any]]:
    """The list's elements. An image name that has moved on to another image gives way to the image's ID."""
    services, now_ns = call.services, time.time_ns()
    found: dict[str, str] = {}
    elements = []
    for container in containers:
        name = container.config.image
        if name not in found:
            image = services.images.find(name) if name else None
            found[name] = image.id if image else ""
        elements.append(
            schema.summary(
                container,
                image=name if found[name] == container.image_id else container.image_id,
                now_ns=now_ns,
                joined=services.networking.joined(container),
                sandbox=services.networking.sandbox(container),
                size=await services.containers.files.size(container.id) if sizes else None,
            )
        )
    return elements


@routes.post("/containers/create")
async def container_create(call: Call) -> web.StreamResponse:
    request = schema.create_request(await call.json(), call.text("name"), call.text("platform"))
    created = await call.services.containers.create(request)
    return json_response({"Id": created.id, "Warnings": list(created.warnings)}, status=201)


@routes.get("/containers/{id}/json")
async def container_inspect(call: Call) -> web.StreamResponse:
    services = call.services
    container = services.containers.get(call.parameters["id"])
    return json_response(
        schema.inspect(
            container,
            paths=schema.own_files(container),
            graph_driver=schema.graph_driver(
                container.storage_driver, find_rootfs(call, container), container.state
            ),
            joined=services.networking.joined(container),
            sandbox=services.networking.sandbox(container),
            size=await services.containers.files.size(container.id) if call.flag("size") else None,
            links=services.networking.links.shown(container),
        )
    )


def find_rootfs(call: Call, container: Container) -> Rootfs | None:
    if call.services.rootfs is None:
        return None
    try:
        return call.services.rootfs(container)
    except MinidError:
        return None  # inspect shows a damaged container too


@routes.post("/containers/{id}/start")
async def container_start(call: Call) -> web.StreamResponse:
    await call.services.containers.start(call.parameters["id"])
    return empty_response()


@routes.post("/containers/{id}/stop")
async def container_stop(call: Call) -> web.StreamResponse:
    await call.services.containers.stop(
        call.parameters["id"], timeout_s=call.integer("t"), signal=call.text("signal")
    )
    return empty_response()


@routes.post("/containers/{id}/restart")
async def container_restart(call: Call) -> web.StreamResponse:
    await call.services.containers.restart(
        call.parameters["id"], timeout_s=call.integer("t"), signal=call.text("signal")
    )
    return empty_response()


@routes.post("/containers/{id}/kill")
async def container_kill(call: Call) -> web.StreamResponse:
    await call.services.containers.kill(call.parameters["id"], call.text("signal") or "SIGKILL")
    return empty_response()


@routes.post("/containers/{id}/pause")
async def container_pause(call: Call) -> web.StreamResponse:
    await call.services.containers.pause(call.parameters["id"])
    return empty_response()


@routes.post("/containers/{id}/unpause")
async def container_unpause(call: Call) -> web.StreamResponse:
    await call.services.containers.unpause(call.parameters["id"])
    return empty_response()


@routes.post("/containers/{id}/wait", stoppable=True)
async def container_wait(call: Call) -> web.StreamResponse:
    """The headers say that the wait is registered: clients start the container only then."""
    condition = call.text("condition") or "not-running"
    if condition not in WAIT_CONDITIONS:
        raise InvalidParameter(f'invalid condition: "{condition}": use one of {", ".join(WAIT_CONDITIONS)}')
    waiting = call.services.containers.wait(call.parameters["id"], condition)
    try:
        response = await call.start("application/json")
        result = await waiting
    finally:
        waiting.cancel()
    data: dict[str, Any] = {"StatusCode": result.exit_code}
    if result.error:
        data["Error"] = {"Message": result.error}
    await response.write(json_line(data))
    await response.write_eof()
    return response


@routes.post("/containers/{id}/resize")
async def container_resize(call: Call) -> web.StreamResponse:
    height, width = call.required_integer("h"), call.required_integer("w")
    await call.services.containers.resize(call.parameters["id"], height=height, width=width)
    return empty_response(200)


@routes.get("/containers/{id}/top")
async def container_top(call: Call) -> web.StreamResponse:
    titles, processes = await call.services.containers.top(
        call.parameters["id"], call.text("ps_args") or "-ef"
    )
    return json_response({"Processes": processes, "Titles": titles})


@routes.post("/containers/{id}/rename")
async def container_rename(call: Call) -> web.StreamResponse:
    name = call.text("name").removeprefix("/")
    if not name:
        raise InvalidParameter("Neither old nor new names may be empty")
    await call.services.containers.rename(call.parameters["id"], name)
    return empty_response()


@routes.post("/containers/{id}/update")
async def container_update(call: Call) -> web.StreamResponse:
    body = await call.json()
    ports = schema.port_changes(body)
    if ports.publish_add or ports.publish_rm:
        await call.services.containers.edit_ports(call.parameters["id"], ports.publish_add, ports.publish_rm)
    resources, policy = schema.update_request(body)
    warnings = await call.services.containers.update(call.parameters["id"], resources, policy)
    return json_response({"Warnings": list(warnings) or None})


@routes.get("/containers/{id}/changes")
async def container_changes(call: Call) -> web.StreamResponse:
    changes = await call.services.containers.files.changes(call.parameters["id"])
    return json_response([{"Path": path, "Kind": kind} for path, kind in changes] or None)


@routes.post("/containers/prune")
async def container_prune(call: Call) -> web.StreamResponse:
    names, reclaimed_bytes = await call.services.containers.prune(call.filters(PRUNE_FILTERS))
    return json_response({"ContainersDeleted": list(names) or None, "SpaceReclaimed": reclaimed_bytes})


@routes.delete("/containers/{id}/{alias}")
async def container_unlink(call: Call) -> web.StreamResponse:
    """``docker rm --link`` sends the slash as it is."""
    path = f"{call.parameters['id']}/{call.parameters['alias']}"
    if not call.flag("link"):
        raise NotFound(f"No such container: {path}")
    await call.services.containers.unlink(path)
    return empty_response()


@routes.delete("/containers/{id}")
async def container_delete(call: Call) -> web.StreamResponse:
    if call.flag("link"):
        await call.services.containers.unlink(call.parameters["id"])
        return empty_response()
    await call.services.containers.remove(
        call.parameters["id"], force=call.flag("force"), volumes=call.flag("v")
    )
    return empty_response()
