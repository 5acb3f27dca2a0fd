"""build: the context goes to the daemon, the daemon's steps come back, and the image goes where it is wanted."""

from __future__ import annotations

import os
import sys

from minictl import jsontext, registry_auth, streams, terminal, units
from minictl.build import context, output, report, request, session
from minictl.build.exchange import Exchange
from minictl.build.plain import Plain, Quiet
from minictl.build.steps import Build
from minictl.errors import ApiError, Failure, UsageError
from minictl.flags import Command, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minictl.build.agent import Agents
    from minictl.build.context import Context
    from minictl.build.steps import Display
    from minictl.build.tree import Tree
    from minictl.engine import Engine
    from minictl.flags import Options

_TAR = {"Content-Type": "application/x-tar"}
_PROGRESS = ("auto", "plain", "tty", "quiet", "rawjson")


def build(options: Options, arguments: list[str], engine: Engine) -> int:
    tags = request.checked_tags(options["tag"])
    request.check_cache_targets(options["cache-to"])
    _check_attestations(options)
    wanted = output.outputs(options)
    only_check = options["check"] or options["call"] == "check"
    if options["call"] not in ("", "build", "check"):
        raise UsageError(f"--call {options['call']} is not supported: build or check")
    chosen = context.choose(arguments[0], options["file"])
    query = request.query(options, chosen, engine.host, output.names_to_build(wanted, tags))
    _forget(options["iidfile"])
    engine.settle_version()
    if only_check and not engine.is_minid:
        raise Failure("--check needs minid: this daemon would build the image")
    known = None if any(one.keeps_image for one in wanted) or only_check else output.known_images(engine)
    display = _display(options, to_stdout=any(one.to_stdout for one in wanted))
    if only_check:
        query["check"] = True
    if engine.is_minid:
        query["q"] = None  # with the steps, a failure has the output that it came after
    if engine.is_minid or not options["quiet"]:
        query["progress"] = "steps"
    made = Build(display)
    try:
        _run(options, engine, query, chosen, made, raw=options["progress"] == "rawjson")
    except ApiError as error:
        raise Failure(report.with_origin(error.message, chosen)) from None
    finally:
        display.close()
    if only_check:
        return _checked(made, chosen)
    if made.failure is not None:
        text = report.failure_text(made, chosen, with_log=not isinstance(display, Plain))
        if options["quiet"] and made.said:
            text = f"{made.said.rstrip()}\n{text}"
        raise Failure(text, report.exit_status(made.failure))
    if not made.image_id:
        made.image_id = _last_id(made.said)
    output.deliver(engine, made.image_id, wanted, tags, known)
    _tell(options, made, tags, kept=known is None)
    return 0


def _run(
    options: Options, engine: Engine, query: dict[str, Any], chosen: Context, made: Build, *, raw: bool
) -> None:
    """The request with all that belongs to it; `made` takes the answer. Raises ApiError, ConnectError, Failure."""
    agents: Agents | None = None
    try:
        if session.wanted(options):
            query["session"] = session.begin(
                options, engine, lambda path, name, tree: _send_further(engine, made, path, name, tree)
            )
            if options["ssh"]:
                from minictl.build.agent import Agents

                agents = Agents(engine, query["session"], session.ssh_sources(options["ssh"]))
        headers = {"X-Registry-Config": registry_auth.header_for_all()}
        body: Iterator[bytes] = iter(())
        sending = None
        if chosen.body is not None:
            headers |= _TAR
            body = _packed(chosen.body) if options["compress"] else chosen.body
            sending = _Sending(made, "[internal] load build context", chosen.tree)
        connection, head = engine.begin("/build", query, headers)
        exchange = Exchange(
            engine, connection, head, body, attendant=agents, on_sent=sending, on_tick=made.tick
        )
        exchange.run(_raw(made) if raw else made.feed)
        made.finish()
    finally:
        if agents:
            agents.close()


def _send_further(engine: Engine, made: Build, path: str, name: str, tree: Tree) -> None:
    """One more context (`--build-context`); its answer has nothing in it."""
    connection, head = engine.begin(path, {"name": name}, _TAR)
    sending = _Sending(made, f"[internal] load build context {name}", tree)
    Exchange(engine, connection, head, tree.stream(), on_sent=sending, on_tick=made.tick).run(
        lambda data: None
    )


class _Sending:
    """Shows the sending of a context as a step of its own."""

    def __init__(self, made: Build, title: str, tree: Tree | None) -> None:
        self._made = made
        self._step = made.own_step(title)
        self._tree = tree

    def __call__(self, total: int, finished: bool) -> None:
        details = f"sending {units.human_size(total)}"
        if self._tree and self._tree.skipped:
            count = len(self._tree.skipped)
            details += f", without {count} socket{'s' if count > 1 else ''}"
        if finished:
            self._made.update(self._step, details, "done")
        else:
            self._made.note(self._step, details)


def _display(options: Options, *, to_stdout: bool) -> Display:
    kind = options["progress"]
    if kind not in _PROGRESS:
        raise UsageError(f"--progress {kind}: expected one of {', '.join(_PROGRESS)}")
    if options["quiet"] or kind in ("quiet", "rawjson"):
        return Quiet()
    if kind == "auto":
        kind = os.environ.get("BUILDKIT_PROGRESS") or "auto"
    if kind == "tty" or (kind == "auto" and terminal.is_terminal(2)):
        from minictl.build.screen import Screen

        return Screen()
    return Plain(2, 2 if to_stdout else 1)


def _raw(made: Build) -> Any:
    """Takes the daemon's messages as `Build.feed` does, and prints them as they are."""

    def take(data: bytes) -> None:
        streams.write_all(2, data)
        made.feed(data)

    return take


def _packed(body: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    packer = zlib.compressobj(wbits=31)
    for part in body:
        yield packer.compress(part)
    yield packer.flush()


def _checked(made: Build, chosen: Context) -> int:
    if made.failure is not None:
        raise Failure(report.failure_text(made, chosen, with_log=False))
    if not made.warnings:
        print("Check complete, no warnings found.")
        return 0
    print(report.warning_text(made.warnings, chosen))
    count = len(made.warnings)
    print(f"Check complete, {count} warning{'s have' if count > 1 else ' has'} been found!")
    return 1


def _tell(options: Options, made: Build, tags: list[str], *, kept: bool) -> None:
    """The id in the files that want it, on stdout with -q; else what was made, on stderr."""
    if options["iidfile"]:
        _write(options["iidfile"], made.image_id)
    if options["metadata-file"]:
        _write(options["metadata-file"], jsontext.dumps(_metadata(made, tags)) + "\n")
    if options["quiet"]:
        print(made.image_id)
        return
    if options["progress"] == "rawjson" or made.said:  # docker's daemon has said it itself
        return
    lines = [report.warning_summary(made.warnings)]
    if kept:
        lines.append(f"built {made.image_id}" + "".join(f"\nnamed {name}" for name in tags))
    text = "\n".join(line for line in lines if line)
    if text:
        sys.stdout.flush()
        streams.write_all(2, f"{text}\n".encode("utf-8", "replace"))


def _metadata(made: Build, tags: list[str]) -> dict[str, Any]:
    from minictl import reference

    found = {"containerimage.config.digest": made.image_id, "containerimage.digest": made.image_id}
    names = [reference.parse(name) for name in tags]
    if names:
        found["image.name"] = ",".join(f"{name.name}:{name.tag or 'latest'}" for name in names)
    return found


def _last_id(said: str) -> str:
    """The image as a daemon tells of it that sends no `aux` (docker's before 17.06)."""
    for line in reversed(said.splitlines()):
        if line.startswith(("sha256:", "Successfully built ")):
            return line.rpartition(" ")[2]
    raise Failure("the daemon ended the build without saying which image it made")


def _check_attestations(options: Options) -> None:
    for name in ("provenance", "sbom"):
        text = options[name]
        try:
            asked_for = bool(text) and truth(text)
        except ValueError:
            asked_for = text != "mode=disabled" and "disabled=true" not in text
        if asked_for:
            raise UsageError(f"--{name} {text} is not supported: images are made without attestations")


def _forget(path: str) -> None:
    """An id of an earlier build must not be taken for this one's."""
    if path:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Failure(
                f"removing image ID file: {path}: {(error.strerror or str(error)).lower()}"
            ) from None


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}") from None


BUILD = Command(
    "build",
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    build,
    (
        ("add-host", "", "list", "Add a line to /etc/hosts while building (host:ip)"),
        ("allow", "", "strings", "Allow what is otherwise refused (network.host, security.insecure)"),
        ("build-arg", "", "list", "Set a build-time variable (NAME=value, or NAME to pass your own)"),
        (
            "build-context",
            "",
            "list",
            "More files to copy from (NAME=DIRECTORY, NAME=docker-image://IMAGE, NAME=URL)",
        ),
        ("builder", "", "string", "Accepted and ignored: the daemon is the only builder"),
        ("cache-from", "", "strings", "Images to take cached layers from"),
        ("cache-to", "", "list", "Where the cache goes: only type=inline, into the image"),
        ("call", "", "string", "What to do: build or check"),
        ("cgroup-parent", "", "string", "Parent cgroup of the containers of RUN"),
        ("check", "", "bool", "Only look for mistakes in the Dockerfile"),
        ("compress", "", "bool", "Send the context compressed by gzip"),
        ("cpu-period", "", "int", "CFS period in microseconds"),
        ("cpu-quota", "", "int", "CFS quota in microseconds"),
        ("cpu-shares", "c", "int", "CPU weight relative to other containers"),
        ("cpuset-cpus", "", "string", "CPUs it may run on (0-3, 0,1)"),
        ("cpuset-mems", "", "string", "Memory nodes it may use (0-3, 0,1)"),
        ("disable-content-trust", "", "bool", "Accepted and ignored, as docker's", True),
        ("file", "f", "string", "Dockerfile, - for STDIN (default: PATH/Dockerfile)"),
        ("force-rm", "", "bool", "Remove intermediate containers also after a failure"),
        ("iidfile", "", "string", "Write the image's ID to this file"),
        ("isolation", "", "string", "Isolation technology"),
        ("label", "", "list", "Set a label of the image (key=value)"),
        ("load", "", "bool", "Keep the image here (the default without --output)"),
        ("memory", "m", "bytes", "Memory limit of RUN"),
        ("memory-swap", "", "swap", "Limit of memory plus swap, -1 for unlimited swap"),
        ("metadata-file", "", "string", "Write what was built to this file, as JSON"),
        ("network", "", "string", "Network of RUN: default, none, host, or a network's name"),
        ("no-cache", "", "bool", "Do everything anew"),
        ("no-cache-filter", "", "strings", "Do these stages anew"),
        (
            "output",
            "o",
            "list",
            "Where the result goes (DIRECTORY, -, or type=local|tar|oci|docker|registry|image,dest=…)",
        ),
        ("platform", "", "string", "Platform to build for (os[/arch[/variant]])"),
        ("progress", "", "string", "How to show it: auto, plain, tty, quiet or rawjson", "auto"),
        ("provenance", "", "string", "Only false: images are made without attestations"),
        ("pull", "", "bool", "Ask the registry for a newer base image"),
        ("push", "", "bool", "Push the image when it is built"),
        ("quiet", "q", "bool", "Print only the image's ID"),
        ("rm", "", "bool", "Remove intermediate containers after success", True),
        ("sbom", "", "string", "Only false: images are made without attestations"),
        (
            "secret",
            "",
            "list",
            "A secret for RUN --mount=type=secret (id=NAME,src=PATH or id=NAME,env=VARIABLE)",
        ),
        ("security-opt", "", "strings", "Security options of RUN"),
        ("shm-size", "", "bytes", "Size of /dev/shm"),
        ("squash", "", "bool", "Make one layer of all that the build adds"),
        ("ssh", "", "list", "An SSH agent for RUN --mount=type=ssh (default or NAME[=SOCKET|KEY[,KEY]])"),
        ("tag", "t", "list", "Name of the image, and optionally a tag (name:tag)"),
        ("target", "", "string", "Stage to build"),
        ("ulimit", "", "list", "Set a resource limit (type=soft[:hard])"),
    ),
    1,
    1,
)
