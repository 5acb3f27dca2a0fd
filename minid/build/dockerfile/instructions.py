"""From a statement to the record of its instruction: the grammar of every instruction.

Source: docs.docker.com/reference/dockerfile, one section an instruction.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypedDict

from minid.build.dockerfile import model
from minid.build.dockerfile.errors import DockerfileError
from minid.build.dockerfile.flags import FlagError, Flags, split_flags
from minid.build.dockerfile.heredocs import parse_opening
from minid.build.dockerfile.lines import Statement
from minid.build.dockerfile.model import Command, ExecForm, Heredoc, Instruction, Location, Pair, ShellForm
from minid.build.dockerfile.mounts import parse_device, parse_mount
from minid.build.dockerfile.words import NotStrings, json_list, split_blank, split_once, split_quoted
from minid.errors import InvalidParameter
from minid.images.timestamps import duration_ns

_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")
_DURATION_MIN_NS = 1_000_000
_RETRIES_MAX = 2**31 - 1
_NO_TRIGGER = ("FROM", "MAINTAINER")


class Common(TypedDict):
    location: Location
    original: str
    keyword: str
    comments: tuple[str, ...]
    has_empty_continuation: bool


@dataclass(frozen=True, slots=True)
class _Source:
    """An instruction taken apart as far as all are alike."""

    name: str  # upper case
    rest: str  # after the options
    flags: Flags
    heredocs: tuple[Heredoc, ...]
    escape: str
    statement: Statement
    common: Common

    def error(self, reason: str) -> DockerfileError:
        usage = GRAMMAR[self.name][1]
        return DockerfileError(reason, self.statement.location, self.statement.text, usage)

    def needs_argument(self) -> None:
        if not self.rest:
            raise self.error(f"{self.name} requires at least one argument")

    def one_argument(self) -> str:
        if not self.rest:
            raise self.error(f"{self.name} requires exactly one argument")
        return self.rest


def parse_statement(statement: Statement, escape: str) -> Instruction:
    """``DockerfileError``."""
    keyword, rest = split_once(statement.text)
    name = keyword.upper()
    if name not in GRAMMAR:
        raise DockerfileError(_unknown(keyword), statement.location, statement.text)
    flags, rest = split_flags(rest, escape)
    common = Common(
        location=statement.location,
        original=statement.text,
        keyword=keyword,
        comments=statement.comments,
        has_empty_continuation=statement.has_empty_continuation,
    )
    source = _Source(name, rest, flags, statement.heredocs, escape, statement, common)
    try:
        instruction = GRAMMAR[name][0](source)
        flags.finish()
    except (FlagError, NotStrings) as error:
        raise source.error(str(error)) from None
    return instruction


def _unknown(keyword: str) -> str:
    close = get_close_matches(keyword.upper(), GRAMMAR, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    if not keyword.isascii() and not keyword.isprintable():
        hint = " (there is an invisible character in it)"
    return f"unknown instruction: {keyword}{hint}"


def _from(source: _Source) -> Instruction:
    words = split_blank(source.rest)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise source.error("FROM requires either one or three arguments")
    name = words[2] if len(words) == 3 else ""
    if name and not re.fullmatch(r"[a-z][a-z0-9_.-]*", name.lower(), re.ASCII):
        raise source.error(
            f'invalid name for build stage: "{name}", name can\'t start with a number or contain symbols'
        )
    return model.From(
        **source.common,
        image=words[0],
        platform=source.flags.string("platform") or "",
        stage_name=name,
        as_keyword=words[1] if name else "",
    )


def _run(source: _Source) -> Instruction:
    flags = source.flags
    mounts = tuple(parse_mount(raw) for raw in flags.strings("mount"))
    devices = tuple(parse_device(raw) for raw in flags.strings("device"))
    source.needs_argument()
    command = _command(source.rest)
    if command == ExecForm(()):
        raise source.error("RUN: no command specified")
    only = parse_opening(source.rest, 0, source.escape)
    return model.Run(
        **source.common,
        command=command,
        heredocs=source.heredocs,
        has_only_heredoc=only is not None
        and only.is_whole
        and len(split_quoted(source.rest, source.escape)) == 1,
        mounts=mounts,
        network=_one_of(flags, "network", _NETWORKS),
        security=_one_of(flags, "security", _SECURITY),
        devices=devices,
    )


def _one_of(flags: Flags, name: str, choices: tuple[str, ...]) -> str:
    """The first choice is the default."""
    value = flags.string(name)
    if value is None:
        return choices[0]
    if value not in choices:
        raise FlagError(f"invalid value for --{name}: {value!r}: use one of {', '.join(choices)}")
    return value


def _command(text: str) -> Command:
    listed = json_list(text)
    return ShellForm(text) if listed is None else ExecForm(listed)


def _copy(source: _Source) -> Instruction:
    flags = source.flags
    from_ = flags.string("from") or ""
    if "$" in from_:
        raise source.error(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global"
            " scope as a workaround"
        )
    parents = flags.boolean("parents") or False
    return model.Copy(**source.common, **_transfer(source), from_=from_, parents=parents)


def _add(source: _Source) -> Instruction:
    flags = source.flags
    return model.Add(
        **source.common,
        **_transfer(source),
        checksum=flags.string("checksum") or "",
        keep_git_dir=flags.boolean("keep-git-dir") or False,
        unpack=flags.boolean("unpack"),
    )


class _Transfer(TypedDict):
    sources: tuple[str | Heredoc, ...]
    destination: str
    chown: str
    chmod: str
    link: bool
    exclude: tuple[str, ...]


def _transfer(source: _Source) -> _Transfer:
    flags = source.flags
    options = _Transfer(
        sources=(),
        destination="",
        chown=flags.string("chown") or "",
        chmod=flags.string("chmod") or "",
        link=flags.boolean("link") or False,
        exclude=flags.strings("exclude"),
    )
    listed = json_list(source.rest)
    # A here-document's delimiter may be quoted; paths are never: that is what the JSON form is for.
    words = split_blank(source.rest) if listed is None else list(listed)
    if source.heredocs:
        words = split_quoted(source.rest, source.escape)
    if len(words) < 2:
        only_one = ", but only one was provided. Destination could not be determined" if words else ""
        raise source.error(f"{source.name} requires at least two arguments{only_one}")
    heredocs = list(source.heredocs)
    sources = [
        heredocs.pop(0) if heredocs and parse_opening(word, 0, source.escape) else word for word in words
    ]
    destination = sources.pop()
    if not isinstance(destination, str):
        raise source.error(f"{source.name} cannot accept a heredoc as a destination")
    options["sources"] = tuple(sources)
    options["destination"] = destination
    return options


def _pairs(source: _Source) -> tuple[tuple[Pair, ...], bool]:
    """The pairs, and whether they are in the old form ``key value``."""
    words = split_quoted(source.rest, source.escape)
    if not words:
        source.needs_argument()
    if "=" not in words[0]:
        key, value = split_once(source.rest)
        if not value:
            raise source.error(f"{source.name} must have two arguments")
        return (Pair(key, value),), True
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise source.error(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        if not key:
            raise source.error(f"{source.name} names can not be blank")
        pairs.append(Pair(key, value))
    return tuple(pairs), False


def _env(source: _Source) -> Instruction:
    pairs, is_legacy = _pairs(source)
    return model.Env(**source.common, pairs=pairs, is_legacy=is_legacy)


def _label(source: _Source) -> Instruction:
    pairs, is_legacy = _pairs(source)
    return model.Label(**source.common, pairs=pairs, is_legacy=is_legacy)


def _arg(source: _Source) -> Instruction:
    source.needs_argument()
    definitions = []
    for word in split_quoted(source.rest, source.escape):
        name, equals, default = word.partition("=")
        if not name:
            raise source.error("ARG names can not be blank")
        definitions.append(model.ArgDefinition(name, default if equals else None))
    return model.Arg(**source.common, definitions=tuple(definitions))


def _user(source: _Source) -> Instruction:
    return model.User(**source.common, user=source.one_argument())


def _workdir(source: _Source) -> Instruction:
    return model.Workdir(**source.common, path=source.one_argument())


def _stopsignal(source: _Source) -> Instruction:
    return model.StopSignal(**source.common, signal=source.one_argument())


def _maintainer(source: _Source) -> Instruction:
    return model.Maintainer(**source.common, author=source.one_argument())


def _shell(source: _Source) -> Instruction:
    listed = json_list(source.rest)
    if listed is None:
        raise source.error("SHELL requires the arguments to be in JSON form")
    if not listed:
        raise source.error("SHELL requires at least one argument")
    return model.Shell(**source.common, args=listed)


def _entrypoint(source: _Source) -> Instruction:
    return model.Entrypoint(**source.common, command=_own_command(source))


def _cmd(source: _Source) -> Instruction:
    return model.Cmd(**source.common, command=_own_command(source))


def _own_command(source: _Source) -> Command:
    return _command(source.rest) if source.rest else ExecForm(())


def _expose(source: _Source) -> Instruction:
    source.needs_argument()
    return model.Expose(**source.common, ports=tuple(split_blank(source.rest)))


def _volume(source: _Source) -> Instruction:
    listed = json_list(source.rest)
    paths = tuple(split_blank(source.rest)) if listed is None else listed
    if not paths:
        raise source.error("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise source.error("VOLUME specified can not be an empty string")
    return model.Volume(**source.common, paths=paths)


def _healthcheck(source: _Source) -> Instruction:
    flags = source.flags
    source.needs_argument()
    kind, rest = split_once(source.rest)
    if kind.upper() == "NONE":
        if rest:
            raise source.error("HEALTHCHECK NONE takes no arguments")
        return model.Healthcheck(**source.common, command=None)
    if kind.upper() != "CMD":
        raise source.error(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    command = _command(rest)
    if not rest or command == ExecForm(()):
        raise source.error("Missing command after HEALTHCHECK CMD")
    return model.Healthcheck(
        **source.common,
        command=command,
        interval_ns=_duration(flags, "interval"),
        timeout_ns=_duration(flags, "timeout"),
        start_period_ns=_duration(flags, "start-period"),
        start_interval_ns=_duration(flags, "start-interval"),
        retries=_retries(flags),
    )


def _duration(flags: Flags, name: str) -> int | None:
    text = flags.string(name)
    if not text:
        return None
    try:
        value_ns = 0 if text == "0" else duration_ns(text)
    except (InvalidParameter, OverflowError):
        raise FlagError(f"--{name}={text}: expected a duration, for instance 1m30s") from None
    if 0 < value_ns < _DURATION_MIN_NS:
        raise FlagError(f"--{name}={text}: a duration cannot be less than 1ms")
    if value_ns >= 2**63:
        raise FlagError(f"--{name}={text}: the duration is too long")
    return value_ns


def _retries(flags: Flags) -> int | None:
    text = flags.string("retries")
    if not text:
        return None
    if text.startswith("-"):
        raise FlagError(f"--retries cannot be negative ({text})")
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or int(text) > _RETRIES_MAX:
        raise FlagError(f"--retries={text}: expected a number")
    return int(text)


def _onbuild(source: _Source) -> Instruction:
    source.needs_argument()
    bodies = "".join(f"\n{each.content}{each.name}" for each in source.heredocs)
    check_trigger(source.rest, source.error)
    trigger = Statement(source.rest, source.statement.location, heredocs=source.heredocs)
    try:
        parse_statement(trigger, source.escape)
    except DockerfileError as error:
        raise source.error(error.reason) from None
    return model.Onbuild(**source.common, trigger=source.rest + bodies)


def check_trigger(text: str, error: Callable[[str], DockerfileError]) -> None:
    """Refuses the instructions that cannot be triggers."""
    name = split_once(text)[0].upper()
    if name == "ONBUILD":
        raise error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if name in _NO_TRIGGER:
        raise error(f"{name} isn't allowed as an ONBUILD trigger")


# How each is read, and what it looks like.
GRAMMAR: Mapping[str, tuple[Callable[[_Source], Instruction], str]] = {
    "ADD": (_add, "ADD [--chown=…] [--chmod=…] [--checksum=…] [--link] <src>… <dest>"),
    "ARG": (_arg, "ARG <name>[=<default>]…"),
    "CMD": (_cmd, 'CMD ["executable", "param"…] or CMD command param…'),
    "COPY": (
        _copy,
        "COPY [--from=…] [--chown=…] [--chmod=…] [--link] [--parents] [--exclude=…] <src>… <dest>",
    ),
    "ENTRYPOINT": (_entrypoint, 'ENTRYPOINT ["executable", "param"…] or ENTRYPOINT command param…'),
    "ENV": (_env, "ENV <key>=<value>…"),
    "EXPOSE": (_expose, "EXPOSE <port>[/<protocol>]…"),
    "FROM": (_from, "FROM [--platform=<platform>] <image> [AS <name>]"),
    "HEALTHCHECK": (
        _healthcheck,
        "HEALTHCHECK [--interval=…] [--timeout=…] [--start-period=…] [--start-interval=…] [--retries=…] CMD command,"
        " or HEALTHCHECK NONE",
    ),
    "LABEL": (_label, "LABEL <key>=<value>…"),
    "MAINTAINER": (_maintainer, "MAINTAINER <name>"),
    "ONBUILD": (_onbuild, "ONBUILD <instruction>"),
    "RUN": (_run, "RUN [--mount=…] [--network=…] [--security=…] command…"),
    "SHELL": (_shell, 'SHELL ["executable", "param"…]'),
    "STOPSIGNAL": (_stopsignal, "STOPSIGNAL <signal>"),
    "USER": (_user, "USER <user>[:<group>]"),
    "VOLUME": (_volume, 'VOLUME ["/data"…] or VOLUME /data…'),
    "WORKDIR": (_workdir, "WORKDIR <path>"),
}
