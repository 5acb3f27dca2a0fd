"""A container's streams: attach, logs, and exec."""

from collections.abc import AsyncGenerator, Mapping
from urllib.parse import quote_plus

from aiohttp import web

from minid.api.answers import empty_response, json_response
from minid.api.call import Call
from minid.api.routing import Routes
from minid.api.schema import exec as exec_schema
from minid.api.schema.naming import fixed_timestamp, parse_timestamp, read
from minid.api.stream import content_type, frame, hijack, send_batched
from minid.containers.model import AttachOptions, Client, ExecConfig, LogOptions
from minid.errors import InvalidParameter

routes = Routes()


def attach_options(call: Call, *, framed: bool) -> AttachOptions:
    """What the query of an attach asks for."""
    return AttachOptions(
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        stream=call.flag("stream"),
        logs=call.flag("logs"),
        detach_keys=call.text("detachKeys"),
        framed=framed,
    )


@routes.post("/containers/{id}/attach")
async def container_attach(call: Call) -> web.StreamResponse:
    await call.body(4096)  # clients send none; what follows it is the container's input
    containers = call.services.containers
    options = attach_options(call, framed=True)
    container = containers.check_attach(call.parameters["id"], options)

    async def hand_over(client: Client) -> None:
        await containers.attach(container.id, options, client)

    running = container.state.running
    return await hijack(call, tty=container.config.tty, hand_over=hand_over, output_at_once=running)


@routes.get("/containers/{id}/logs", stoppable=True)
async def container_logs(call: Call) -> web.StreamResponse:
    containers = call.services.containers
    container = containers.get(call.parameters["id"])
    options = LogOptions(
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        follow=call.flag("follow"),
        since_ns=parse_timestamp(call.text("since"), "since"),
        until_ns=parse_timestamp(call.text("until"), "until"),
        tail=parse_tail(call.text("tail")),
    )
    if not (options.stdout or options.stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tty, timestamps, details = container.config.tty, call.flag("timestamps"), call.flag("details")

    entries = containers.logs(container.id, options)  # may refuse, while that still is an HTTP error

    async def pieces() -> AsyncGenerator[bytes, None]:
        async for entry in entries:
            data = entry.data
            if details:
                data = detail_text(entry.attributes).encode() + b" " + data
            if timestamps:
                data = f"{fixed_timestamp(entry.time_ns)} ".encode() + data
            yield data if tty else frame(entry.stream, data)

    response = await call.start(content_type(call, tty))
    await send_batched(response, pieces())
    await response.write_eof()
    return response


def detail_text(attributes: Mapping[str, str]) -> str:
    """``a=1,b=2``: the labels and variables that ``--log-opt`` chose, escaped as in a query."""
    return ",".join(f"{quote_plus(name)}={quote_plus(attributes[name])}" for name in sorted(attributes))


def parse_tail(text: str) -> int | None:
    """A number of lines; "all", nothing, and what is no number are all lines, as in dockerd."""
    return int(text) if text.isascii() and text.isdigit() else None


@routes.post("/containers/{id}/exec")
async def container_exec(call: Call) -> web.StreamResponse:
    config = read(ExecConfig, await call.json())
    if not config.cmd:
        raise InvalidParameter("No exec command specified")
    containers = call.services.containers
    return json_response(
        {"Id": containers.execs.create(containers.get(call.parameters["id"]), config)}, status=201
    )


@routes.post("/exec/{id}/start")
async def exec_start(call: Call) -> web.StreamResponse:
    execs, exec_id = call.services.containers.execs, call.parameters["id"]
    body = {key.lower(): value for key, value in (await call.json(optional=True)).items()}
    detach, tty, size = body.get("detach") or False, body.get("tty") or False, body.get("consolesize")
    if not isinstance(detach, bool) or not isinstance(tty, bool):
        raise InvalidParameter("Detach and Tty must be true or false")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(n) is int and 0 <= n < 65536 for n in size)
    ):
        raise InvalidParameter("ConsoleSize must be a list of two numbers, height and width")
    if size is not None and not tty:
        raise InvalidParameter("ConsoleSize is only for an exec with a TTY")
    console_size = (size[0], size[1]) if size else None
    execs.check_start(exec_id)
    if detach:
        await execs.start(exec_id, None, console_size)
        return empty_response(200)

    async def hand_over(client: Client) -> None:
        await execs.start(exec_id, client, console_size)

    return await hijack(call, tty=tty, hand_over=hand_over, output_at_once=True)


@routes.post("/exec/{id}/resize")
async def exec_resize(call: Call) -> web.StreamResponse:
    height, width = call.required_integer("h"), call.required_integer("w")
    await call.services.containers.execs.resize(call.parameters["id"], height=height, width=width)
    return empty_response(200)


@routes.get("/exec/{id}/json")
async def exec_inspect(call: Call) -> web.StreamResponse:
    return json_response(exec_schema.inspect(call.services.containers.execs.get(call.parameters["id"])))
