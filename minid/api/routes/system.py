"""``/_ping``, ``/version``, ``/info``, ``/events``, ``/system/df``."""

import asyncio
import contextlib
import time
from typing import Any

from aiohttp import web

from minid.api.answers import json_line, json_response
from minid.api.call import Call
from minid.api.routes.containers import summarize
from minid.api.routing import Routes
from minid.api.schema import build as build_schema
from minid.api.schema import event as event_schema
from minid.api.schema import image as image_schema
from minid.api.schema import system as system_schema
from minid.api.schema import volume as volume_schema
from minid.api.schema.naming import parse_timestamp
from minid.containers.model import ListFilter
from minid.errors import InvalidParameter
from minid.events import Event
from minid.volumes.model import Volume

routes = Routes()

PING_HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
DF_TYPES = ("container", "image", "volume", "build-cache")


@routes.get("/_ping")
async def system_ping(call: Call) -> web.StreamResponse:
    return web.Response(text="OK", headers=PING_HEADERS)


@routes.add("HEAD", "/_ping")
async def system_ping_head(call: Call) -> web.StreamResponse:
    return web.Response(headers=PING_HEADERS, content_type="text/plain", charset="utf-8")


@routes.get("/version")
async def system_version(call: Call) -> web.StreamResponse:
    return json_response(system_schema.version(call.services.info()))


@routes.get("/info")
async def system_info(call: Call) -> web.StreamResponse:
    services = call.services
    return json_response(
        system_schema.info(
            services.info(),
            containers=services.containers.list(ListFilter(all=True)),
            images=len(services.images.list()),
            listeners=0,
            now_ns=time.time_ns(),
        )
    )


@routes.get("/minid/doctor")
async def system_doctor(call: Call) -> web.StreamResponse:
    """What this host offers, and what to do about what it lacks: an extension (docs/compatibility.md)."""
    doctor = call.services.doctor
    found = await doctor() if doctor is not None else ()
    return json_response(system_schema.doctor(found))


@routes.get("/events", stoppable=True)
async def system_events(call: Call) -> web.StreamResponse:
    """Past events from ``since`` on, then new ones until ``until`` or the client's going; headers at once."""
    since_ns = parse_timestamp(call.text("since"), "since")
    until_ns = parse_timestamp(call.text("until"), "until")
    filters = call.filters(event_schema.FILTERS)

    def wanted(event: Event) -> bool:
        return (
            event.time_ns >= since_ns
            and not (until_ns and event.time_ns > until_ns)
            and event_schema.wanted(event, filters)
        )

    bus = call.services.events
    subscription = bus.subscribe()
    try:
        past = bus.history(wanted) if since_ns or until_ns else []
        response = await call.start("application/json")
        for event in past:
            await response.write(json_line(event_schema.event(event)))
        seconds = until_ns / 1e9 - time.time() if until_ns else None
        if seconds is None or seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for event in subscription:
                        if wanted(event):
                            await response.write(json_line(event_schema.event(event)))
        await response.write_eof()
        return response
    finally:
        subscription.close()


@routes.get("/system/df")
async def system_data_usage(call: Call) -> web.StreamResponse:
    services = call.services
    types = call.request.query.getall("type", []) or list(DF_TYPES)
    for kind in types:
        if kind not in DF_TYPES:
            raise InvalidParameter(f"unknown object type: {kind}: use one of {', '.join(DF_TYPES)}")
    data: dict[str, Any] = {}
    containers = services.containers.list(ListFilter(all=True))
    if "image" in types:
        images = services.images.list()
        users: dict[str, int] = {}
        for container in containers:
            users[container.image_id] = users.get(container.image_id, 0) + 1
        data["LayersSize"], shared = services.images.usage()
        data["Images"] = [
            image_schema.summary(
                image,
                call.version,
                containers=users.get(image.id, 0),
                shared_bytes=shared.get(image.id, 0),
            )
            for image in images
        ]
    if "container" in types:
        data["Containers"] = await summarize(call, containers, sizes=True)
    if "volume" in types:
        data["Volumes"] = [
            volume_schema.volume(volume, await volume_usage(call, volume))
            for volume in services.volumes.list()
        ]
    if "build-cache" in types:
        data["BuildCache"] = [build_schema.cache_record(record) for record in await services.builds.records()]
    return json_response(data)


async def volume_usage(call: Call, volume: Volume) -> tuple[int, int]:
    """Bytes, and the number of containers that have it."""
    volumes = call.services.volumes
    return await volumes.size(volume.name), len(volumes.users(volume.name))
