"""A request completed: by the image's config, as dockerd merges them, and by the daemon's defaults. Pure.

Source: Engine API v1.44 ``ContainerConfig``; OCI image-spec config.md.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from minid.containers import resources
from minid.containers.host import Host
from minid.containers.model import ContainerConfig, Healthcheck, HostConfig, LogConfig, RestartPolicy
from minid.errors import InvalidParameter

SHM_SIZE_BYTES = 64 << 20


def merge(config: ContainerConfig, image_config: Mapping[str, Any]) -> ContainerConfig:
    """``config`` with the image's presets where the user gave nothing.

    ``image_config``: the ``config`` object of the image's config JSON (CamelCase keys, any may be missing or
    null), or the whole document. Raises InvalidParameter when no command is left to run.
    """
    preset = image_config.get("config") or {} if "rootfs" in image_config else image_config
    entrypoint, cmd = config.entrypoint, config.cmd
    args_escaped = config.args_escaped
    # A new entrypoint makes the image's arguments meaningless; an empty one ([]) only removes the image's.
    if not entrypoint:
        if not cmd:
            cmd = _strings(preset.get("Cmd"))
            args_escaped = bool(preset.get("ArgsEscaped")) or args_escaped
        if entrypoint is None:
            entrypoint = _strings(preset.get("Entrypoint"))
    if entrypoint == ("",):  # --entrypoint "": none at all
        entrypoint = None
    if not entrypoint and not cmd:
        raise InvalidParameter("no command specified")
    return dataclasses.replace(
        config,
        user=config.user or preset.get("User") or "",
        exposed_ports={**(preset.get("ExposedPorts") or {}), **config.exposed_ports},
        env=merge_env(config.env, preset.get("Env") or ()),
        labels={**(preset.get("Labels") or {}), **config.labels},
        volumes={**(preset.get("Volumes") or {}), **config.volumes},
        working_dir=config.working_dir or preset.get("WorkingDir") or "",
        stop_signal=config.stop_signal or preset.get("StopSignal") or "",
        shell=config.shell if config.shell is not None else _strings(preset.get("Shell")),
        on_build=config.on_build if config.on_build is not None else _strings(preset.get("OnBuild")),
        healthcheck=_merge_healthcheck(config.healthcheck, preset.get("Healthcheck")),
        entrypoint=entrypoint,
        cmd=cmd,
        args_escaped=args_escaped,
    )


def _strings(value: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def merge_env(env: Iterable[str], preset: Iterable[str]) -> tuple[str, ...]:
    """The user's variables, then the image's that the user did not name. A bare ``NAME`` (no ``=``) takes it
    away.
    """
    given = tuple(env)
    names = {item.partition("=")[0] for item in given}
    return given + tuple(item for item in preset if item.partition("=")[0] not in names)


def _merge_healthcheck(wanted: Healthcheck | None, preset: Mapping[str, Any] | None) -> Healthcheck | None:
    if preset is None:
        return wanted
    image = Healthcheck(
        test=tuple(preset.get("Test") or ()),
        interval=preset.get("Interval") or 0,
        timeout=preset.get("Timeout") or 0,
        start_period=preset.get("StartPeriod") or 0,
        start_interval=preset.get("StartInterval") or 0,
        retries=preset.get("Retries") or 0,
    )
    if wanted is None:
        return image
    return Healthcheck(
        test=wanted.test or image.test,
        interval=wanted.interval or image.interval,
        timeout=wanted.timeout or image.timeout,
        start_period=wanted.start_period or image.start_period,
        start_interval=wanted.start_interval or image.start_interval,
        retries=wanted.retries or image.retries,
    )


def command(config: ContainerConfig) -> tuple[str, tuple[str, ...]]:
    """``(path, args)`` of a merged config: inspect's ``Path`` and ``Args``."""
    words = (config.entrypoint or ()) + (config.cmd or ())
    if not words:
        raise InvalidParameter("no command specified")
    return words[0], words[1:]


def with_defaults(
    config: ContainerConfig, host_config: HostConfig, *, container_id: str, host: Host
) -> tuple[ContainerConfig, HostConfig]:
    """What inspect shows for fields that were not given: hostname, shm size, log driver, modes, restart
    policy.
    """
    if not config.hostname and not host_config.network_mode.startswith("container:"):
        own = host_config.network_mode == "host" or host_config.uts_mode == "host"
        config = dataclasses.replace(config, hostname=host.hostname if own else container_id[:12])
    log = host_config.log_config
    # On v1 a privileged container may need to see the machine's hierarchy; on v2 Docker unshares always.
    shared = host_config.privileged and host.cgroup_version == 1
    host_config = dataclasses.replace(
        resources.adapt(host_config),
        shm_size=host_config.shm_size or SHM_SIZE_BYTES,
        network_mode=host_config.network_mode or "default",
        ipc_mode=host_config.ipc_mode or "private",
        cgroupns_mode=host_config.cgroupns_mode or ("host" if shared else "private"),
        log_config=LogConfig(log.type or "json-file", log.config),
        restart_policy=RestartPolicy(
            host_config.restart_policy.name or "no", host_config.restart_policy.maximum_retry_count
        ),
    )
    return config, host_config


def seccomp_profile(text: str) -> dict[str, Any]:
    """A profile given as JSON text. Raises InvalidParameter."""
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise InvalidParameter("Decoding seccomp profile failed: it has no defaultAction")
    return profile
