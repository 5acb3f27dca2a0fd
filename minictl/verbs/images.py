"""images, rmi, tag, history, image prune: what images there are."""

from __future__ import annotations

from minictl import reference, table, units
from minictl.engine import Engine, segment
from minictl.errors import ApiError, ConnectError, Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options
from minictl.verbs.ps import local_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NONE = "<none>"
_HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_HISTORY_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def images(options: Options, arguments: list[str], engine: Engine) -> int:
    filters = list(options["filter"])
    if arguments:
        filters.append(f"reference={arguments[0]}")
    query = {"all": options["all"] or None, "filters": parse_filters(filters)}
    found = engine.call("GET", "/images/json", query) or []
    template = options["format"] or ("" if options["quiet"] else table.config_format("imagesFormat"))
    digests = options["digests"] or ".Digest" in template
    rows = [row for image in found for row in image_rows(image, digests=digests)]
    fields = image_fields(short=not options["no-trunc"])
    if options["quiet"] and not options["format"]:
        table.write("".join(f"{fields['ID'](row)}\n" for row in rows))
        return 0
    columns = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if options["digests"]:
        columns.insert(2, "Digest")
    table.show(rows, fields, _HEADERS, columns, template)
    return 0


def image_rows(image: dict[str, Any], *, digests: bool) -> list[dict[str, Any]]:
    """One row a tag of each repository (and a digest, when those are shown); an unnamed image has one row too."""
    tags: dict[str, list[str]] = {}
    for text in image.get("RepoTags") or []:
        name, _, tag = text.rpartition(":")
        if name and name != _NONE:
            tags.setdefault(name, []).append(tag)
    repo_digests: dict[str, list[str]] = {}
    for text in image.get("RepoDigests") or []:
        name, _, digest = text.partition("@")
        if name and name != _NONE:
            repo_digests.setdefault(name, []).append(digest)
    rows = []
    for name, names in tags.items():
        known = repo_digests.pop(name, [])
        for tag in names:
            for digest in known if digests and known else [_NONE]:
                rows.append({"image": image, "repository": name, "tag": tag, "digest": digest})
    for name, known in repo_digests.items():
        for digest in known if digests else known[:1]:
            rows.append({"image": image, "repository": name, "tag": _NONE, "digest": digest})
    return rows or [{"image": image, "repository": _NONE, "tag": _NONE, "digest": _NONE}]


def image_fields(*, short: bool) -> dict[str, Callable[[Any], Any]]:
    return {
        "ID": lambda r: table.short_id(r["image"]["Id"]) if short else r["image"]["Id"],
        "Repository": lambda r: r["repository"],
        "Tag": lambda r: r["tag"],
        "Digest": lambda r: r["digest"],
        "CreatedSince": lambda r: units.ago(r["image"].get("Created") or 0),
        "CreatedAt": lambda r: local_time(r["image"].get("Created") or 0),
        "Size": lambda r: units.human_size(r["image"].get("Size") or 0, 3),
        "Containers": lambda r: _count(r["image"].get("Containers", -1)),
        "VirtualSize": lambda r: units.human_size(r["image"].get("Size") or 0),
        "SharedSize": lambda r: _size(r["image"].get("SharedSize", -1)),
        "UniqueSize": lambda r: _unique(r["image"]),
    }


def _count(number: int) -> str:
    return "N/A" if number < 0 else str(number)


def _size(size_bytes: int) -> str:
    return "N/A" if size_bytes < 0 else units.human_size(size_bytes)


def _unique(image: dict[str, Any]) -> str:
    shared = image.get("SharedSize", -1)
    return "N/A" if shared < 0 else units.human_size(image.get("Size", 0) - shared)


def remove(options: Options, arguments: list[str], engine: Engine) -> int:
    query = {"force": options["force"] or None, "noprune": options["no-prune"] or None}
    problems = []
    missing = 0
    for name in arguments:
        try:
            answer = engine.call("DELETE", f"/images/{segment(name)}", query)
        except (ApiError, ConnectError) as error:
            problems.append(error.message)
            missing += isinstance(error, ApiError) and error.http_status == 404
            continue
        for entry in answer or []:
            print(
                f"Deleted: {entry['Deleted']}" if entry.get("Deleted") else f"Untagged: {entry['Untagged']}"
            )
    if problems:
        raise Failure("\n".join(problems), 0 if options["force"] and missing == len(problems) else 1)
    return 0


def tag(options: Options, arguments: list[str], engine: Engine) -> int:
    source, target = arguments
    try:
        wanted = reference.parse(target)
    except Failure as error:
        raise Failure(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}'
        ) from None
    if wanted.digest:
        raise Failure("refusing to create a tag with a digest reference")
    engine.call(
        "POST", f"/images/{segment(source)}/tag", {"repo": wanted.name, "tag": wanted.tag or "latest"}
    )
    return 0


def history(options: Options, arguments: list[str], engine: Engine) -> int:
    entries = engine.call("GET", f"/images/{segment(arguments[0])}/history") or []
    short, human = not options["no-trunc"], options["human"]
    fields: dict[str, Callable[[Any], Any]] = {
        "ID": lambda e: table.short_id(e["Id"]) if short and e["Id"] != "<missing>" else e["Id"],
        "CreatedAt": lambda e: _rfc3339(e["Created"]),
        "CreatedSince": lambda e: units.ago(e["Created"]) if human else _rfc3339(e["Created"]),
        "CreatedBy": lambda e: _created_by(e["CreatedBy"], short),
        "Size": lambda e: units.human_size(e["Size"], 3) if human else str(e["Size"]),
        "Comment": lambda e: e["Comment"],
    }
    if options["quiet"] and not options["format"]:
        table.write("".join(f"{fields['ID'](entry)}\n" for entry in entries))
        return 0
    table.show(
        entries,
        fields,
        _HISTORY_HEADERS if human else _HISTORY_HEADERS | {"CreatedSince": "CREATED AT"},
        ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
        options["format"],
    )
    return 0


def _created_by(text: str, short: bool) -> str:
    text = text.replace("\t", " ")
    return table.ellipsis(text, 45) if short else text


def _rfc3339(seconds: int) -> str:
    import time

    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
    return text[:-5] + "Z" if text.endswith("+0000") else f"{text[:-2]}:{text[-2:]}"


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    warning = "This will remove all dangling images."
    if options["all"]:
        warning = "This will remove all images without at least one container associated to them."
    if not options["force"] and not prompt.agreed(warning):
        raise Failure("image prune has been cancelled")
    filters = [*options["filter"], f"dangling={'false' if options['all'] else 'true'}"]
    answer = engine.call("POST", "/images/prune", {"filters": parse_filters(filters)})
    text = ""
    if answer.get("ImagesDeleted"):
        lines = [
            f"untagged: {entry['Untagged']}" if entry.get("Untagged") else f"deleted: {entry['Deleted']}"
            for entry in answer["ImagesDeleted"]
        ]
        text = "Deleted Images:\n" + "\n".join(lines) + "\n\n"
    table.write(f"{text}Total reclaimed space: {units.human_size(answer.get('SpaceReclaimed') or 0)}\n")
    return 0


_FORMAT = ("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template")

IMAGES = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    images,
    (
        ("all", "a", "bool", "Show intermediate images too"),
        ("digests", "", "bool", "Show digests"),
        ("filter", "f", "list", "Show only what fits (dangling=true, label=key=value, …)"),
        _FORMAT,
        ("no-trunc", "", "bool", "Don't shorten IDs"),
        ("quiet", "q", "bool", "Print only IDs"),
    ),
    0,
    1,
)
RMI = Command(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    remove,
    (
        ("force", "f", "bool", "Remove it even if containers or other tags use it"),
        ("no-prune", "", "bool", "Keep untagged parents"),
    ),
    1,
)
TAG = Command("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image one more name", tag, (), 2, 2)
HISTORY = Command(
    "history",
    "[OPTIONS] IMAGE",
    "Show how an image was made",
    history,
    (
        _FORMAT,
        ("human", "H", "bool", "Print sizes and dates for people", True),
        ("no-trunc", "", "bool", "Don't shorten anything"),
        ("platform", "", "string", "Accepted and ignored: minid keeps one platform of an image"),
        ("quiet", "q", "bool", "Print only IDs"),
    ),
    1,
    1,
)
PRUNE = Command(
    "image prune",
    "[OPTIONS]",
    "Remove unused images",
    prune,
    (
        ("all", "a", "bool", "Remove all that no container uses, not only untagged ones"),
        ("filter", "", "list", "Remove only what fits (until=24h, label=…)"),
        ("force", "f", "bool", "Don't ask"),
    ),
    0,
    0,
)
