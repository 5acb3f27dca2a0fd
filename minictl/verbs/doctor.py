"""system doctor: what stands between this user and running containers, and what to do about it."""

from __future__ import annotations

import os
import stat

from minictl import config, endpoint, jsontext, table
from minictl.engine import Engine
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Finding = dict[str, str]

OK, WARN, FAIL = "ok", "warn", "fail"


def doctor(options: Options, arguments: list[str], engine: Engine) -> int:
    if options["format"] not in ("", "json"):
        raise Failure(f"--format {options['format']}: only json is known")
    findings = [*client_config(), *socket(engine)]
    if findings[-1]["State"] != FAIL:
        findings += daemon(engine)
    if options["format"]:
        table.write(jsontext.dumps({"Findings": findings}) + "\n")
    else:
        table.write(shown(findings))
    return 1 if any(one["State"] == FAIL for one in findings) else 0


def finding(name: str, state: str, what: str, advice: str = "") -> Finding:
    return {"Name": name, "State": state, "What": what, "Advice": advice}


def client_config() -> list[Finding]:
    """The docker CLI's config.json: can it be read, and by others too?"""
    path = config.path()
    try:
        mode = os.stat(path).st_mode
        with open(path, "rb"):
            pass
        settings = config.load()
    except FileNotFoundError:
        return [finding("client configuration", OK, f"{path}: there is none")]
    except OSError as error:
        return [
            finding(
                "client configuration",
                WARN,
                f"{path}: {error.strerror}: no logins",
                f"chown it to you: {path}",
            )
        ]
    except Failure as error:
        return [finding("client configuration", FAIL, error.message, "mend the file, or take it away")]
    if settings.get("auths") and stat.S_IMODE(mode) & 0o077:
        what = f"{path}: others can read the passwords in it (mode {stat.S_IMODE(mode):04o})"
        return [finding("client configuration", WARN, what, f"chmod 600 {path}")]
    return [finding("client configuration", OK, path)]


def socket(engine: Engine) -> list[Finding]:
    """Can this user reach the daemon? If not, why; the last finding fails then."""
    try:
        host = engine.host
        engine.settle_version()
    except Failure as error:
        what, _, advice = error.message.partition("\n")
        return [finding("socket", FAIL, what, " ".join(advice.split()) or "see above")]
    found = [finding("socket", OK, f"the daemon answers at {host}")]
    if not host.startswith("unix://"):
        return found
    status = os.stat(endpoint.socket_path(host))
    if status.st_mode & 0o007:
        what = f"everybody on this machine can be root through it (mode {stat.S_IMODE(status.st_mode):04o})"
        found.insert(0, finding("socket mode", WARN, what, f"chmod 660 {endpoint.socket_path(host)}"))
    found.insert(0, _membership(status.st_gid))
    return found


def _membership(gid: int) -> Finding:
    import grp
    import pwd

    try:
        name = grp.getgrgid(gid).gr_name
    except KeyError:
        name = str(gid)
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    if os.geteuid() == 0:
        return finding("user", OK, f"{user} is root; the socket is for the group {name} too")
    return finding("user", OK, f"{user} may use the socket, as a member of {name}: that is as good as root")


def daemon(engine: Engine) -> list[Finding]:
    """What the daemon finds about its host."""
    if not engine.is_minid:
        return [
            finding(
                "daemon", WARN, "it is not minid: only minid looks at its host", "ask that daemon's own tools"
            )
        ]
    try:
        answer: dict[str, Any] = engine.call("GET", "/minid/doctor")
    except ApiError as error:
        if error.http_status == 404:
            return [
                finding(
                    "daemon",
                    WARN,
                    "it is a minid too old to look at its host",
                    "restart it: is it the new one?",
                )
            ]
        raise
    return list(answer["Findings"])


def shown(findings: list[Finding]) -> str:
    width = max(len(one["Name"]) for one in findings)
    text = ""
    for one in findings:
        text += f"{one['State']:<4}  {one['Name']:<{width}}  {one['What']}\n"
        if one["Advice"]:
            text += f"{'':<{width + 8}}what to do: {one['Advice']}\n"
    failed, warned = (sum(one["State"] == state for one in findings) for state in (FAIL, WARN))
    return text + f"{len(findings)} checks: {failed} failed, {warned} to look at\n"


DOCTOR = Command(
    "doctor",
    "[OPTIONS]",
    "Check this host and say what to do about what it lacks",
    doctor,
    (("format", "f", "string", "json: all findings as one JSON object"),),
    0,
    0,
    details="The exit status is 1 if a check has failed. `minid --validate` checks the same without a daemon.",
)
