"""The program ``minid``: reads flags and file, claims what the daemon needs, runs it.

The daemon itself is imported last, so that ``--version``, ``--validate`` and every refusal come at once.
"""

import logging
import os
import sys
from collections.abc import Sequence

from minid import __version__, logfmt
from minid.config import Config, ConfigError, load
from minid.config.flags import UsageError, parse, usage
from minid.config.registries import problems_of_hosts_toml
from minid.errors import MinidError
from minid.exits import ExitStatus, StartupError

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; ``minid --help`` has the table."""
    try:
        line = parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        _say(f"{error}\nSee 'minid --help'.")
        return ExitStatus.USAGE
    except ConfigError as error:
        return _refuse(ExitStatus.CONFIGURATION, error)
    if line.help:
        print(usage())
        return ExitStatus.OK
    if line.version:
        print(f"minid version {__version__}, build {build()}")
        return ExitStatus.OK
    try:
        config = load(line.config_file, line.given)
    except ConfigError as error:
        return _refuse(ExitStatus.CONFIGURATION, error)
    if line.validate:
        return _validated(config)
    return _run(config)


def build() -> str:
    """What this copy was built from: ``$MINID_BUILD``, the git commit of a checkout, or "release"."""
    given = os.environ.get("MINID_BUILD", "")
    return given or _commit() or "release"


def _run(config: Config) -> int:
    from minid.startup import claimed

    os.umask(0o022)
    logfmt.configure(config.effective_log_level, config.log_format)
    _set_proxies(config)
    try:
        with claimed(config):
            for warning in config.warnings:
                log.warning(warning)
            from minid.daemon import run

            return run(config)
    except StartupError as error:
        return _refuse(error.status, error)
    except MinidError as error:
        return _refuse(ExitStatus.FAILED, error)
    except KeyboardInterrupt:
        return ExitStatus.OK
    except Exception:
        log.critical("minid failed", exc_info=True)
        return ExitStatus.FAILED


def _set_proxies(config: Config) -> None:
    """What the configuration says goes before the environment, as with dockerd; the registry client reads that."""
    for name, value in (
        ("http_proxy", config.http_proxy),
        ("https_proxy", config.https_proxy),
        ("no_proxy", config.no_proxy),
    ):
        if value:
            os.environ[name] = os.environ[name.upper()] = value


def _validated(config: Config) -> int:
    for warning in config.warnings:
        _say(f"warning: {warning}")
    if problems := problems_of_hosts_toml():
        return _refuse(ExitStatus.CONFIGURATION, ConfigError(tuple(problems)))
    print("configuration OK", flush=True)
    import asyncio

    from minid import doctor
    from minid.doctor.gather import probe_storage
    from minid.network.default import device
    from minid.tables import KNOWN

    storage = asyncio.run(probe_storage(config)) if os.geteuid() == 0 else None
    facts = doctor.gather(config, known=KNOWN, storage=storage, bridges=(device(config),))
    findings = doctor.findings(facts)
    print(doctor.shown(findings))
    return ExitStatus.HOST if any(one.state == doctor.FAIL for one in findings) else ExitStatus.OK


def _refuse(status: ExitStatus, error: MinidError) -> int:
    for line in str(error).splitlines():
        _say(line)
    return status


def _say(text: str) -> None:
    prefix = "<3>" if logfmt.is_journal(sys.stderr) else ""
    print(f"{prefix}minid: {text}", file=sys.stderr)


def _commit() -> str:
    """The commit of the checkout this file lies in, without running git; "" outside of one."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        with open(os.path.join(top, ".git", "HEAD")) as file:
            head = file.read().strip()
        if not head.startswith("ref: "):
            return head[:7]
        name = head.removeprefix("ref: ")
        try:
            with open(os.path.join(top, ".git", name)) as file:
                return file.read().strip()[:7]
        except FileNotFoundError:
            with open(os.path.join(top, ".git", "packed-refs")) as file:
                return next((line[:7] for line in file if line.rstrip().endswith(f" {name}")), "")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
