"""Which images a list is to have: Docker's ``filters`` for images. Pure.

Source: Engine API ``GET /images/json`` § filters.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from minid.errors import InvalidParameter
from minid.images.model import Image
from minid.images.reference import parse
from minid.images.timestamps import moment, nanoseconds

Filters = Mapping[str, Sequence[str]]
KNOWN = frozenset(("before", "dangling", "label", "reference", "since", "until"))
_TRUE, _FALSE = ("1", "t", "true", "True", "TRUE", "T"), ("0", "f", "false", "False", "FALSE", "F")


def select(images: Sequence[Image], filters: Filters, get: Callable[[str], Image]) -> list[Image]:
    """Those that all filters accept, newest first. ``get`` finds the images that before and since name."""
    for name in filters:
        if name not in KNOWN:
            raise InvalidParameter(f"invalid filter '{name}'")
    before = [_created(get(name)) for name in filters.get("before", ())]
    since = [_created(get(name)) for name in filters.get("since", ())]
    until = [moment(text) for text in filters.get("until", ())]
    dangling = [boolean(text) for text in filters.get("dangling", ())]
    labels = filters.get("label", ())
    patterns = [pattern_to_regex(text) for text in filters.get("reference", ())]
    chosen: list[Image] = []
    for image in images:
        created = _created(image)
        if (
            all(created < limit for limit in (*before, *until))
            and all(created > limit for limit in since)
            and (not dangling or (not image.tags) in dangling)
            and all(has_label(image, wanted) for wanted in labels)
        ):
            shown = _with_matching_names(image, patterns) if patterns else image
            if shown is not None:
                chosen.append(shown)
    return sorted(chosen, key=_created, reverse=True)


def pattern_to_regex(pattern: str) -> re.Pattern[str]:
    """Go's ``path.Match``: ``*`` and ``?`` stop at a slash. ``InvalidParameter`` for an open bracket."""
    result, position = "", 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "[":
            end = pattern.find("]", position + 1)
            if end < 0:
                raise InvalidParameter(f"invalid filter 'reference={pattern}': syntax error in pattern")
            inside = pattern[position:end]
            negated = inside.startswith("^")
            inside = re.sub(r"([\[\]\\&~|^])", r"\\\1", inside.removeprefix("^"))
            result += f"[{'^' if negated else ''}{inside}]"
            position = end + 1
        elif character == "\\" and position < len(pattern):
            result += re.escape(pattern[position])
            position += 1
        else:
            result += re.escape(character)
    try:
        return re.compile(result)
    except re.error:
        raise InvalidParameter(f"invalid filter 'reference={pattern}': syntax error in pattern") from None


def _with_matching_names(image: Image, patterns: Sequence[re.Pattern[str]]) -> Image | None:
    def matches(familiar: str) -> bool:
        name = parse(familiar).familiar_name
        return any(pattern.fullmatch(familiar) or pattern.fullmatch(name) for pattern in patterns)

    tags = tuple(tag for tag in image.tags if matches(tag))
    digests = tuple(digest for digest in image.digests if matches(digest))
    return replace(image, tags=tags, digests=digests) if tags or digests else None


def has_label(image: Image, wanted: str) -> bool:
    """Whether the image has the label ``wanted`` (``name`` or ``name=value``)."""
    config = image.config.get("config")
    labels = config.get("Labels") if isinstance(config, Mapping) else None
    if not isinstance(labels, Mapping):
        return False
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or str(labels[name]) == value)


def boolean(text: str) -> bool:
    """A truth value as Go reads it. ``InvalidParameter``."""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InvalidParameter(f"invalid filter 'dangling={text}': expected true or false")


def _created(image: Image) -> int:
    return nanoseconds(image.created) or 0
