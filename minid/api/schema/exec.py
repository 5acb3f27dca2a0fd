"""Execs in Docker's JSON (``Engine API v1.44 GET /exec/{id}/json``)."""

from typing import Any

from minid.containers.model import Exec


def inspect(exec: Exec) -> dict[str, Any]:
    config = exec.config
    process: dict[str, Any] = {
        "tty": config.tty,
        "entrypoint": config.cmd[0] if config.cmd else "",
        "arguments": list(config.cmd[1:]),
        "privileged": config.privileged,
    }
    if config.user:
        process["user"] = config.user
    return {
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": exec.can_remove,
        "ContainerID": exec.container_id,
        "DetachKeys": config.detach_keys,
        "Pid": exec.pid,
    }
