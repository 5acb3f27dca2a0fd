"""Which variables an instruction sees: ENV before ARG, ARG only once declared. Pure.

Source: docs.docker.com/reference/dockerfile § ARG, "Scope", "Using ARG variables", "Predefined ARGs".
"""

from collections.abc import Mapping

from minid.build.dockerfile import PREDEFINED_ARGS, expand
from minid.build.dockerfile.model import Arg


class Scope:
    """The arguments of one stage, or (``globals_`` None) those before the first FROM."""

    def __init__(
        self,
        given: Mapping[str, str | None],
        platform: Mapping[str, str],
        globals_: "Scope | None" = None,
        *,
        escape: str = "\\",
    ) -> None:
        """``given``: ``--build-arg``; a None leaves the default. ``platform``: TARGETPLATFORM and its like."""
        self._given = {name: value for name, value in given.items() if value is not None}
        self._platform = platform
        self._globals = globals_
        self._escape = escape
        self._values: dict[str, str | None] = {} if globals_ else dict(platform)
        self._env: Mapping[str, str] = {}
        self.declared: set[str] = set()

    def see(self, env: Mapping[str, str]) -> None:
        """From now on the stage's environment is ``env``."""
        self._env = env

    def declare(self, instruction: Arg) -> list[tuple[str, str | None]]:
        """An ARG; the names with the values that they now have. Its defaults see the values before the line."""
        result: list[tuple[str, str | None]] = []
        for definition in instruction.definitions:
            name = definition.name
            default = definition.default
            value = None if default is None else expand(default, self.lookup, escape=self._escape)
            if name in self._given:
                value = self._given[name]
            elif value is None:
                value = self._inherited(name)
            result.append((name, value))
        self._values |= dict(result)
        self.declared |= {name for name, _ in result}
        return result

    def inherit(self, parent: "Scope") -> None:
        """Begin with the arguments of the stage that FROM names."""
        self._values |= parent._values
        self.declared |= parent.declared

    def _inherited(self, name: str) -> str | None:
        if self._globals is not None and self._globals.lookup(name) is not None:
            return self._globals.lookup(name)
        return self._platform.get(name)

    def lookup(self, name: str) -> str | None:
        """The value that ``$name`` has, or None."""
        if name in self._env:
            return self._env[name]
        if self._values.get(name) is not None:
            return self._values[name]
        return self._given.get(name) if name in PREDEFINED_ARGS else None

    def arguments(self) -> dict[str, str]:
        """What RUN sees beside ENV: declared arguments that have a value and are no ENV; they count for the cache."""
        return {
            name: value
            for name, value in sorted(self._values.items())
            if value is not None and name in self.declared and name not in self._env
        }

    def proxies(self) -> dict[str, str]:
        """Predefined arguments that were given and not declared: RUN sees them, nothing remembers them."""
        return {
            name: value
            for name, value in sorted(self._given.items())
            if name in PREDEFINED_ARGS and name not in self.declared and name not in self._env
        }
