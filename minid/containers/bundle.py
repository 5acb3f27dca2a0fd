"""What is laid ready for a shim before a start: the OCI spec, the files under /etc, the compiled seccomp
filter.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from minid.containers import capabilities, devices, etcfiles, merge, resources, security, spec
from minid.containers.host import Host
from minid.containers.model import Container, ExecConfig
from minid.containers.mounts import clean
from minid.containers.networking import Networking
from minid.containers.tasks import TaskOptions
from minid.errors import Conflict, InvalidParameter
from minid.images.rootfs import Rootfs
from minid.kernel import seccomp
from minid.kernel.cgroups import Cgroup
from minid.layout import Layout


class Bundles:
    """Makes bundles; ``running`` finds the container that ``container:ID`` modes name and its pid."""

    def __init__(
        self,
        layout: Layout,
        host: Host,
        running: Callable[[str], Container],
        networking: Networking,
        default_profile: str = "",
    ) -> None:
        self._layout = layout
        self._host = host
        self._running = running
        self._networking = networking
        self._default_profile = default_profile

    def resources(self, container: Container) -> dict[str, Any]:
        """``linux.resources`` with the device rules that a runtime adds by itself."""
        nodes = devices.gather(container.host_config)
        listed = devices.rules(container.host_config, nodes)
        if not container.host_config.privileged:
            listed = [*listed, *devices.RUNTIME_RULES]
        result = resources.section(container.host_config, listed, self._host)
        result["devices"] = listed
        return result

    def spec(self, container: Container) -> dict[str, Any]:
        """The OCI runtime spec; writes the files under /etc that it binds."""
        return spec.build(
            self._with_hostname(container),
            host=self._host,
            rootfs_path="rootfs",
            etc_files=self._etc_files(container),
            cgroup_path=f"/{container.id}",
            nodes=devices.gather(container.host_config),
            join=self._join(container),
            shm_source=self._shm_source(container),
            linked=self._networking.links.environment(container),
        )

    def _etc_files(self, container: Container) -> Mapping[str, str]:
        mode = container.host_config.network_mode
        if mode.startswith("container:"):
            return etcfiles.paths(self._layout.container(self._network_owner(container).id))
        return etcfiles.write(
            container,
            self._layout.container(container.id),
            self._networking.hosts.lines(container),
            self._networking.hosts.gateways,
            nameserver=self._networking.has_nameserver(container),
        )

    def _with_hostname(self, container: Container) -> Container:
        """Who shares a network has its owner's hostname too."""
        owner = self._network_owner(container)
        if owner is container or container.config.hostname:
            return container
        config = dataclasses.replace(
            container.config, hostname=owner.config.hostname, domainname=owner.config.domainname
        )
        return dataclasses.replace(container, config=config)

    def _as_started(self, container: Container) -> Container:
        """With the hostname that its run has been given, by a container that may have ended since."""
        mode = container.host_config.network_mode
        if container.config.hostname or not mode.startswith("container:"):
            return container
        bundle = self._layout.container(container.id) / "bundle/config.json"
        environment = json.loads(bundle.read_bytes())["process"]["env"]
        given = dict(entry.partition("=")[::2] for entry in environment).get("HOSTNAME", "")
        return dataclasses.replace(container, config=dataclasses.replace(container.config, hostname=given))

    def _network_owner(self, container: Container) -> Container:
        """Who the network belongs to: itself, or whom ``container:ID`` names in the end."""
        owner = container
        while owner.host_config.network_mode.startswith("container:"):
            owner = self._other(owner.host_config.network_mode)
            if owner.id == container.id:
                raise Conflict(f"cannot join own network: {container.id}")
        return owner

    def options(
        self, container: Container, spec: Mapping[str, Any], rootfs: Rootfs, cgroup: Cgroup
    ) -> TaskOptions:
        """What goes beside the spec, and what of the spec the shim itself has to know."""
        config, host_config = container.config, container.host_config
        return TaskOptions(
            rootfs=rootfs,
            terminal=bool(spec["process"].get("terminal")),
            namespaces={each["type"]: each.get("path", "") for each in spec["linux"]["namespaces"]},
            subpaths=self._subpaths(container),
            cgroup_paths=dict(cgroup.paths),
            cgroup_procs=tuple(cgroup.procs_files),
            cgroup_fork=cgroup.fork_directory,
            oom_file=cgroup.oom_file or "",
            seccomp=self._seccomp(container),
            seccomp_flags=self._seccomp_flags(container),
            user=config.user,
            group_add=tuple(host_config.group_add or ()),
            init=bool(host_config.init) and not host_config.pid_mode,
            open_stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            log={
                "path": container.log_path,
                "config": dict(host_config.log_config.config),
                "attributes": _log_attributes(container),
            },
        )

    def exec_body(self, container: Container, exec_config: ExecConfig) -> dict[str, Any]:
        """The body of a shim's ``exec``."""
        return {
            "process": spec.exec_process(
                self._as_started(container),
                exec_config,
                host=self._host,
                linked=self._networking.links.environment(container),
            ),
            "user": exec_config.user or container.config.user,
            "group_add": list(container.host_config.group_add or ()),
            "open_stdin": exec_config.attach_stdin,
            "seccomp": not (exec_config.privileged or container.host_config.privileged),
        }

    def _subpaths(self, container: Container) -> dict[str, str]:
        result = {}
        for point in container.mounts:
            volume = f"{self._layout.volumes / point.name / '_data'}/"
            if point.type == "volume" and point.source.startswith(volume):
                result[clean(point.destination)] = point.source.removeprefix(volume)
        return result

    def _join(self, container: Container) -> dict[str, str]:
        """Namespaces of other containers, as paths."""
        modes = {
            "network": container.host_config.network_mode,
            "pid": container.host_config.pid_mode,
            "ipc": container.host_config.ipc_mode,
        }
        files = {"network": "net", "pid": "pid", "ipc": "ipc"}
        result = {}
        for kind, mode in modes.items():
            if mode.startswith("container:"):
                other = self._other(mode)
                if kind == "ipc" and other.host_config.ipc_mode not in ("shareable", "host"):
                    raise InvalidParameter(
                        f"can't join IPC of container {other.id}: non-shareable IPC "
                        "(hint: use IpcMode:shareable for the donor container)"
                    )
                result[kind] = f"/proc/{other.state.pid}/ns/{files[kind]}"
        return result

    def _other(self, mode: str) -> Container:
        other = self._running(mode.partition(":")[2])
        if not other.state.running:
            raise Conflict(f"cannot join network or namespaces of a non running container: {other.id}")
        return other

    def _shm_source(self, container: Container) -> str:
        mode = container.host_config.ipc_mode
        return f"/proc/{self._other(mode).state.pid}/root/dev/shm" if mode.startswith("container:") else ""

    def _seccomp_flags(self, container: Container) -> int:
        text = security.parse(container.host_config).seccomp or self._default_profile
        return seccomp.flags(merge.seccomp_profile(text)) if text not in ("", "unconfined") else 0

    def _seccomp(self, container: Container) -> str:
        """The path of the compiled filter, made once for each profile and set of capabilities; "" if
        unconfined.
        """
        text = security.parse(container.host_config).seccomp
        if text == "unconfined":
            return ""
        granted, _ = capabilities.resolve(container.host_config, self._host.capabilities)
        text = text or self._default_profile
        key = hashlib.sha256(json.dumps([text, sorted(granted)]).encode()).hexdigest()
        path = self._layout.exec_root / "seccomp" / key
        if not path.exists():
            if text:
                try:
                    program = seccomp.compile(merge.seccomp_profile(text), granted)
                except (ValueError, OSError) as error:
                    raise InvalidParameter(f"seccomp profile: {error}") from error
            else:
                program = seccomp.compile_default(frozenset(granted))
            _write_whole(path, program)
        return str(path)


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    aside = path.with_suffix(".aside")
    aside.write_bytes(data)
    os.rename(aside, path)


def _log_attributes(container: Container) -> Mapping[str, str]:
    """``--log-opt labels=a,b`` and ``env=X,Y``: what every record carries under ``attrs``."""
    wanted = container.host_config.log_config.config
    result = {}
    for label in filter(None, wanted.get("labels", "").split(",")):
        if label in container.config.labels:
            result[label] = container.config.labels[label]
    environment = dict(entry.partition("=")[::2] for entry in container.config.env)
    for name in filter(None, wanted.get("env", "").split(",")):
        if name in environment:
            result[name] = environment[name]
    return result
