"""`--filter key=value`: the JSON that list, prune and event requests take."""

from __future__ import annotations

from minictl import jsontext
from minictl.errors import UsageError


def parse_filters(texts: list[str]) -> str | None:
    """`{"label":{"a=b":true}}`, None without filters. Raises UsageError for what is not key=value."""
    filters: dict[str, dict[str, bool]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)'
            )
        filters.setdefault(key.strip().lower(), {})[value.strip()] = True
    return jsontext.dumps({key: filters[key] for key in sorted(filters)}) if filters else None
