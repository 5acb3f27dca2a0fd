"""From a configuration file and flags to a ``Config``: merge, check, name all that is wrong."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minid.config.located import Entries, Located, Wrong, parse
from minid.config.model import DEFAULT_FILE, Config, ConfigError, Source
from minid.config.options import BY_KEY, NO_EFFECT, OPTIONS, PROXIES, Option
from minid.config.tcp import settle_hosts

JSON_FILE_LOG_OPTS = frozenset(
    ("max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag")
)


@dataclass(slots=True)
class _Read:
    """What a file says: values by option key, the line of each, and what was found wrong or noteworthy."""

    values: dict[str, Any]
    lines: dict[str, int]
    problems: list[str]
    warnings: list[str]


def load(path: Path | None = None, given: Mapping[str, Any] | None = None) -> Config:
    """The configuration of ``path`` (None: the default file, which may be missing) with the flags ``given``.

    ``given`` maps option keys to values that ``minid.config.flags`` has read. An option that is in both is an
    error, as with dockerd. Raises ``ConfigError``, a line for each problem: ``FILE:LINE: KEY: message``.
    """
    source = Source(path or DEFAULT_FILE, path is not None, dict(given or {}))
    read = _read(source.path, required=source.required)
    for key, value in source.given.items():
        if key in read.values:
            where = f"{source.path}:{read.lines[key]}: {key}"
            flag = BY_KEY[key].flag
            read.problems.append(f"{where}: also given as the flag --{flag}: take one of the two away")
        else:
            read.values[key] = value
    if read.problems:
        raise ConfigError(tuple(read.problems))
    return _build(source, read)


def reload(old: Config) -> tuple[Config, tuple[str, ...], tuple[str, ...]]:
    """Read ``old``'s file again: the new configuration, the keys that changed, the keys that need a restart.

    Only options that may change while running are taken over. After a ``ConfigError`` ``old`` stays in force.
    """
    new = load(old.source.path if old.source.required else None, old.source.given)
    applied, ignored = [], []
    changes: dict[str, Any] = {"warnings": new.warnings}
    for option in OPTIONS:
        if not option.field or getattr(old, option.field) == getattr(new, option.field):
            continue
        if option.reload:
            applied.append(option.key)
            changes[option.field] = getattr(new, option.field)
        else:
            ignored.append(option.key)
    return replace(old, **changes), tuple(applied), tuple(ignored)


def _read(path: Path, *, required: bool) -> _Read:
    read = _Read({}, {}, [], [])
    try:
        document = parse(path.read_bytes())
    except FileNotFoundError:
        if required:
            read.problems.append(f"{path}: no such file")
        return read
    except OSError as error:
        read.problems.append(f"{path}: cannot be read: {error.strerror}")
        return read
    except Wrong as error:
        read.problems.append(f"{_place(path, error.line)}: {error}")
        return read
    if document.value is None:
        return read
    if not isinstance(document.value, Entries):
        read.problems.append(f"{path}:{document.line}: expected keys and values, got {document.described()}")
        return read
    for key, line, node in _flat(path, document.value, read):
        option = BY_KEY.get(key)
        if option is None:
            read.problems.append(f"{path}:{line}: {key}: unknown key{_suggestion(key)}")
        elif node.value not in (None, ""):  # both leave the default, as in Go
            _take(path, read, option, key, line, node)
    return read


def _flat(path: Path, document: Entries, read: _Read) -> Iterator[tuple[str, int, Located]]:
    for key, line, node in document.items:
        if key != "proxies":
            yield key, line, node
        elif isinstance(node.value, Entries):
            for inner, inner_line, value in node.value.items:
                if inner in PROXIES:
                    yield inner, inner_line, value
                else:
                    known = ", ".join(PROXIES)
                    read.problems.append(
                        f"{path}:{inner_line}: proxies.{inner}: unknown key (known are {known})"
                    )
        elif node.value is not None:
            read.problems.append(f"{path}:{line}: proxies: expected a mapping, got {node.described()}")


def _take(path: Path, read: _Read, option: Option, key: str, line: int, node: Located) -> None:
    if option.key in read.lines:
        # dockerd takes the last one in silence.
        first = read.lines[option.key]
        read.warnings.append(f"{path}:{line}: {key}: given twice, the value on line {first} is not used")
    read.lines[option.key] = line
    try:
        value = option.kind.from_file(node)
        if value or isinstance(value, bool):  # 0, [] and {} leave the default, as in Go
            read.values[option.key] = value
    except Wrong as error:
        read.problems.append(f"{_place(path, error.line or line)}: {key}: {error}")


def _place(path: Path, line: int) -> str:
    return f"{path}:{line}" if line else str(path)


def _suggestion(key: str) -> str:
    flags = {option.flag: option.key for option in OPTIONS if option.flag}
    normal = key.lower().replace("_", "-")
    if normal in flags:
        return f" (did you mean {flags[normal]}?)"
    close = difflib.get_close_matches(normal, BY_KEY, n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _build(source: Source, read: _Read) -> Config:
    values = read.values
    fields: dict[str, Any] = {
        option.field: values.get(option.key, option.default) for option in OPTIONS if option.field
    }
    warnings = list(read.warnings)
    for option in OPTIONS:
        if option.key not in values:
            continue
        value = values[option.key]
        if option.why == NO_EFFECT and option.field:
            continue
        if value == option.default or value in option.same_as:
            continue
        where = f"{source.path}:{read.lines[option.key]}: " if option.key in read.lines else "--"
        name = option.key if option.key in read.lines else option.flag
        warnings.append(f"{where}{name}: {option.why}")
    for name in ("data_root", "exec_root", "pidfile"):
        fields[name] = Path(fields[name]) if fields[name] else fields["exec_root"] / "minid.pid"
    if not fields["hosts"]:
        fields["hosts"] = (f"unix://{fields['exec_root']}/minid.sock",)
    problems = _log_problems(fields, warnings)
    fields["hosts"], wrong = settle_hosts(
        fields["hosts"],
        tls=fields["tls"] or fields["tlsverify"],
        verified=fields["tlsverify"],
        insecure=fields["insecure_tcp_i_know"],
    )
    problems += wrong
    problems += _label_conflicts(fields["labels"])
    if fields["registry_mirrors"] and "docker.io" in fields["registries"]:
        problems.append("registry-mirrors and registries both say what is asked for docker.io: take one away")
    if Path(fields["data_root"]) == Path(fields["exec_root"]):
        problems.append(f"data-root and exec-root are the same directory, {fields['data_root']}: choose two")
    if problems:
        raise ConfigError(tuple(problems))
    return Config(**fields, warnings=tuple(warnings), source=source)


def _log_problems(fields: dict[str, Any], warnings: list[str]) -> list[str]:
    """Settle the log driver and its options; what cannot be is returned, what is left out is warned about."""
    asked = fields["log_driver"]
    if asked not in ("json-file", "none"):
        warnings.append(f"log-driver: {asked} is not in this version, json-file is used")
        fields["log_driver"] = "json-file"
    kept = {key: value for key, value in fields["log_opts"].items() if key in JSON_FILE_LOG_OPTS}
    left_out = [key for key in fields["log_opts"] if key not in kept]
    fields["log_opts"] = kept
    # dockerd takes these for every driver.
    everywhere = [key for key in left_out if key in ("mode", "max-buffer-size") or key.startswith("cache-")]
    warnings.extend(f"log-opts: {key}: {NO_EFFECT}" for key in everywhere)
    if asked != "json-file":
        return []
    return [f"log-opts: {key}: json-file has no such option" for key in left_out if key not in everywhere]


def _label_conflicts(labels: tuple[str, ...]) -> list[str]:
    seen: dict[str, str] = {}
    problems = []
    for label in labels:
        key, _, value = label.partition("=")
        if seen.setdefault(key, value) != value:
            problems.append(f"labels: {key} has two values, {seen[key]!r} and {value!r}")
    return problems
