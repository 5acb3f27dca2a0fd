"""The caller's SSH agent for `RUN --mount=type=ssh`: connections that wait at the daemon are joined to it one by one.

For each name at least one upgraded connection waits. Its first byte means that a program in the build has connected:
then the agent is connected to, and another one waits.
"""

from __future__ import annotations

import _socket
import os
import stat

from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.engine import Engine
    from minictl.http import Connection

_READ_BYTES = 64 * 1024


class Waiting:
    """A connection that the daemon has not used yet; `upgraded` once it has answered."""

    __slots__ = ("connection", "name", "upgraded")

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection
        self.upgraded = False


class Agents:
    """An attendant of the exchange: `fds` are watched, `ready` does what is to be done."""

    def __init__(self, engine: Engine, session: str, sources: list[tuple[str, list[str]]]) -> None:
        """`sources`: (name, paths) as `session.ssh_sources` gives them. Raises Failure for keys that can't be used."""
        self._engine = engine
        self._session = session
        self._sockets: dict[str, str] = {}
        self._own: list[OwnAgent] = []
        self._waiting: dict[int, Waiting] = {}
        self._joined: dict[int, tuple[_socket.socket, _socket.socket]] = {}
        for name, paths in sources:
            self._sockets[name] = self._socket_of(paths)
            self._wait(name)

    def fds(self) -> list[int]:
        return [*self._waiting, *self._joined]

    def ready(self, fd: int) -> None:
        if fd in self._waiting:
            self._used(fd)
        elif fd in self._joined:
            self._pump(fd)

    def close(self) -> None:
        for waiting in self._waiting.values():
            waiting.connection.close()
        for source, _ in self._joined.values():
            source.close()
        for agent in self._own:
            agent.close()
        self._waiting, self._joined, self._own = {}, {}, []

    def _socket_of(self, paths: list[str]) -> str:
        if not paths:
            return os.environ["SSH_AUTH_SOCK"]
        try:
            if len(paths) == 1 and stat.S_ISSOCK(os.stat(paths[0]).st_mode):
                return paths[0]
        except OSError as error:
            raise Failure(f"--ssh: {paths[0]}: {(error.strerror or str(error)).lower()}") from None
        agent = OwnAgent(paths)
        self._own.append(agent)
        return agent.socket

    def _wait(self, name: str) -> None:
        connection = self._engine.upgrade(f"/build/session/{self._session}/ssh", {"name": name})
        self._waiting[connection.sock.fileno()] = Waiting(name, connection)

    def _used(self, fd: int) -> None:
        waiting = self._waiting[fd]
        connection = waiting.connection
        if not waiting.upgraded:
            self._engine.receive(connection)
            waiting.upgraded = True
            if not connection.buffer:
                return
        data = connection.buffer or connection.read_some()
        connection.buffer = b""
        del self._waiting[fd]
        if not data:  # the build has ended, or it has no use for one more
            connection.close()
            return
        self._wait(waiting.name)
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            agent.connect(self._sockets[waiting.name])
            agent.sendall(data)
        except OSError as error:
            agent.close()
            connection.close()
            path = self._sockets[waiting.name]
            raise Failure(f"the SSH agent at {path} does not answer: {error.strerror}") from None
        self._joined[fd] = (connection.sock, agent)
        self._joined[agent.fileno()] = (agent, connection.sock)

    def _pump(self, fd: int) -> None:
        """The agent's protocol is one question and one answer at a time, and short: sent as it comes."""
        source, target = self._joined[fd]
        try:
            data = source.recv(_READ_BYTES)
            if data:
                target.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (source, target):
                self._joined.pop(end.fileno(), None)
                end.close()


class OwnAgent:
    """An ssh-agent that holds the keys `paths`, until `close`."""

    def __init__(self, paths: list[str]) -> None:
        import subprocess
        import tempfile

        self._directory = tempfile.mkdtemp(prefix="minictl-ssh-")
        self.socket = os.path.join(self._directory, "agent")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                ["ssh-agent", "-D", "-a", self.socket],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert self._process.stdout
            self._process.stdout.readline()  # it says where it listens, when it does
            environment = {**os.environ, "SSH_AUTH_SOCK": self.socket}
            done = subprocess.run(
                ["ssh-add", *paths],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            self.close()
            raise Failure(
                f"--ssh with keys needs ssh-agent and ssh-add: {error.filename}: {error.strerror}"
            ) from None
        if done.returncode:
            self.close()
            raise Failure(f"--ssh: ssh-add: {done.stderr.decode('utf-8', 'replace').strip()}")

    def close(self) -> None:
        import shutil

        if self._process:
            self._process.terminate()
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
        shutil.rmtree(self._directory, ignore_errors=True)
