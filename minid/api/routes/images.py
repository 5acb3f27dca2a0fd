"""Images: pull, push, list, inspect, history, tag, delete."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from minid.api.answers import empty_response, json_response
from minid.api.call import Call
from minid.api.progress import stream_progress
from minid.api.registry_auth import decode_registry_auth, read_auth
from minid.api.routes.archive import send_tar
from minid.api.routing import Routes
from minid.api.schema import container as container_schema
from minid.api.schema import image as schema
from minid.containers.model import Container
from minid.errors import InvalidParameter, Unsupported
from minid.images.fetching import checked_url, fetch
from minid.images.gc_plan import Policy
from minid.images.local import Changes
from minid.images.model import Progress
from minid.images.reference import parse

routes = Routes()

PRUNE_FILTERS = ("dangling", "label", "label!", "until")
LIST_FILTERS = ("before", "dangling", "label", "reference", "since", "until")


def not_yet(what: str) -> Unsupported:
    return Unsupported(f"{what} is not implemented yet")


@routes.post("/images/create", stoppable=True)
async def image_create(call: Call) -> web.StreamResponse:
    """Pull. Stops when the client goes away; what was downloaded is kept for the next pull."""
    name = call.text("fromImage")
    if not name and call.text("fromSrc"):
        return await image_import(call)
    if not name:
        raise InvalidParameter("fromImage is needed: the name of the image to pull")
    auth = decode_registry_auth(call.request.headers.get("X-Registry-Auth", ""))
    tag = call.text("tag")
    all_tags = not tag and parse(name).is_name_only  # clients add ":latest" themselves

    async def work(report: Callable[[Progress], None]) -> None:
        await call.services.images.pull(
            name, tag=tag, platform=call.text("platform"), auth=auth, all_tags=all_tags, progress=report
        )

    return await stream_progress(call, work, schema.progress)


async def image_import(call: Call) -> web.StreamResponse:
    """An image of the file system in the request's body, or at a URL."""
    place = call.text("fromSrc")
    url = checked_url(place) if place != "-" else None

    async def work(report: Callable[[Progress], None]) -> None:
        stream = call.stream()
        if url is not None:
            report(Progress("", f"Downloading from {url.with_user(None)}"))
            stream = fetch(url, lambda now, total: report(Progress("", "Importing", now, total)))
        image_id = await call.services.images.take_in(
            stream,
            origin=str(url.with_user(None)) if url is not None else "-",
            repository=call.text("repo"),
            tag=call.text("tag"),
            platform=call.text("platform"),
            changes=read_changes(call, call.text("message")),
        )
        report(Progress("", image_id))

    return await stream_progress(call, work, schema.progress)


def read_changes(call: Call, message: str) -> Changes:
    lines = tuple(call.request.query.getall("changes", []))
    return Changes(lines, message, call.text("author"))


@routes.get("/images/json")
async def image_list(call: Call) -> web.StreamResponse:
    images = call.services.images.list(all=call.flag("all"), filters=call.filters(LIST_FILTERS))
    return json_response([schema.summary(image, call.version) for image in images])


@routes.get("/images/search")
async def image_search(call: Call) -> web.StreamResponse:
    raise not_yet("searching a registry")


@routes.get("/images/get", stoppable=True)
async def image_get_all(call: Call) -> web.StreamResponse:
    """Save. Names are repeated, or with commas in between."""
    names = [name for given in call.request.query.getall("names", []) for name in given.split(",") if name]
    return await send_tar(call, call.services.images.save(names), {})


@routes.post("/images/load", stoppable=True)
async def image_load(call: Call) -> web.StreamResponse:
    """Load. Nothing is left of it when the client goes away before the end."""
    quiet = call.flag("quiet")

    async def work(report: Callable[[Progress], None]) -> None:
        def tell(progress: Progress) -> None:
            if not (quiet and progress.id):
                report(progress)

        await call.services.images.load(call.stream(), tell)

    return await stream_progress(call, work, schema.load_progress)


@routes.post("/images/prune")
async def image_prune(call: Call) -> web.StreamResponse:
    pruned = await call.services.images.prune(call.filters(PRUNE_FILTERS))
    deleted = [schema.deleted(item) for item in pruned.deleted]
    return json_response({"ImagesDeleted": deleted or None, "SpaceReclaimed": pruned.reclaimed_bytes})


@routes.post("/minid/images/gc")
async def image_gc(call: Call) -> web.StreamResponse:
    """Remove images by policy, an extension: max-age in seconds, max-size and min-free in bytes, tagged, dry-run."""
    limits = [call.integer(name) for name in ("max-age", "max-size", "min-free")]
    for value in limits:
        if value is not None and value < 0:
            raise InvalidParameter(f"a limit cannot be negative: {value}")
    max_age_s, max_size_bytes, min_free_bytes = limits
    policy = Policy(max_age_s, max_size_bytes, min_free_bytes, call.flag("tagged"))
    report = await call.services.images.collect(
        policy if policy.has_limit else None, dry_run=call.flag("dry-run")
    )
    return json_response(schema.gc_report(report))


@routes.get("/images/{name:.*}/get", stoppable=True)
async def image_get(call: Call) -> web.StreamResponse:
    return await send_tar(call, call.services.images.save([call.parameters["name"]]), {})


@routes.get("/images/{name:.*}/json")
async def image_inspect(call: Call) -> web.StreamResponse:
    services = call.services
    image = services.images.get(call.parameters["name"])
    driver = {"Data": None, "Name": services.info().driver_name}
    return json_response(schema.inspect(image, call.version, graph_driver=driver))


@routes.get("/images/{name:.*}/history")
async def image_history(call: Call) -> web.StreamResponse:
    images = call.services.images
    entries = images.history(images.get(call.parameters["name"]))
    return json_response([schema.history_entry(entry) for entry in entries])


@routes.post("/images/{name:.*}/push", stoppable=True)
async def image_push(call: Call) -> web.StreamResponse:
    """Push one tag, or all of a repository. Stops when the client goes away."""
    auth = decode_registry_auth(call.request.headers.get("X-Registry-Auth", ""))

    async def work(report: Callable[[Progress], None]) -> None:
        await call.services.images.push(
            call.parameters["name"], tag=call.text("tag"), auth=auth, progress=report
        )

    return await stream_progress(call, work, schema.progress)


@routes.post("/images/{name:.*}/tag")
async def image_tag(call: Call) -> web.StreamResponse:
    repository, tag = call.text("repo"), call.text("tag")
    if not repository:
        raise InvalidParameter("invalid reference format: repo is needed")
    call.services.images.tag(call.parameters["name"], f"{repository}:{tag}" if tag else repository)
    return empty_response(201)


@routes.delete("/images/{name:.*}")
async def image_delete(call: Call) -> web.StreamResponse:
    deleted = await call.services.images.delete(
        call.parameters["name"], force=call.flag("force"), prune=not call.flag("noprune")
    )
    return json_response([schema.deleted(item) for item in deleted])


@routes.post("/commit")
async def image_commit(call: Call) -> web.StreamResponse:
    """An image of a container: its image, what it has changed, and its config with that of the body over it."""
    services, message = call.services, call.text("comment")
    body = await call.json(optional=True)

    async def make(container: Container, write: Callable[[int, bool], Awaitable[bool]]) -> str:
        return await services.images.commit(
            container.image_id,
            container_schema.committed_config(container.config, body),
            write,
            repository=call.text("repo"),
            tag=call.text("tag"),
            container_id=container.id,
            changes=read_changes(call, message),
        )

    image_id = await services.containers.files.commit(
        call.text("container"), make, pause=call.flag("pause", default=True), message=message
    )
    return json_response({"Id": image_id}, status=201)


@routes.get("/distribution/{name:.*}/json")
async def distribution_inspect(call: Call) -> web.StreamResponse:
    raise not_yet("inspecting an image in its registry")


@routes.post("/auth")
async def system_auth(call: Call) -> web.StreamResponse:
    """Check credentials. The password stays with the client, and so does the identity token."""
    auth = read_auth(await call.json(), "the credentials")
    token = await call.services.images.registries.log_in(auth)
    return json_response({"IdentityToken": token, "Status": "Login Succeeded"})
