"""What is said at the end of a build: where and why it failed, the mistakes that the daemon warns of."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.build.context import Context
    from minictl.build.steps import Build

_LINES_SHOWN = 20
_RULE = "--------------------"


def failure_text(build: Build, context: Context, *, with_log: bool) -> str:
    """The failing step, its last output (`with_log`), the Dockerfile's line, and the daemon's own words."""
    assert build.failure is not None
    parts = []
    step = build.failed_step
    if step and with_log and step.log:
        shown = step.log[-_LINES_SHOWN:]
        parts.append("\n".join(["------", f" > {step.title}:", *shown, "------"]))
    number = line_of(build.failure) or (step.line if step else 0)
    if number:
        parts.append(excerpt(context, number))
    said = str(build.failure.get("message") or "the build failed, and the daemon does not say why")
    parts.append(f"ERROR: {with_origin(said, context)}")
    return "\n".join(part for part in parts if part)


def with_origin(message: str, context: Context) -> str:
    """`message` with what the user calls the Dockerfile, instead of a made-up name that it was sent under."""
    return message.replace(context.dockerfile, context.origin) if context.dockerfile else message


def line_of(failure: dict[str, Any]) -> int:
    """The line of the Dockerfile in `location` ("Dockerfile:3: RUN x", "Dockerfile:3-5: …"), 0 when there is none."""
    place = str(failure.get("location") or "").partition(": ")[0]
    number = place.rpartition(":")[2].partition("-")[0]
    return int(number) if number.isdigit() else 0


def exit_status(failure: dict[str, Any]) -> int:
    """The status of the command that failed, as docker's, where there was one."""
    code = failure.get("code") or 1
    return code if isinstance(code, int) and 0 < code < 256 else 1


def warning_text(warnings: list[dict[str, Any]], context: Context) -> str:
    """Each warning with the line that it is about."""
    parts = []
    for warning in warnings:
        parts.append(f"WARNING: {warning.get('rule', '')}\n{warning.get('message', '')}")
        if warning.get("line"):
            parts.append(excerpt(context, int(warning["line"])))
        parts.append("")
    return "\n".join(part for part in parts)


def warning_summary(warnings: list[dict[str, Any]]) -> str:
    """One line each, for the end of a build that went well."""
    if not warnings:
        return ""
    head = "1 warning:" if len(warnings) == 1 else f"{len(warnings)} warnings:"
    lines = [
        f" - {warning.get('rule', '')}: {warning.get('message', '')}"
        + (f" (line {warning['line']})" if warning.get("line") else "")
        for warning in warnings
    ]
    return "\n".join([f"{head}", *lines, "(minictl build --check shows them with their lines)"])


def excerpt(context: Context, number: int) -> str:
    """The lines around `number`, which is marked; only the place when the file is not known here."""
    lines = context.lines()
    head = f"{context.origin}:{number}"
    if not 0 < number <= len(lines):
        return head
    shown = [
        f"{index:4} | {'>>>' if index == number else '   '} {lines[index - 1]}".rstrip()
        for index in range(max(1, number - 2), min(len(lines), number + 2) + 1)
    ]
    return "\n".join([head, _RULE, *shown, _RULE])
