"""registry test: what the daemon sees when it talks to a registry, step by step."""

from __future__ import annotations

import sys

from minictl import jsontext, registry_auth
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def test(options: Options, arguments: list[str], engine: Engine) -> int:
    name = arguments[0].partition("://")[2] or arguments[0]
    name = name.rstrip("/").removesuffix("/v2")
    host = name.partition("/")[0]
    try:
        response = engine.request(
            "GET",
            f"/minid/registries/{segment(name)}/test",
            {"push": "0" if options["no-push"] else "1"},
            headers={"X-Registry-Auth": registry_auth.header_for(host)},
        )
    except ApiError as error:
        if error.http_status == 404:
            raise Failure("registry test is minid's own: this daemon is not minid, or an older one") from None
        raise
    if options["format"] not in ("", "json"):
        raise Failure(f"--format {options['format']}: only json is known")
    failed = False
    pending = b""
    for part in response.parts():
        pending += part
        *lines, pending = pending.split(b"\n")
        for line in lines:
            step = jsontext.loads(line)
            failed = failed or step["Result"] == "failed"
            sys.stdout.write(line.decode() + "\n" if options["format"] else _shown(step))
            sys.stdout.flush()
    engine.release(response)
    return 1 if failed else 0


def _shown(step: dict[str, Any]) -> str:
    """`ok      TCP    connected to …`, and below it the rule that applied and what to change."""
    result = step["Result"].upper() if step["Result"] == "failed" else step["Result"]
    text = f"{result:<8}{step['Step']:<7}{step['Detail']}\n"
    if step["Rule"]:
        text += f"{'':<15}rule: {step['Rule']}\n"
    if step["Advice"]:
        text += f"{'':<15}what to do: {step['Advice']}\n"
    return text


TEST = Command(
    "test",
    "[OPTIONS] HOST[:PORT][/REPOSITORY[:TAG]]",
    "Try a registry step by step, as the daemon sees it",
    test,
    (
        ("format", "", "string", "json: one JSON object a step"),
        ("no-push", "", "bool", "Don't try whether the repository can be pushed to"),
    ),
    1,
    1,
)
