"""Sessions: what a client has ready for one build, handed over before it.

A session lives in memory (its contexts in nameless files), is used by one build, and is gone with that build, or when
nobody has used it for a minute.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minid.build.agents import Agent
from minid.build.context import Context
from minid.build.request import Session
from minid.errors import Conflict, InvalidParameter, NotFound

UNUSED_S = 60.0
SECRET_MAX_BYTES = 500 << 10  # as BuildKit
SECRETS_MAX = 100


@dataclass(slots=True)
class _Open:
    """A session of which ``use`` may be made once."""

    secrets: dict[str, bytes]
    agents: dict[str, Agent]
    contexts: dict[str, Context | str] = field(default_factory=dict)
    used: bool = False
    timer: asyncio.TimerHandle | None = None


class Sessions:
    """One a daemon. ``private`` is a directory in memory, where the sockets of agents are."""

    def __init__(self, private: Path) -> None:
        self._private = private
        self._open: dict[str, _Open] = {}

    def create(
        self, secrets_: Mapping[str, bytes], agents: Sequence[str], contexts: Mapping[str, str]
    ) -> str:
        """The id of a new session. ``contexts``: names that stand for images (``docker-image://…``) or stages
        (``target:…``). InvalidParameter for too many or too large secrets.
        """
        if len(secrets_) > SECRETS_MAX:
            raise InvalidParameter(f"{len(secrets_)} secrets are more than {SECRETS_MAX}")
        for name, content in secrets_.items():
            if len(content) > SECRET_MAX_BYTES:
                raise InvalidParameter(f"secret {name} has more than {SECRET_MAX_BYTES} bytes")
        session_id = secrets.token_hex(16)
        session = _Open(
            dict(secrets_),
            {name: Agent(self._private / f"{secrets.token_hex(8)}.sock") for name in agents},
            {name.lower(): place for name, place in contexts.items()},
        )
        self._open[session_id] = session
        self._expect(session_id)
        return session_id

    def add_context(self, session_id: str, name: str, context: Context) -> None:
        """Let ``name`` mean ``context``, which belongs to the session now. NotFound."""
        session = self._find(session_id)
        if not name or name.lower() in session.contexts:
            raise Conflict(f"the build context {name!r} is there already, or has no name")
        session.contexts[name.lower()] = context
        self._expect(session_id)

    def offer_agent(self, session_id: str, name: str, fd: int) -> None:
        """A connection of the client that waits for a program which wants the agent ``name``. NotFound."""
        agent = self.find_agent(session_id, name)
        agent.offer(fd)

    def find_agent(self, session_id: str, name: str) -> Agent:
        """NotFound."""
        agent = self._find(session_id).agents.get(name)
        if agent is None:
            raise NotFound(f"the build session has no ssh agent {name!r}")
        return agent

    @contextlib.contextmanager
    def use(self, session_id: str) -> Iterator[Session]:
        """The session, for one build; "" is an empty one. NotFound, Conflict (used already)."""
        if not session_id:
            yield Session()
            return
        session = self._find(session_id)
        if session.used:
            raise Conflict(f"the build session {session_id} is in use")
        session.used = True
        if session.timer is not None:
            session.timer.cancel()
        try:
            yield Session(
                session.secrets,
                {name: str(agent.path) for name, agent in session.agents.items()},
                session.contexts,
            )
        finally:
            self._drop(session_id)

    def close(self) -> None:
        for session_id in tuple(self._open):
            self._drop(session_id)

    def _find(self, session_id: str) -> _Open:
        session = self._open.get(session_id)
        if session is None:
            raise NotFound(
                f"no such build session: {session_id} (unused ones end after {UNUSED_S:.0f} seconds)"
            )
        return session

    def _expect(self, session_id: str) -> None:
        """A build within ``UNUSED_S`` from now."""
        session = self._open[session_id]
        if session.timer is not None:
            session.timer.cancel()
        if not session.used:
            loop = asyncio.get_running_loop()
            session.timer = loop.call_later(UNUSED_S, self._drop, session_id)

    def _drop(self, session_id: str) -> None:
        session = self._open.pop(session_id, None)
        if session is None:
            return
        if session.timer is not None:
            session.timer.cancel()
        for agent in session.agents.values():
            agent.close()
        for context in session.contexts.values():
            if isinstance(context, Context):
                context.close()
