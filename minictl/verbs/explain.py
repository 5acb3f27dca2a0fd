"""explain: how an image's name is read, and where it would be pulled from and pushed to."""

from __future__ import annotations

import sys

from minictl import jsontext
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def explain(options: Options, arguments: list[str], engine: Engine) -> int:
    if options["format"] not in ("", "json"):
        raise Failure(f"--format {options['format']}: only json is known")
    try:
        told = engine.call("GET", f"/minid/images/{segment(arguments[0])}/explain")
    except ApiError as error:
        if error.http_status == 404 and "page not found" in error.message:
            raise Failure("explain is minid's own: this daemon is not minid, or an older one") from None
        raise
    sys.stdout.write(jsontext.dumps(told) + "\n" if options["format"] else _shown(told))
    return 0


def _shown(told: dict[str, Any]) -> str:
    rows = [
        ("name", told["Name"]),
        ("is", told["Canonical"]),
        ("registry", told["Domain"]),
        ("repository", told["Path"]),
        *([("tag", told["Tag"])] if told["Tag"] else []),
        *([("digest", told["Digest"])] if told["Digest"] else []),
        ("here", told["ImageId"] or "no"),
        ("rule", told["Rule"]),
    ]
    text = "".join(f"{name + ':':<12}{value}\n" for name, value in rows)
    for number, host in enumerate(told["Hosts"], 1):
        label = "asked:" if number == 1 else ""
        text += f"{label:<12}{number}. {host['Url']} ({', '.join(host['Capabilities']) or 'nothing'})\n"
        for line in _details(host):
            text += f"{'':<15}{line}\n"
    return text + f"{'pushed to:':<12}{told['Push'] or 'nobody: no host has the capability push'}\n"


def _details(host: dict[str, Any]) -> list[str]:
    lines = []
    if host["SkipVerify"]:
        lines.append("its certificate is not verified")
    if host["Ca"]:
        lines.append(f"CA: {', '.join(host['Ca'])}")
    if host["Client"]:
        lines.append(f"client certificate: {', '.join(host['Client'])}")
    if host["Header"]:
        lines.append(f"headers: {', '.join(host['Header'])}")
    if not host["Own"]:
        lines.append("the registry's credentials are not shown to it")
    return lines


EXPLAIN = Command(
    "explain",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Tell how an image's name is read, and where it is pulled from and pushed to",
    explain,
    (("format", "", "string", "json: one JSON object"),),
    1,
    1,
)
