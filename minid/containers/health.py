"""Health checks: what is run, when, and what its results make of a container. Pure.

Sources: Engine API v1.44 ``HealthConfig``, ``Health``; what the definitions leave open was compared with dockerd.
"""

import dataclasses

from minid.containers.model import Container, ContainerConfig, Health, Healthcheck, HealthResult

INTERVAL_NS = 30_000_000_000
TIMEOUT_NS = 30_000_000_000
START_INTERVAL_NS = 5_000_000_000
RETRIES = 3
LOG_MAX = 5
OUTPUT_BYTES = 4096
NOT_RUN = -1  # the exit code of a check that could not be run, or was killed
SHELL = ("/bin/sh", "-c")
ACTIONS = ("", "none", "kill", "restart", "stop")


def command(config: ContainerConfig) -> tuple[str, ...]:
    """The program that checks, and its arguments; empty if there is no check."""
    test = config.healthcheck.test if config.healthcheck is not None else ()
    if len(test) < 2 or test[0] not in ("CMD", "CMD-SHELL"):
        return ()
    return test[1:] if test[0] == "CMD" else (*(config.shell or SHELL), *test[1:])


def checked(container: Container) -> bool:
    """Whether the container is to be checked while it runs; the steps of a build are not."""
    return bool(command(container.config)) and not container.hidden


def health_status(container: Container) -> str:
    """What lists show and filter by: starting, healthy, unhealthy, or none."""
    return "none" if container.state.health is None else container.state.health.status


def begun(container: Container) -> Health | None:
    """At a start. The results of the last run stay to be read; None if there is nothing to check."""
    if not checked(container):
        return None
    return Health(log=container.state.health.log if container.state.health is not None else ())


def interrupted(health: Health | None) -> Health | None:
    """At the end of a run, and at a pause: what is not checked is not known to be healthy (as dockerd has it)."""
    return None if health is None else dataclasses.replace(health, status="unhealthy")


def after(health: Health, check: Healthcheck, result: HealthResult, started_at_ns: int) -> Health:
    """What one more result makes of it. In the start period only a success counts."""
    log = (*health.log, result)[-LOG_MAX:]
    if result.exit_code == 0:
        return Health("healthy", 0, log, was_healthy=True)
    if health.status == "starting" and result.start_ns - started_at_ns < check.start_period:
        return dataclasses.replace(health, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= (check.retries or RETRIES) else health.status
    return dataclasses.replace(health, status=status, failing_streak=streak, log=log)


def next_check_ns(container: Container, now_ns: int) -> int:
    """When the next check is due, in nanoseconds since the epoch: an interval after the last one's end."""
    state, check = container.state, container.config.healthcheck
    assert check is not None and state.health is not None
    interval_ns = check.interval or INTERVAL_NS
    starting = state.health.status == "starting" and now_ns - state.started_at_ns < check.start_period
    if starting:
        interval_ns = check.start_interval or START_INTERVAL_NS
    last_ns = max([state.started_at_ns, *(result.end_ns for result in state.health.log)])
    return min(last_ns, now_ns) + interval_ns  # the clock may have been put back


def timeout_ns(check: Healthcheck) -> int:
    return check.timeout or TIMEOUT_NS


def kept_output(data: bytes) -> str:
    """The first ``OUTPUT_BYTES`` of what it printed."""
    text = data[:OUTPUT_BYTES].decode("utf-8", "replace")
    return text + "..." if len(data) > OUTPUT_BYTES else text


def timeout_text(check: Healthcheck, output: str) -> str:
    """What is shown instead of the output of a check that took too long: that, and the output."""
    text = f"Health check exceeded timeout ({duration(timeout_ns(check))})"
    return f"{text}: {output}" if output else text


def duration(duration_ns: int) -> str:
    """As Go prints a time.Duration: ``500ms``, ``1.5s``, ``1m30s``, ``1h0m0s``."""
    for unit_ns, name in ((1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")):
        if duration_ns < unit_ns:
            return f"{_decimal(duration_ns, unit_ns // 1000)}{name}"
    minutes, rest_ns = divmod(duration_ns, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest_ns, 1_000_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")
