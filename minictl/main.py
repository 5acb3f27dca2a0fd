"""The way in: finds the command that a command line names, runs it, and turns what went wrong into text and status."""

from __future__ import annotations

import os
import sys

from minictl import flags
from minictl.commands import GROUPS, VERBS, load
from minictl.endpoint import Choice
from minictl.engine import Engine
from minictl.errors import Failure, UsageError

GLOBAL_FLAGS: tuple[flags.Flag, ...] = (
    ("host", "H", "list", "Daemon socket to connect to (unix:///PATH, tcp://HOST:PORT, ssh://USER@HOST)"),
    ("config", "", "string", "Directory of the client's configuration files"),
    ("version", "v", "bool", "Print the version of minictl and quit"),
    ("debug", "D", "bool", "Show a traceback when minictl itself fails"),
    ("log-level", "l", "string", "Accepted and ignored, as docker's", "info"),
    ("context", "c", "string", "Name of the context that says where the daemon is (see minictl context)"),
    ("tls", "", "bool", "Use TLS, and take whatever certificate the daemon shows; implied by --tlsverify"),
    ("tlscacert", "", "string", "Trust certs signed only by this CA (default ca.pem in ~/.docker)"),
    ("tlscert", "", "string", "Path to TLS certificate file (default cert.pem in ~/.docker)"),
    ("tlskey", "", "string", "Path to TLS key file (default key.pem in ~/.docker)"),
    ("tlsverify", "", "bool", "Use TLS and verify the daemon"),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line (without the program's name) and returns its exit status."""
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        status = _run(arguments)
        _flush()
    except KeyboardInterrupt:
        return _die_of("SIGINT")
    except BrokenPipeError:
        return _die_of("SIGPIPE")
    except OSError as error:
        return _fail(f"minictl: {error.filename or 'input or output'}: {error.strerror or error}")
    except Exception as error:
        if "-D" in arguments or "--debug" in arguments:
            raise
        return _fail(
            f"minictl: this is a mistake in minictl itself ({type(error).__name__}: {error}).\n"
            f"Please report it, with what `minictl --debug {' '.join(arguments)}` prints."
        )
    return status


def entry() -> None:
    """What the console script calls: like `main`, and leaves without the interpreter's slow taking down."""
    status = main()
    try:
        _flush()
    except OSError:
        pass
    os._exit(status)


def _run(arguments: list[str]) -> int:
    command: flags.Command | None = None
    top = flags.Command("", "[OPTIONS] COMMAND", "", _nothing, GLOBAL_FLAGS, interspersed=False)
    try:
        options, words = flags.parse(top, arguments)
        if options["version"]:
            from minictl import __version__

            return _say(f"minictl version {__version__}")
        if options["config"]:
            os.environ["DOCKER_CONFIG"] = options["config"]
        if not words or words == ["help"]:
            return _help([])
        if words[0] == "help":
            return _help(words[1:])
        command, rest = _find(words)
        if command is None:
            return _help(words)
        values, positional = flags.parse(command, rest)
        engine = Engine(Choice(options, os.environ))
        return command.handler(values, positional, engine)
    except flags.HelpWanted:
        return _help(command.name.split() if command else [])
    except UsageError as error:
        from minictl import help as help_text

        _complain(error.message + "\n" + help_text.after_usage_error(command, error.message))
        return error.status
    except Failure as error:
        if error.message:
            _complain(error.message)
        return error.status


def _find(words: list[str]) -> tuple[flags.Command | None, list[str]]:
    """The command that `words` begin with and the rest of them; None when they name only a group."""
    name = words[0]
    if name in GROUPS and name not in VERBS:
        if len(words) == 1 or words[1] == "--help":
            return None, words
        verb = GROUPS[name][1].get(words[1])
        if verb is None:
            from minictl import help as help_text

            raise Failure(help_text.unknown(f"{name} {words[1]}", list(GROUPS[name][1]), name))
        return load(verb, f"{name} {words[1]}"), words[2:]
    if name not in VERBS:
        from minictl import help as help_text

        raise Failure(help_text.unknown(name, [*VERBS, *GROUPS], ""))
    return load(VERBS[name], name), words[1:]


def _help(words: list[str]) -> int:
    from minictl import help as help_text

    if not words:
        return _say(help_text.overview(GLOBAL_FLAGS))
    if words[0] in GROUPS and (len(words) == 1 or words[1] == "--help"):
        return _say(help_text.group(words[0]))
    command, _ = _find(words)
    assert command is not None
    return _say(help_text.command(command))


def _nothing(options: flags.Options, arguments: list[str], engine: Engine) -> int:
    return 0


def _say(text: str) -> int:
    print(text)
    return 0


def _complain(text: str) -> None:
    _flush()
    os.write(2, (text + "\n").encode("utf-8", "surrogateescape"))


def _fail(text: str) -> int:
    os.write(2, (text + "\n").encode("utf-8", "surrogateescape"))
    return 1


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _die_of(name: str) -> int:
    """Ends the process by the signal it would have died of had Python not caught it, so that a shell can tell."""
    import signal

    number = signal.Signals[name]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
