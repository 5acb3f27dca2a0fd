"""pull and push."""

from __future__ import annotations

import sys

from minictl import pulling, reference, registry_auth
from minictl.engine import Engine, segment
from minictl.errors import Failure
from minictl.flags import Command, Options


def pull(options: Options, arguments: list[str], engine: Engine) -> int:
    name = arguments[0]
    wanted = reference.parse(name)
    if not options["all-tags"] and not wanted.tag and not wanted.digest and not options["quiet"]:
        print("Using default tag: latest", flush=True)
    pulling.pull(
        engine, name, platform=options["platform"], quiet=options["quiet"], all_tags=options["all-tags"]
    )
    if options["all-tags"]:
        print(wanted.name)
    else:
        print(
            f"{wanted.name}@{wanted.digest}" if wanted.digest else f"{wanted.name}:{wanted.tag or 'latest'}"
        )
    return 0


def push(options: Options, arguments: list[str], engine: Engine) -> int:
    wanted = reference.parse(arguments[0])
    if options["all-tags"] and (wanted.tag or wanted.digest):
        raise Failure("tag can't be used with --all-tags/-a")
    tag = "" if options["all-tags"] else wanted.tag or "latest"
    if not options["all-tags"] and not wanted.tag and not wanted.digest and not options["quiet"]:
        print("Using default tag: latest", flush=True)
    response = engine.request(
        "POST",
        f"/images/{segment(wanted.name)}/push",
        {"tag": tag},
        headers={"X-Registry-Auth": registry_auth.header_for(wanted.domain)},
    )
    sys.stdout.flush()
    pulling.show_progress(engine, response, None if options["quiet"] else 1)
    if options["quiet"]:
        print(f"{wanted.name}:{tag}" if tag else wanted.name)
    return 0


PULL = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    pull,
    (
        ("all-tags", "a", "bool", "Download all tags of the repository"),
        ("disable-content-trust", "", "bool", "Accepted and ignored, as docker's", True),
        ("platform", "", "string", "Platform of the image (os[/arch[/variant]])"),
        ("quiet", "q", "bool", "Print only the image's name"),
    ),
    1,
    1,
)

PUSH = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    push,
    (
        ("all-tags", "a", "bool", "Upload all tags of the repository"),
        ("disable-content-trust", "", "bool", "Accepted and ignored, as docker's", True),
        ("quiet", "q", "bool", "Print only the image's name"),
    ),
    1,
    1,
)
