"""The functions of Go templates, and how Go prints values (fmt's %v, strconv.Quote)."""

from __future__ import annotations

from minictl import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def text_of(value: Any) -> str:
    """As fmt prints with %v what came from JSON: map[a:1 b:2], [x y], true, <nil>."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    return _inner(value)


def _inner(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_inner(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_inner(item) for item in value) + "]"
    return str(value)


def _float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def truth(value: Any) -> bool:
    """Go's: false, 0, nil and what is empty are false."""
    if isinstance(value, str | dict | list | tuple):
        return len(value) > 0
    return bool(value)


def type_of(value: Any) -> str:
    for kind, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float64"),
        (str, "string"),
        (list, "[]interface {}"),
    ):
        if isinstance(value, kind):
            return name
    return "map[string]interface {}"


def quoted(text: str) -> str:
    """As strconv.Quote: double quotes, control characters escaped."""
    result = ['"']
    for letter in text:
        code = ord(letter)
        if letter in '"\\':
            result.append("\\" + letter)
        elif letter in "\n\t\r\a\b\f\v":
            result.append(
                "\\" + {"\n": "n", "\t": "t", "\r": "r", "\a": "a", "\b": "b", "\f": "f", "\v": "v"}[letter]
            )
        elif code < 32 or code == 127:
            result.append(f"\\x{code:02x}")
        elif not letter.isprintable():
            result.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            result.append(letter)
    return "".join([*result, '"'])


def printf(pattern: str, *values: Any) -> str:
    """fmt.Sprintf with the verbs v s d q t x X o b c f e g and %%; flags and widths as Go has them."""
    result = []
    rest = list(values)
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if letter != "%":
            result.append(letter)
            continue
        start = position
        while position < len(pattern) and pattern[position] in "+-# 0123456789.":
            position += 1
        if position >= len(pattern):
            result.append("%!(NOVERB)")
            break
        flags, verb = pattern[start:position], pattern[position]
        position += 1
        if verb == "%":
            result.append("%")
        elif not rest:
            result.append(f"%!{verb}(MISSING)")
        else:
            result.append(_formatted(flags, verb, rest.pop(0)))
    if rest:
        extra = ", ".join(f"{type_of(value)}={_inner(value)}" for value in rest)
        result.append(f"%!(EXTRA {extra})")
    return "".join(result)


def _formatted(flags: str, verb: str, value: Any) -> str:
    if verb in "dxXocfeEgG" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"%{flags}{verb}" % value
    if verb == "b" and isinstance(value, int):
        return f"{value:b}"
    if verb in "dxXo" and isinstance(value, str) and verb in "xX":
        text = value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb in "vst":
        text = value if isinstance(value, str) else _inner(value)
    elif verb == "q":
        text = quoted(value if isinstance(value, str) else _inner(value))
    elif verb == "T":
        text = type_of(value)
    else:
        return f"%!{verb}({type_of(value)}={_inner(value)})"
    return (
        f"%{flags.replace('+', '').replace('#', '').replace('0', '', 1) if flags[:1] in '+#0' else flags}s"
        % text
    )


def _print(*values: Any) -> str:
    """fmt.Sprint: spaces only between operands of which neither is a string."""
    result = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            result += " "
        result += value if isinstance(value, str) else _inner(value)
    return result


def _println(*values: Any) -> str:
    return " ".join(value if isinstance(value, str) else _inner(value) for value in values) + "\n"


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, list | tuple | str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise ValueError(f"cannot index slice/array with type {type_of(key)}")
            if not 0 <= key < len(value):
                raise ValueError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        elif value is None:
            raise ValueError("index of untyped nil")
        else:
            raise ValueError(f"can't index item of type {type_of(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    start, end = (*bounds, len(value))[:2] if bounds else (0, len(value))
    if not 0 <= start <= end <= len(value):
        raise ValueError(f"index out of range: {end}")
    return value[start:end]


def _length(value: Any) -> int:
    if value is None:  # a list or a map that JSON has as null
        return 0
    if not isinstance(value, str | dict | list | tuple):
        raise ValueError(f"len of type {type_of(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    for other in others:
        kinds = {_basic(first), _basic(other)}
        if len(kinds) > 1 and "nil" not in kinds:
            raise ValueError("incompatible types for comparison")
        if first == other:
            return True
    return False


def _less(first: Any, second: Any) -> bool:
    if _basic(first) != _basic(second) or _basic(first) not in ("number", "string"):
        raise ValueError("incompatible types for comparison")
    return bool(first < second)


def _basic(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "other"


def _json(value: Any) -> str:
    plain = getattr(value, "plain", None)
    return jsontext.dumps_for_html(plain()) if plain else jsontext.dumps(value)


def _join(values: Any, separator: str) -> str:
    return separator.join(value if isinstance(value, str) else _inner(value) for value in values or ())


def _title(text: str) -> str:
    result = []
    previous = " "
    for letter in text:
        result.append(letter.upper() if not (previous.isalnum() or previous in "_'") else letter)
        previous = letter
    return "".join(result)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _escaped(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for plain, escape in pairs:
        text = text.replace(plain, escape)
    return text


def _html(*values: Any) -> str:
    pairs = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;"))
    return _escaped(_print(*values), pairs)


def _urlquery(*values: Any) -> str:
    from minictl.engine import quote

    return quote(_print(*values)).replace("%20", "+")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "not": lambda value: not truth(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": printf,
    "println": _println,
    "html": _html,
    "js": lambda *values: _escaped(
        _print(*values), (("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("\n", "\\u000A"))
    ),
    "urlquery": _urlquery,
    "call": lambda function, *values: function(*values),
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _less,
    "le": lambda first, second: _less(first, second) or _equal(first, second),
    "gt": lambda first, second: _less(second, first),
    "ge": lambda first, second: _less(second, first) or _equal(first, second),
    "json": _json,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "join": _join,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "title": _title,
    "pad": _pad,
    "truncate": lambda text, length: text[:length],
}
