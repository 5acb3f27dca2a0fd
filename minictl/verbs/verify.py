"""image verify: are images on the disk still what their digests say?"""

from __future__ import annotations

import sys

from minictl import jsontext, registry_auth, table
from minictl.engine import Engine
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def verify(options: Options, arguments: list[str], engine: Engine) -> int:
    if bool(arguments) == bool(options["all"]):
        raise Failure("image verify takes either names of images or --all")
    if options["format"] not in ("", "json"):
        raise Failure(f"--format {options['format']}: only json is known")
    bad = count = 0
    image = ""
    for finding in _findings(options, arguments, engine):
        if finding.get("error"):
            raise Failure(finding["error"])
        count += 1
        good = finding["State"] == "ok" or finding["Repaired"]
        bad += not good and finding["State"] != "unchecked"
        if options["format"]:
            print(jsontext.dumps(finding), flush=True)
            continue
        if good and not finding["Repaired"] and options["quiet"]:
            continue
        if finding["Image"] != image:
            image = finding["Image"]
            print(f"image {table.short_id(image)}")
        sys.stdout.write(_shown(finding))
        sys.stdout.flush()
    if not options["format"]:
        print(f"{count} checked, {bad} missing or damaged" if bad else f"{count} checked, nothing is wrong")
        if bad and not options["repair"]:
            print("what to do: minictl image verify --repair, or pull the image again")
    return 1 if bad else 0


def _findings(options: Options, arguments: list[str], engine: Engine) -> Iterator[dict[str, Any]]:
    query = {
        "name": arguments,
        "all": "1" if options["all"] else None,
        "repair": "1" if options["repair"] else None,
    }
    headers = {"X-Registry-Config": registry_auth.header_for_all()} if options["repair"] else None
    try:
        response = engine.request("POST", "/minid/images/verify", query, headers=headers)
    except ApiError as error:
        if error.http_status == 404 and "page not found" in error.message:
            raise Failure("image verify is minid's own: this daemon is not minid, or an older one") from None
        raise
    pending = b""
    for part in response.parts():
        pending += part
        *lines, pending = pending.split(b"\n")
        for line in lines:
            yield jsontext.loads(line)
    engine.release(response)


def _shown(finding: dict[str, Any]) -> str:
    """`ok        layer blob      0123456789ab  re-hashed`, and what is wrong."""
    state = "repaired" if finding["Repaired"] else finding["State"]
    shown = state.upper() if state in ("missing", "damaged") else state
    text = f"  {shown:<10}{finding['Kind']:<15} {table.short_id(finding['Digest'])}"
    more = "; ".join(part for part in (finding["How"], finding["Detail"]) if part)
    return f"{text}  {more}\n" if more else f"{text}\n"


VERIFY = Command(
    "verify",
    "[OPTIONS] [IMAGE...]",
    "Check images on the disk against their digests",
    verify,
    (
        ("all", "a", "bool", "All images"),
        ("format", "", "string", "json: one JSON object a thing that was checked"),
        ("quiet", "q", "bool", "Only what is missing, damaged or repaired"),
        ("repair", "", "bool", "Fetch what is missing or damaged again, from where the image came from"),
    ),
    0,
)
