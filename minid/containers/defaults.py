"""What the daemon's configuration adds to a request that left it open. Pure."""

import dataclasses

from minid.config import Config
from minid.containers.model import HostConfig, LogConfig, Ulimit
from minid.containers.spec import MASKED_PATHS, READONLY_PATHS


def apply(host_config: HostConfig, config: Config) -> HostConfig:
    """``host_config`` with the daemon's ``log-driver``, ``log-opts``, ``default-ulimits``, ``init`` … where
    it says nothing.
    """
    log = host_config.log_config
    if not log.type:
        log = LogConfig(config.log_driver, {**config.log_opts, **log.config})
    named = {ulimit.name for ulimit in host_config.ulimits or ()}
    ulimits = tuple(
        Ulimit(name, limit.soft, limit.hard)
        for name, limit in config.default_ulimits.items()
        if name not in named
    )
    security = host_config.security_opt
    if config.no_new_privileges and not any("no-new-privileges" in option for option in security or ()):
        security = (*(security or ()), "no-new-privileges")
    if config.seccomp_profile == "unconfined" and not any(
        option.startswith("seccomp") for option in security or ()
    ):
        security = (*(security or ()), "seccomp=unconfined")
    return dataclasses.replace(
        host_config,
        log_config=log,
        ulimits=(*(host_config.ulimits or ()), *ulimits) or host_config.ulimits,
        security_opt=security,
        shm_size=host_config.shm_size or config.default_shm_size_bytes,
        init=config.init if host_config.init is None and config.init else host_config.init,
        dns=host_config.dns or config.dns or host_config.dns,
        dns_options=host_config.dns_options or config.dns_opts or host_config.dns_options,
        dns_search=host_config.dns_search or config.dns_search or host_config.dns_search,
        ipc_mode=host_config.ipc_mode or config.default_ipc_mode,
        masked_paths=_or_default(host_config, host_config.masked_paths, MASKED_PATHS),
        readonly_paths=_or_default(host_config, host_config.readonly_paths, READONLY_PATHS),
        # "private" is what merging chooses anyway, except where another namespace is shared.
        cgroupns_mode=host_config.cgroupns_mode or ("host" if config.default_cgroupns_mode == "host" else ""),
    )


def _or_default(
    host_config: HostConfig, given: tuple[str, ...] | None, default: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Inspect shows the default paths like given ones; a privileged container has none."""
    return default if given is None and not host_config.privileged else given
