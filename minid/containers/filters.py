"""``docker ps --filter``: which containers a list shows. Pure.

Source: Engine API v1.44 ``GET /containers/json`` § filters.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from minid.containers import validate
from minid.containers.lifecycle import STATUSES
from minid.containers.model import Container, ListFilter
from minid.errors import InvalidParameter, NotFound
from minid.images.timestamps import moment

_KEYS = (
    "ancestor before exited expose health id is-task isolation label name network publish since status volume"
)
KEYS = frozenset(_KEYS.split())
_QUANTIFIER = re.compile(r"[*+?{]")
_NESTED = re.compile(r"\)[*+?{]|\\[0-9]")
HEALTH = ("starting", "healthy", "unhealthy", "none")


@dataclass(frozen=True, slots=True)
class Lookups:
    """What filters have to ask others: image ids that a name or an ancestor means; a container's networks,
    health, ports.

    ``networks``: names and ids. ``published``: the container's ports that are published, such as
    "80/tcp".
    """

    images: Callable[[str], Iterable[str]] = lambda name: ()
    networks: Callable[[Container], Iterable[str]] = lambda container: ()
    health: Callable[[Container], str] = lambda container: "none"
    published: Callable[[Container], Iterable[str]] = lambda container: ()


@dataclass(frozen=True, slots=True)
class _Query:
    filters: Mapping[str, Sequence[str]]
    lookups: Lookups
    newer_than: int
    older_than: int
    images: frozenset[str] = field(default_factory=frozenset)


def select(
    containers: Iterable[Container], wanted: ListFilter, lookups: Lookups | None = None
) -> list[Container]:
    """The containers that ``wanted`` asks for, newest first.

    Without ``all``, only those that run (paused and restarting ones do), unless a filter or limit asks
    about others. Values of one key are alternatives (of ``label`` and ``volume`` too: labels must all
    match), keys add up. Raises InvalidParameter for unknown keys and values, NotFound for a ``before`` or
    ``since`` that does not exist.
    """
    everything = sorted(containers, key=lambda container: (container.created_ns, container.id), reverse=True)
    lookups = lookups or Lookups()
    filters = {key: values for key, values in wanted.filters.items() if values}
    _check(filters)
    query = _Query(
        filters,
        lookups,
        max((_find(everything, ref).created_ns for ref in filters.get("since", ())), default=-1),
        min((_find(everything, ref).created_ns for ref in filters.get("before", ())), default=1 << 63),
        frozenset(image for name in filters.get("ancestor", ()) for image in lookups.images(name)),
    )
    show_all = (
        wanted.all or wanted.limit > 0 or bool({"status", "exited", "before", "since"} & filters.keys())
    )
    found = [
        container
        for container in everything
        if (show_all or container.state.running or container.state.status == "restarting")
        and _matches(container, query)
    ]
    return found[: wanted.limit] if wanted.limit > 0 else found


def _check(filters: Mapping[str, Sequence[str]]) -> None:
    for key, values in filters.items():
        if key not in KEYS:
            raise InvalidParameter(f"invalid filter '{key}'")
        for value in values:
            if key == "status" and value not in STATUSES:
                raise InvalidParameter(f"invalid filter 'status={value}'")
            if key == "health" and value not in HEALTH:
                raise InvalidParameter(f"invalid filter 'health={value}'")
            if key == "exited" and not re.fullmatch(r"-?[0-9]{1,9}", value):
                raise InvalidParameter(f"invalid filter 'exited={value}'")
            if key == "is-task" and value.lower() not in ("true", "false", "1", "0"):
                raise InvalidParameter(f"invalid filter 'is-task={value}'")
            if key in ("publish", "expose"):
                validate.parse_port(value)


def _find(containers: Sequence[Container], ref: str) -> Container:
    plain = ref.removeprefix("/")
    for container in containers:
        if plain in (container.id, container.name):
            return container
    prefixed = [container for container in containers if plain and container.id.startswith(plain)]
    if len(prefixed) != 1:
        raise NotFound(f"No such container: {ref}")
    return prefixed[0]


def _matches(container: Container, query: _Query) -> bool:
    if not query.newer_than < container.created_ns < query.older_than:
        return False
    return all(
        key in ("since", "before") or _matches_key(container, key, values, query)
        for key, values in query.filters.items()
    )


def _matches_key(container: Container, key: str, values: Sequence[str], query: _Query) -> bool:
    if key == "id":
        return any(matches_pattern(value, container.id) for value in values)
    if key == "name":
        return any(
            matches_pattern(value, container.name) or matches_pattern(value, f"/{container.name}")
            for value in values
        )
    if key == "label":
        return match_labels(container.config.labels, values)
    if key == "status":
        return container.state.status in values
    if key == "exited":
        return container.state.status == "exited" and str(container.state.exit_code) in values
    if key == "ancestor":
        return container.image_id in query.images or container.config.image in values
    if key == "volume":
        points = {
            text for point in container.mounts for text in (point.name, point.destination, point.source)
        }
        return any(value in points for value in values if value)
    if key == "network":
        return bool(set(values) & set(query.lookups.networks(container)))
    if key == "health":
        return query.lookups.health(container) in values
    if key == "isolation":
        return "default" in values
    if key == "is-task":
        return all(value.lower() in ("false", "0") for value in values)
    ports = query.lookups.published(container) if key == "publish" else container.config.exposed_ports
    return any(_port_matches(value, port) for value in values for port in ports)


def matches_pattern(pattern: str, text: str) -> bool:
    """Docker's filters are regular expressions that match anywhere; a broken one is plain text.

    So is one that could take exponential time here, where the engine backtracks (Docker's does not).
    """
    if pattern in text:
        return True
    if len(pattern) > 256 or len(_QUANTIFIER.findall(pattern)) > 3 or _NESTED.search(pattern):
        return False
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _port_matches(wanted: str, port: str) -> bool:
    numbers, protocol = validate.parse_port(wanted)
    have, have_protocol = validate.parse_port(port)
    return protocol == have_protocol and any(number in have for number in numbers)


def match_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether ``labels`` has every ``key`` or ``key=value`` of ``wanted``."""
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def prunable(containers: Iterable[Container], wanted: Mapping[str, Sequence[str]]) -> list[Container]:
    """What ``POST /containers/prune`` removes: containers that do not run and match.

    ``wanted``: ``label``, ``label!`` (not these), ``until`` (created before; a timestamp or a duration).
    """
    limit_ns = min((moment(text) for text in wanted.get("until", ())), default=1 << 63)
    return [
        container
        for container in containers
        if container.state.status in ("created", "exited", "dead")
        and container.created_ns < limit_ns
        and match_labels(container.config.labels, wanted.get("label", ()))
        and not (wanted.get("label!") and match_labels(container.config.labels, wanted["label!"]))
    ]
