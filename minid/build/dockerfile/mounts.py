"""``RUN --mount=type=…,key=value,…`` and ``--device``. Source: docs.docker.com/reference/dockerfile § RUN --mount."""

import csv
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from minid.build.dockerfile.flags import FlagError, boolean
from minid.build.dockerfile.model import Device, Mount

_TARGET, _READ_ONLY, _WRITABLE = ("target", "dst", "destination"), ("readonly", "ro"), ("readwrite", "rw")
_SOURCE, _OWNER = ("source", "src", "from"), ("mode", "uid", "gid")
_ALLOWED = {
    "bind": {*_TARGET, *_SOURCE, *_READ_ONLY, *_WRITABLE},
    "cache": {*_TARGET, *_SOURCE, *_READ_ONLY, *_WRITABLE, *_OWNER, "id", "sharing"},
    "tmpfs": {*_TARGET, "size", *_READ_ONLY, *_WRITABLE},
    "secret": {*_TARGET, *_OWNER, "id", "env", "required", "source", "src"},
    "ssh": {*_TARGET, *_OWNER, "id", "required"},
}
_NAMES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}
_SHARING = ("shared", "private", "locked")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {unit: 1024**power for power, unit in enumerate(("", "k", "m", "g", "t", "p"))}
_NUMBER_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class _Options:
    raw: str
    values: dict[str, str | None]

    def error(self, reason: str) -> FlagError:
        return FlagError(f"--mount={self.raw}: {reason}")

    def text(self, name: str) -> str:
        value = self.values.get(name, "")
        if value is None:
            raise self.error(f"{name} needs a value")
        return value

    def flag(self, name: str) -> bool | None:
        if name not in self.values:
            return None
        value = self.values[name]
        given = True if value is None else boolean(value)
        if given is None and not _has_variable(value or ""):
            raise self.error(f"invalid value for {name}: {value!r} is neither true nor false")
        return given

    def number(self, name: str, read: Callable[[str], int | None], expected: str) -> int | None:
        value = self.text(name)
        if not value or _has_variable(value):
            return None
        number = read(value)
        if number is None:
            raise self.error(f"invalid value for {name}: {value!r} is not {expected}")
        return number


def parse_mount(raw: str) -> Mount:
    """``FlagError``. A number with a variable in it is None; ``raw`` is parsed again when it is expanded."""
    options = _split(raw)
    kind = options.text("type") or "bind"
    if kind not in _ALLOWED:
        raise options.error(f"unsupported mount type {kind!r}: use one of {', '.join(_ALLOWED)}")
    for name in options.values:
        _check_key(options, kind, name)
    values = {_NAMES.get(name, name): value for name, value in options.values.items()}
    return _check(_mount(kind, _Options(raw, values)))


def _split(raw: str) -> _Options:
    try:
        fields = next(csv.reader([raw], strict=True), [])
    except csv.Error as error:
        raise FlagError(f"--mount={raw}: {error}") from None
    values: dict[str, str | None] = {}
    for item in fields:
        name, equals, value = item.partition("=")
        values[name.lower()] = value if equals else None
    return _Options(raw, values)


def _check_key(options: _Options, kind: str, name: str) -> None:
    allowed = _ALLOWED[kind]
    if name in allowed or name == "type":
        return
    if any(name in each for each in _ALLOWED.values()):
        raise options.error(f"{name} is not allowed for type {kind}")
    close = get_close_matches(name, allowed, 1)
    raise options.error(f"unexpected key {name!r}" + (f" (did you mean {close[0]}?)" if close else ""))


def _mount(kind: str, options: _Options) -> Mount:
    from_, target, name, env = (options.text(each) for each in ("from", "target", "id", "env"))
    if _has_variable(from_):
        raise options.error("'from' doesn't support variable expansion, define alias stage instead")
    if kind == "cache":
        name = name or target
    elif kind == "secret":
        name = name or options.text("source") or posixpath.basename(target)
        target = target or ("" if env or not name else f"/run/secrets/{name}")
    elif kind == "ssh":
        name = name or "default"
    readonly, writable = options.flag("readonly"), options.flag("readwrite")
    if readonly is None:
        readonly = kind == "bind" if writable is None else not writable
    return Mount(
        type=kind,
        target=target,
        source="" if kind == "secret" else options.text("source"),
        from_=from_,
        id=name,
        sharing=options.text("sharing") or "shared",
        readonly=readonly,
        mode=options.number("mode", _octal, "an octal mode"),
        uid=options.number("uid", _decimal, "a user ID"),
        gid=options.number("gid", _decimal, "a group ID"),
        required=options.flag("required") or False,
        env=env,
        size_bytes=options.number("size", _bytes, "a size (64m)"),
        raw=options.raw,
    )


def _check(mount: Mount) -> Mount:
    if mount.type in ("bind", "cache", "tmpfs") and not mount.target:
        raise FlagError(f"--mount={mount.raw}: a {mount.type} mount needs a target")
    if mount.type == "secret" and not mount.id:
        raise FlagError(f"--mount={mount.raw}: invalid secret mount. one of id, target required")
    if mount.sharing not in _SHARING and not _has_variable(mount.sharing):
        raise FlagError(
            f"--mount={mount.raw}: unsupported sharing value {mount.sharing!r}: use {', '.join(_SHARING)}"
        )
    return mount


def parse_device(raw: str) -> Device:
    """``FlagError``."""
    name, *options = raw.split(",")
    if not name or any(option != "required" for option in options):
        raise FlagError(f"--device={raw}: expected name[,required]")
    return Device(name.removeprefix("name="), bool(options))


def _has_variable(text: str) -> bool:
    return "$" in text


def _octal(text: str) -> int | None:
    return int(text, 8) if re.fullmatch(r"(?:0o)?[0-7]{1,5}", text, re.ASCII) else None


def _decimal(text: str) -> int | None:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII):
        return None
    return int(text) if int(text) <= _NUMBER_MAX else None


def _bytes(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    return int(float(match[1]) * _UNITS[match[2].lower()]) if match and len(match[1]) < 20 else None
