"""What `run`, `start -a` and `attach` have in common: a container's stream, its signals and its end."""

from __future__ import annotations

from minictl import jsontext, signals, streams, terminal
from minictl.engine import segment
from minictl.errors import ApiError, ConnectError, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.engine import Engine
    from minictl.http import Response

_ENDING = (signals.NUMBERS["INT"], signals.NUMBERS["TERM"])
_PATIENCE = 3  # the process in the container may ignore them: the user must get out all the same


class Attached:
    """One container that this process is attached to.

    Made before the container starts: `attach` and `expect_exit` ask for the stream and for the exit status
    ahead of the start, so that neither can be missed however fast the container ends. Call `close` in the
    end.
    """

    def __init__(self, engine: Engine, container: str, *, tty: bool, proxy: bool) -> None:
        self.engine = engine
        self.path = f"/containers/{segment(container)}"
        self.tty = tty
        self._asked_to_end = 0
        self._session: streams.Session | None = None
        self._exit: Response | None = None
        self._proxy = proxy
        self._signals: signals.SignalPipe | None = None
        if proxy or tty:
            self._signals = signals.SignalPipe(
                proxy=proxy, resize=tty and terminal.is_terminal(1), ending=tty
            )

    def open(self, *, stdin: bool, stdout: bool, stderr: bool, detach_keys: str, wait_for: str) -> None:
        """Attaches, and asks for the exit with condition `wait_for` ("" for: don't ask). Both requests go at
        once.
        """
        keys = terminal.parse_detach_keys(detach_keys)
        query = {
            "detachKeys": detach_keys,
            "stderr": stderr or None,
            "stdin": stdin or None,
            "stdout": stdout or None,
            "stream": True,
        }
        attaching = self.engine.upgrade(f"{self.path}/attach", query)
        waiting = None
        if wait_for:
            waiting = self.engine.send("POST", f"{self.path}/wait", {"condition": wait_for})
        answer = self.engine.receive(attaching)
        if answer.status not in (101, 200):
            raise ConnectError(f"unable to upgrade to tcp, received {answer.status}")
        if waiting:
            self._exit = self.engine.receive(waiting)
        self._session = streams.Session(
            attaching,
            tty=self.tty,
            stdin=stdin,
            detach_keys=keys,
            signals=self._signals,
            on_signal=self._on_signal,
        )

    def expect_exit(self, condition: str) -> None:
        self._exit = self.engine.request("POST", f"{self.path}/wait", {"condition": condition})

    def start(self) -> None:
        self.engine.call("POST", f"{self.path}/start")

    def stream(self, *, redraw: bool = False) -> bool:
        """Carries the stream until it ends; False when the user has detached instead.

        `redraw`: the size is changed and changed back, so that a program that is already on the screen draws
        anew.
        """
        assert self._session
        if self.tty:
            if redraw:
                self.resize(1)
            self.resize()
        self._session.run()
        return not self._session.detached

    def exit_status(self) -> int:
        """Waits for the answer to `open(wait_for=…)`. Raises Failure with the daemon's own error."""
        assert self._exit
        if not self._exit.ready:
            streams.wait_readable(self._exit.connection, self._signals, self._on_signal)
        try:
            answer = jsontext.loads(self._exit.read())
        except ConnectError as error:
            raise Failure(f"error waiting for container: {error.message}", 125) from None
        except ValueError:
            raise Failure("error waiting for container: unexpected EOF", 125) from None
        problem = (answer.get("Error") or {}).get("Message")
        if problem:
            raise Failure(f"Error waiting for container: {problem}", 125)
        return int(answer["StatusCode"])

    def resize(self, more: int = 0) -> None:
        height, width = terminal.size()
        if height and width:
            try:
                self.engine.call("POST", f"{self.path}/resize", {"h": height + more, "w": width + more})
            except (ApiError, ConnectError):  # it has just ended
                pass

    def restore(self) -> None:
        if self._session:
            self._session.restore()

    def close(self) -> None:
        self.restore()
        if self._signals:
            self._signals.close()
            self._signals = None

    def _on_signal(self, number: int) -> None:
        if number == signals.WINCH:
            self.resize()
        elif self._proxy:
            self._asked_to_end += number in _ENDING
            if self._asked_to_end == _PATIENCE:
                raise Failure(f"\ngot {_PATIENCE} SIGTERM/SIGINTs, forcefully exiting")
            try:
                self.engine.call("POST", f"{self.path}/kill", {"signal": signals.name_of(number)})
            except (ApiError, ConnectError):  # not running any more: nothing is left to be told
                pass
            if (
                self.tty and number == signals.NUMBERS["HUP"]
            ):  # the terminal has gone, and with it what this is for
                self.restore()
                signals.die_of(number)
        else:
            self.restore()
            signals.die_of(number)
