"""builder prune: getting rid of what builds keep to be faster the next time."""

from __future__ import annotations

from minictl import table, units
from minictl.engine import Engine
from minictl.errors import Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    warning = "This will remove all dangling build cache."
    if options["all"]:
        warning = "This will remove all build cache."
    if not options["force"] and not prompt.agreed(warning):
        raise Failure("builder prune has been cancelled")
    answer = engine.call(
        "POST",
        "/build/prune",
        {
            "all": options["all"] or None,
            "filters": parse_filters(options["filter"]),
            "keep-storage": options["keep-storage"] or None,
        },
    )
    deleted = answer.get("CachesDeleted") or []
    text = "Deleted build cache objects:\n" + "\n".join(deleted) + "\n\n" if deleted else ""
    table.write(f"{text}Total reclaimed space: {units.human_size(answer.get('SpaceReclaimed') or 0)}\n")
    return 0


PRUNE = Command(
    "builder prune",
    "[OPTIONS]",
    "Remove build cache",
    prune,
    (
        ("all", "a", "bool", "Remove all that no build uses just now, not only what nothing refers to"),
        ("filter", "", "list", "Remove only what fits (until=24h, type=exec.cachemount, …)"),
        ("force", "f", "bool", "Don't ask"),
        ("keep-storage", "", "bytes", "Keep so much of it"),
    ),
    0,
    0,
)
