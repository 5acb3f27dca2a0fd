"""Dockerfile instructions that change an image's config: ``--change`` of commit and import. Pure.

Source: docs.docker.com/reference/dockerfile; Engine API ``ImageCommit`` § changes for which are allowed.
"""

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minid.errors import InvalidParameter
from minid.images.timestamps import duration_ns

Config = dict[str, Any]
SHELL = ("/bin/sh", "-c")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:[-+])([^}]*))?\})", re.ASCII)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)


def apply(config: Mapping[str, Any], changes: Sequence[str]) -> Config:
    """``config`` (an image config's ``config`` object) changed by these lines. ``InvalidParameter``."""
    changed: Config = json.loads(json.dumps(dict(config)))
    for text in changes:
        for line in text.replace("\\\n", "").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                _apply_line(changed, line.strip())
    return changed


def _apply_line(config: Config, line: str) -> None:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    change = _INSTRUCTIONS.get(name.upper())
    if change is None:
        raise InvalidParameter(
            f"{name} is not a valid change command: use one of {', '.join(sorted(_INSTRUCTIONS))}"
        )
    if not rest:
        raise InvalidParameter(f"{name.upper()} requires at least one argument")
    change(config, rest)


def _cmd(config: Config, rest: str) -> None:
    config["Cmd"] = _command(config, rest)


def _entrypoint(config: Config, rest: str) -> None:
    config["Entrypoint"] = _command(config, rest)
    config["Cmd"] = None


def _command(config: Config, rest: str) -> list[str]:
    listed = _json_list(rest)
    return listed if listed is not None else [*(config.get("Shell") or SHELL), rest]


def _env(config: Config, rest: str) -> None:
    env = list(config.get("Env") or [])
    for key, value in _pairs(rest, "ENV", _variables(config)):
        if key in _keys(env):
            env[_keys(env).index(key)] = f"{key}={value}"
        else:
            env.append(f"{key}={value}")
    config["Env"] = env


def _label(config: Config, rest: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(rest, "LABEL", _variables(config)))}


def _expose(config: Config, rest: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in _words(rest, _variables(config)):
        match = _PORT.fullmatch(word)
        if match is None:
            raise InvalidParameter(f"EXPOSE: invalid port {word!r}: expected port[-port][/protocol]")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last <= 65535:
            raise InvalidParameter(f"EXPOSE: invalid port {word!r}")
        ports |= {f"{port}/{match[3] or 'tcp'}": {} for port in range(first, last + 1)}
    config["ExposedPorts"] = ports


def _volume(config: Config, rest: str) -> None:
    listed = _json_list(rest)
    paths = listed if listed is not None else _words(rest, _variables(config))
    if not all(paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _workdir(config: Config, rest: str) -> None:
    path = posixpath.join("/", config.get("WorkingDir") or "/", _one_word(config, rest, "WORKDIR"))
    config["WorkingDir"] = "/" + posixpath.normpath(path).lstrip("/")


def _user(config: Config, rest: str) -> None:
    config["User"] = _one_word(config, rest, "USER")


def _stopsignal(config: Config, rest: str) -> None:
    config["StopSignal"] = _one_word(config, rest, "STOPSIGNAL")


def _onbuild(config: Config, rest: str) -> None:
    if rest.partition(" ")[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidParameter(f"{rest.partition(' ')[0].upper()} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), rest]


def _healthcheck(config: Config, rest: str) -> None:
    check: Config = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.strip()
        name, _, value = option[2:].partition("=")
        fields = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}
        if name in fields:
            check[fields[name]] = duration_ns(value)
        elif name == "retries" and value.isascii() and value.isdigit():
            check["Retries"] = int(value)
        else:
            raise InvalidParameter(f"HEALTHCHECK: invalid option {option!r}")
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE" and not command and not check:
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidParameter("HEALTHCHECK: expected CMD and a command, or NONE")
    listed = _json_list(command.strip())
    test = ["CMD-SHELL", command.strip()] if listed is None else ["CMD", *listed]
    config["Healthcheck"] = {"Test": test, **check}


_INSTRUCTIONS: Mapping[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _json_list(text: str) -> list[str] | None:
    """The strings of a JSON list; None for what is none, which is then read as words."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _keys(env: Sequence[str]) -> list[str]:
    return [item.partition("=")[0] for item in env]


def _variables(config: Config) -> dict[str, str]:
    return {key: value for key, _, value in (item.partition("=") for item in config.get("Env") or [])}


def _one_word(config: Config, rest: str, name: str) -> str:
    words = _words(rest, _variables(config))
    if len(words) != 1:
        raise InvalidParameter(f"{name} requires exactly one argument")
    return words[0]


def _pairs(rest: str, name: str, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """``KEY=value KEY="more value"``, or the old form ``KEY the whole rest``."""
    first = re.split(r"\s", rest, maxsplit=1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidParameter(f"{name} must have two arguments")
        return [(first[0], " ".join(_words(first[1], variables)))]
    pairs = []
    for word in _words(rest, variables):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidParameter(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        pairs.append((key, value))
    return pairs


def _words(text: str, variables: Mapping[str, str]) -> list[str]:
    """Words as a shell splits them: quotes, backslashes, ``$NAME``, ``${NAME}``, ``${NAME:-else}``."""
    words: list[str] = []
    word, quote, started, position = "", "", False, 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and quote != "'" and position < len(text):
            if quote and text[position] not in '"$\\':
                word += character
            word += text[position]
            position, started = position + 1, True
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote, started = character, True
        elif not quote and character.isspace():
            if started or word:
                words.append(word)
            word, started = "", False
        elif character == "$" and quote != "'" and (match := _VARIABLE.match(text, position - 1)):
            word += _value(match, variables)
            position = match.end()
            started = True
        else:
            word += character
    if quote:
        raise InvalidParameter(
            f"unexpected end of statement while looking for matching {quote}-quote in {text!r}"
        )
    return [*words, word] if started or word else words


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(match[1] or match[2], "")
    if match[3] == ":-":
        return value or match[4]
    if match[3] == ":+":
        return match[4] if value else ""
    return value
