"""The life of a container as a pure state machine, the words for it, and when it is started again.

    created ──start──▶ running ◀──pause/unpause──▶ paused
       ▲                 │ die
       │                 ▼
       │      exited ◀───┴───▶ restarting ──start──▶ running
       └─ (remove from created, exited, dead: removing ──▶ gone, or dead when that fails)

Source: Engine API v1.44 ``ContainerState``; moby's texts for what is not possible.
"""

from dataclasses import dataclass

from minid.containers.model import RestartPolicy, State
from minid.errors import Conflict, NotModified

STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")

# (status, action) → the status that follows.
TRANSITIONS: dict[tuple[str, str], str] = {
    ("created", "start"): "running",
    ("exited", "start"): "running",
    ("restarting", "start"): "running",
    ("running", "pause"): "paused",
    ("paused", "unpause"): "running",
    ("running", "die"): "exited",
    ("paused", "die"): "exited",
    ("running", "die-and-restart"): "restarting",
    ("paused", "die-and-restart"): "restarting",
    # A start that went wrong leaves a created container as it was, with the reason in State.error.
    ("created", "fail"): "created",
    ("exited", "fail"): "exited",
    ("restarting", "fail"): "exited",
    # Stopping a container that waits for its next start just ends the waiting.
    ("restarting", "stop"): "exited",
    ("running", "stop"): "running",
    ("paused", "stop"): "paused",
    ("running", "kill"): "running",
    ("paused", "kill"): "paused",
    ("running", "exec"): "running",
    ("running", "resize"): "running",
    ("paused", "resize"): "paused",
    ("running", "top"): "running",
    ("paused", "top"): "paused",
    ("created", "remove"): "removing",
    ("exited", "remove"): "removing",
    ("dead", "remove"): "removing",
    ("removing", "fail"): "dead",
}

RESTART_DELAY_NS = 100_000_000
RESTART_DELAY_MAXIMUM_NS = 60_000_000_000
# A container that ran this long has recovered; the next delay is the shortest one again.
RESTART_RESET_NS = 10_000_000_000


def after(status: str, action: str, *, ref: str) -> str:
    """The status after ``action``; ``ref`` is the container's id or name for the message.

    Actions: start, pause, unpause, die, die-and-restart, fail, stop, kill, exec, resize, top, remove.
    Raises NotModified (start of a running container, stop of a stopped one) or Conflict.
    """
    follows = TRANSITIONS.get((status, action))
    if follows is None:
        raise _illegal(status, action, ref)
    return follows


def _illegal(status: str, action: str, ref: str) -> Conflict | NotModified:
    if status == "removing":
        return Conflict(f"removal of container {ref} is already in progress")
    if status == "dead" and action != "remove":
        return Conflict(f"container {ref} is dead and must be removed")
    if action == "start":
        if status == "paused":
            return Conflict("cannot start a paused container, try unpause instead")
        return NotModified(f"container {ref} is already running")
    if action == "stop":
        return NotModified(f"container {ref} is already stopped")
    if action == "kill":
        return Conflict(f"cannot kill container: {ref}: container {ref} is not running")
    if action == "pause" and status == "paused":
        return Conflict(f"Container {ref} is already paused")
    if action == "unpause":
        return Conflict(f"Container {ref} is not paused")
    if action == "exec" and status == "paused":
        return Conflict(f"Container {ref} is paused, unpause the container before exec")
    if action == "remove":
        name = f"/{ref.removeprefix('/')}"
        if status == "paused":
            return Conflict(
                f'cannot remove container "{name}": container is paused and must be unpaused first'
            )
        return Conflict(
            f'cannot remove container "{name}": container is {status}: '
            "stop the container before removing or force remove"
        )
    if status == "restarting":
        return Conflict(f"Container {ref} is restarting, wait until the container is running")
    return Conflict(f"container {ref} is not running")


@dataclass(frozen=True, slots=True)
class Restart:
    """``delay_ns``: how long to wait before the next start."""

    delay_ns: int


def restart(
    policy: RestartPolicy,
    *,
    exit_code: int,
    restart_count: int,
    previous_delay_ns: int,
    ran_ns: int,
    stopped_by_user: bool,
    due: bool = False,
    recovered: bool = True,
) -> Restart | None:
    """Whether and when a container that has just ended is started again.

    ``restart_count``: starts by the policy so far. ``previous_delay_ns``: of the last such start, 0 for
    none. ``ran_ns``: how long the container has just run. ``due``: it was ended in order to be started again,
    which only the number of an on-failure policy limits. ``recovered`` False: however long it ran, it was no good.
    """
    if stopped_by_user:
        return None
    if policy.name == "on-failure":
        if (exit_code == 0 and not due) or (
            policy.maximum_retry_count and restart_count >= policy.maximum_retry_count
        ):
            return None
    elif policy.name not in ("always", "unless-stopped") and not due:
        return None
    if previous_delay_ns == 0 or (recovered and ran_ns >= RESTART_RESET_NS):
        return Restart(RESTART_DELAY_NS)
    return Restart(min(previous_delay_ns * 2, RESTART_DELAY_MAXIMUM_NS))


def starts_with_daemon(policy: RestartPolicy, state: State) -> bool:
    """Whether a container that is found dead when the daemon starts is to be started."""
    was_running = state.running or state.status == "restarting"
    if state.ended_by_health == "restart" and not state.stopped_by_user:
        limit = policy.maximum_retry_count if policy.name == "on-failure" else 0
        return limit == 0 or state.restart_count < limit
    if policy.name == "always":
        return was_running or state.started_at_ns > 0
    if policy.name == "unless-stopped":
        return was_running or (state.started_at_ns > 0 and not state.stopped_by_user)
    if policy.name == "on-failure":
        failed = was_running or (
            state.exit_code != 0 and not state.stopped_by_user and state.started_at_ns > 0
        )
        limit = policy.maximum_retry_count
        return failed and (limit == 0 or state.restart_count < limit)
    return False


def human_duration(duration_ns: int) -> str:
    """``Less than a second``, ``About a minute``, ``3 hours`` …: the words of ``docker ps``."""
    seconds = duration_ns // 1_000_000_000
    minutes, hours = seconds // 60, (seconds + 1800) // 3600
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"


def status_text(state: State, now_ns: int, health: str = "") -> str:
    """The STATUS column: ``Up 5 minutes (healthy)``, ``Exited (0) 3 seconds ago``; ``health`` "" or "none"
    for no check.
    """

    def since(then_ns: int) -> str:
        return human_duration(max(now_ns - then_ns, 0))

    if state.status == "paused":
        return f"Up {since(state.started_at_ns)} (Paused)"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {since(state.finished_at_ns)} ago"
    if state.status == "running":
        up = f"Up {since(state.started_at_ns)}"
        if health in ("", "none"):
            return up
        return f"{up} (health: starting)" if health == "starting" else f"{up} ({health})"
    if state.status == "removing":
        return "Removal In Progress"
    if state.status == "dead":
        return "Dead"
    if state.started_at_ns == 0:
        return "Created"
    if state.finished_at_ns == 0:
        return ""
    return f"Exited ({state.exit_code}) {since(state.finished_at_ns)} ago"
