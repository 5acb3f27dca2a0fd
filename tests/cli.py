"""Command line clients as a person uses them: the docker CLI and minictl, by pipes or on a real terminal."""

import os
import subprocess
from dataclasses import dataclass, field

from tests.terminal import Terminal

TIMEOUT_S = 60


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str
    raw_out: bytes = b""

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True)
class Cli:
    """A client bound to one daemon. Called with arguments it runs to the end, whatever the exit status."""

    name: str  # docker, minictl
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def _environment(self, extra: dict[str, str] | None) -> dict[str, str]:
        return {**os.environ, "TERM": "xterm", **self.environment, **(extra or {})}

    def __call__(
        self,
        *args: str,
        stdin: str | bytes | None = None,
        timeout_s: float = TIMEOUT_S,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*self.argv, *args],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout_s,
            env=self._environment(env),
            cwd=cwd,
            check=False,
        )
        return Result(
            done.returncode,
            done.stdout.decode(errors="surrogateescape"),
            done.stderr.decode(errors="surrogateescape"),
            done.stdout,
        )

    def ok(self, *args: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> str:
        """Run; fail unless the exit status is 0; return what was printed, without the last newline."""
        result = self(*args, stdin=stdin, env=env)
        assert result.code == 0, f"{self.name} {' '.join(args)}: exit {result.code}\n{result.out}{result.err}"
        return result.out.removesuffix("\n")

    def popen(self, *args: str, stdin: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        """Run with pipes and return at once; the caller ends it (use ``with``)."""
        return subprocess.Popen(
            [*self.argv, *args],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(None),
        )

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
        """Run on a pseudo terminal (use ``with``)."""
        return Terminal([*self.argv, *args], self._environment(None), rows=rows, columns=columns)
