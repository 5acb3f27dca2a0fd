"""The types that options have: how each is read from a flag's text and from the configuration file.

Pure. A kind's ``from_text`` reads one occurrence of a flag, ``from_file`` a key's value. Both
raise ``Wrong``.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.config.located import Entries, Located, Wrong

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

Check = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """``metavar`` as ``--help`` shows it; ``join`` makes one value of a repeated flag's."""

    metavar: str
    from_text: Callable[[str], Any]
    from_file: Callable[[Located], Any]
    join: Callable[[Sequence[Any]], Any] | None = None

    @property
    def is_bool(self) -> bool:
        return self.metavar == ""


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit in the resource's own units; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Pool:
    """``base`` a network in CIDR notation that is cut into networks of ``size`` bits of prefix."""

    base: str
    size: int


def _any_text(text: str) -> str:
    return text


def _wrapped(check: Check, text: str, line: int) -> str:
    try:
        return check(text)
    except Wrong:
        raise
    except ValueError as error:
        raise Wrong(str(error), line) from None


# bool, int, text, list, map


def _bool_from_text(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Wrong(f"expected true or false, got {text!r}")


def bool_of(node: Located) -> bool:
    if not isinstance(node.value, bool):
        raise Wrong(f"expected true or false, got {node.described()}", node.line)
    return node.value


BOOL = Kind("", _bool_from_text, bool_of)


def integer(minimum: int | None = None, maximum: int | None = None) -> Kind:
    """A whole number; on the command line 0x and 0o are understood as well."""

    def bounded(value: int, line: int) -> int:
        if minimum is not None and value < minimum:
            raise Wrong(f"{value} is too small: the least is {minimum}", line)
        if maximum is not None and value > maximum:
            raise Wrong(f"{value} is too big: the most is {maximum}", line)
        return value

    def from_text(text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            raise Wrong(f"expected a whole number, got {text!r}") from None
        return bounded(value, 0)

    def from_file(node: Located) -> int:
        if isinstance(node.value, bool) or not isinstance(node.value, int):
            raise Wrong(f"expected a whole number, got {node.described()}", node.line)
        return bounded(node.value, node.line)

    return Kind("int", from_text, from_file)


def text_of(node: Located) -> str:
    if not isinstance(node.value, str):
        hint = ""
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            hint = f': write it in quotes, "{node.value}"'
        raise Wrong(f"expected text, got {node.described()}{hint}", node.line)
    if "\0" in node.value or "\n" in node.value:
        raise Wrong("a line break or a NUL is not allowed", node.line)
    return node.value


def text(check: Check = _any_text, metavar: str = "string") -> Kind:
    """One line of text that ``check`` accepts (it returns the value to keep or raises ValueError)."""

    def from_file(node: Located) -> str:
        return _wrapped(check, text_of(node), node.line)

    def from_text(raw: str) -> str:
        return _wrapped(check, raw, 0)

    return Kind(metavar, from_text, from_file)


def items(node: Located) -> list[Located]:
    if not isinstance(node.value, list):
        raise Wrong(f"expected a list, got {node.described()}", node.line)
    return node.value


def list_of(check: Check = _any_text, metavar: str = "list") -> Kind:
    """A list of text; the flag is repeated, one item each time."""
    item = text(check)

    def from_file(node: Located) -> tuple[str, ...]:
        return tuple(item.from_file(each) for each in items(node))

    return Kind(metavar, item.from_text, from_file, tuple)


def entries(node: Located) -> tuple[tuple[str, int, Located], ...]:
    if not isinstance(node.value, Entries):
        raise Wrong(f"expected a mapping, got {node.described()}", node.line)
    return node.value.items


def _pair(raw: str) -> tuple[str, str]:
    key, equals, value = raw.partition("=")
    if not equals or not key:
        raise Wrong(f"expected key=value, got {raw!r}")
    return key, value


def _map_from_file(node: Located) -> dict[str, str]:
    return {key: text_of(value) for key, _, value in entries(node)}


MAP = Kind("map", _pair, _map_from_file, dict)


def _switch(raw: str) -> tuple[str, bool]:
    name, equals, value = raw.partition("=")
    return name, _bool_from_text(value) if equals else True


def _switches_from_file(node: Located) -> dict[str, bool]:
    return {key: bool_of(value) for key, _, value in entries(node)}


SWITCHES = Kind("set", _switch, _switches_from_file, dict)


def plain(node: Located) -> Any:
    """The value without lines, for keys whose inside is not ours to check."""
    if isinstance(node.value, Entries):
        return {key: plain(value) for key, _, value in node.value.items}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def _any_map_from_file(node: Located) -> dict[str, Any]:
    return {key: plain(value) for key, _, value in entries(node)}


ANY_MAP = Kind("map", _pair, _any_map_from_file, dict)


# sizes, limits, addresses


def size_bytes(raw: str) -> int:
    """``64m``, ``64MiB``, ``1.5g``, ``1024`` in bytes; units are powers of 1024, as Docker's are."""
    match = _SIZE.fullmatch(raw.strip())
    if not match:
        raise Wrong(f"expected a size such as 64m or 1g, got {raw!r}")
    return int(float(match[1]) * 1024 ** _POWER[match[2].lower()])


def _size_from_file(node: Located) -> int:
    if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value >= 0:
        return node.value
    try:
        return size_bytes(text_of(node))
    except Wrong as error:
        raise Wrong(str(error), node.line) from None


SIZE = Kind("bytes", size_bytes, _size_from_file)

RLIMITS = (
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
    *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)


def _limit(name: str, soft: int, hard: int, line: int = 0) -> Ulimit:
    if name not in RLIMITS:
        raise Wrong(f"there is no limit called {name!r}: known are {', '.join(RLIMITS)}", line)
    if hard != -1 and (soft == -1 or soft > hard):
        raise Wrong(f"{name}: the soft limit {soft} is above the hard limit {hard}", line)
    return Ulimit(name, soft, hard)


def ulimit(raw: str) -> Ulimit:
    """``nofile=1024:4096`` or ``nofile=1024``; -1 is unlimited."""
    name, values = _pair(raw)
    soft, colon, hard = values.partition(":")
    try:
        return _limit(name, int(soft), int(hard if colon else soft))
    except Wrong:
        raise
    except ValueError:
        raise Wrong(f"expected name=soft[:hard] with whole numbers, got {raw!r}") from None


def _ulimits_from_file(node: Located) -> dict[str, Ulimit]:
    limits = {}
    whole = integer(minimum=-1)
    for name, line, value in entries(node):
        # Docker writes {"Name": "nofile", "Soft": 1024, "Hard": 4096} and, being Go, minds no case.
        fields = {key.lower(): (key, each) for key, _, each in entries(value)}
        for key, each in fields.values():
            if key.lower() not in ("name", "soft", "hard"):
                raise Wrong(f"{name}: {key}: unknown key (known are Name, Soft, Hard)", each.line)
        if "name" in fields and text_of(fields["name"][1]) != name:
            raise Wrong(f"{name}: Name says {fields['name'][1].described()}", fields["name"][1].line)
        soft = whole.from_file(fields["soft"][1]) if "soft" in fields else 0
        hard = whole.from_file(fields["hard"][1]) if "hard" in fields else soft
        limits[name] = _limit(name, soft, hard, line)
    return limits


def _join_ulimits(limits: Sequence[Ulimit]) -> dict[str, Ulimit]:
    return {limit.name: limit for limit in limits}


ULIMITS = Kind("ulimit", ulimit, _ulimits_from_file, _join_ulimits)


def _pool(base: str, size: int, line: int = 0) -> Pool:
    try:
        network = ipaddress.ip_network(base)
    except ValueError as error:
        raise Wrong(f"{error}", line) from None
    if not network.prefixlen <= size <= network.max_prefixlen:
        raise Wrong(f"size {size} does not fit into {base}", line)
    return Pool(base, size)


def _pool_from_text(raw: str) -> Pool:
    try:
        fields = dict(_pair(part) for part in raw.split(","))
        return _pool(fields["base"], int(fields["size"]))
    except Wrong:
        raise
    except (KeyError, ValueError):
        raise Wrong(f"expected base=CIDR,size=BITS, got {raw!r}") from None


def _pools_from_file(node: Located) -> tuple[Pool, ...]:
    pools = []
    for item in items(node):
        fields = {key.lower(): value for key, _, value in entries(item)}
        if fields.keys() != {"base", "size"}:
            raise Wrong('expected {"base": "CIDR", "size": BITS}', item.line)
        pools.append(_pool(text_of(fields["base"]), integer().from_file(fields["size"]), item.line))
    return tuple(pools)


POOLS = Kind("pool-options", _pool_from_text, _pools_from_file, tuple)


def _network_opt(raw: str) -> tuple[str, dict[str, str]]:
    driver, option = _pair(raw)
    key, value = _pair(option)
    return driver, {key: value}


def _join_network_opts(pairs: Sequence[tuple[str, dict[str, str]]]) -> dict[str, dict[str, str]]:
    joined: dict[str, dict[str, str]] = {}
    for driver, options in pairs:
        joined.setdefault(driver, {}).update(options)
    return joined


def _network_opts_from_file(node: Located) -> dict[str, Mapping[str, str]]:
    return {driver: _map_from_file(value) for driver, _, value in entries(node)}


NETWORK_OPTS = Kind("mapmap", _network_opt, _network_opts_from_file, _join_network_opts)


@dataclass(frozen=True, slots=True)
class Choice:
    """A check for text that must be one of ``names``; ``aliases`` maps other spellings to one of them."""

    names: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, raw: str) -> str:
        name = self.aliases.get(raw, raw)
        if name not in self.names:
            raise ValueError(f"expected one of {', '.join(filter(None, self.names))}; got {raw!r}")
        return name
