"""Which request is which operation: a pure table of method and path, without HTTP machinery.

Paths are those of the Engine API without the version prefix; ``{id}`` takes one path segment, ``{name:.*}``
slashes too (an image's name). A path that exists with another method is not found, as in dockerd.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Handler = Callable[[Any], Awaitable[Any]]

_PARAMETER = re.compile(r"\{(\w+)(?::([^}]+))?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``stoppable``: it ends when its client goes away; the others always run to their end."""

    method: str
    template: str
    pattern: re.Pattern[str]
    operation: str
    handler: Handler
    stoppable: bool


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    parameters: dict[str, str]


class Routes:
    """Collects the operations of one noun by decorator; the handler's name is the operation's name."""

    def __init__(self) -> None:
        self.all: list[Route] = []

    def add(self, method: str, template: str, *, stoppable: bool = False) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.all.append(
                Route(method, template, compile_template(template), handler.__name__, handler, stoppable)
            )
            return handler

        return register

    def get(self, template: str, *, stoppable: bool = False) -> Callable[[Handler], Handler]:
        return self.add("GET", template, stoppable=stoppable)

    def post(self, template: str, *, stoppable: bool = False) -> Callable[[Handler], Handler]:
        return self.add("POST", template, stoppable=stoppable)

    def delete(self, template: str) -> Callable[[Handler], Handler]:
        return self.add("DELETE", template)


class Router:
    """Finds the route of a request; the first that fits wins."""

    def __init__(self, *groups: Routes) -> None:
        self._by_head: dict[tuple[str, str], list[Route]] = {}
        for group in groups:
            for route in group.all:
                self._by_head.setdefault((route.method, _head(route.template)), []).append(route)

    def find(self, method: str, path: str) -> Match | None:
        for route in self._by_head.get((method, _head(path)), ()):
            if found := route.pattern.fullmatch(path):
                return Match(route, found.groupdict())
        return None

    def operations(self) -> list[Route]:
        return [route for routes in self._by_head.values() for route in routes]


def compile_template(template: str) -> re.Pattern[str]:
    """``/images/{name:.*}/json`` as a regular expression with named groups."""
    pattern, end = "", 0
    for part in _PARAMETER.finditer(template):
        pattern += re.escape(template[end : part.start()]) + f"(?P<{part[1]}>{part[2] or '[^/]+'})"
        end = part.end()
    return re.compile(pattern + re.escape(template[end:]))


def _head(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""
