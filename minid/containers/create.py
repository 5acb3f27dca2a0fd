"""Creating a container: from a request to a record, a writable layer and its volumes. No process is started
here.
"""

import asyncio
import dataclasses
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.containers import etcfiles, merge, mounts, names, security, spec, validate
from minid.containers.host import Host
from minid.containers.model import Container, ContainerConfig, CreateRequest, HostConfig, MountPoint, State
from minid.containers.mounts import PlannedMount
from minid.containers.networking import Networking
from minid.containers.store import Store
from minid.errors import InvalidParameter, NotFound
from minid.images.service import Image, Images
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from minid.volumes.service import Volumes


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """What ``Creation.create`` made; the caller publishes it."""

    container: Container
    warnings: tuple[str, ...]


class Creation:
    """Everything ``POST /containers/create`` needs."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        images: Images,
        snapshots: Snapshots,
        volumes: Volumes,
        jobs: Jobs,
        networking: Networking,
        host: Host,
        defaults: Callable[[HostConfig], HostConfig],
    ) -> None:
        self._layout = layout
        self._store = store
        self._images = images
        self._snapshots = snapshots
        self._volumes = volumes
        self._jobs = jobs
        self._networking = networking
        self._host = host
        self._defaults = defaults
        self._reserved: set[str] = set()

    async def create(self, request: CreateRequest, base: Image | None = None) -> Draft:
        """Raises NotFound (image), InvalidParameter, Conflict (name); leaves nothing behind when it fails.

        With ``base``, layers and config are its own and the container is hidden: a step of a build.
        """
        container_id = _new_id()
        name = self._reserve_name(request.name)
        try:
            return await self._create(request, name, container_id, base)
        finally:
            self._reserved.discard(name)

    async def _create(
        self, request: CreateRequest, name: str, container_id: str, base: Image | None
    ) -> Draft:
        image = base or self._image(request)
        config, host_config, warnings = self._settle(request, image, container_id)
        path, args = merge.command(config)
        container = Container(
            id=container_id,
            name=name,
            created_ns=time.time_ns(),
            image_id=image.id,
            platform="linux",
            config=config,
            host_config=host_config,
            networking=self._networking.settle(config, host_config, request.networking),
            state=State(),
            path=path,
            args=args,
            mounts=(),
            storage_driver=self._snapshots.driver_name,
            log_path=self._log_path(container_id, host_config),
            diff_ids=image.diff_ids,
            hidden=base is not None,
        )
        with self._images.hold(image):
            await self._make(container)
        return Draft(self._store.get(container_id), tuple(warnings))

    async def _make(self, container: Container) -> None:
        """On disk first, the row last; everything is taken back if it fails in between."""
        created: list[str] = []
        directory = self._layout.container(container.id)
        directory.mkdir(mode=0o710)
        try:
            await self._snapshots.create_rootfs(container.id, container.diff_ids)
            planned = mounts.plan(
                container.config, container.host_config, self._volumes_from(container.host_config)
            )
            points, fresh = await self._provide(planned, created)
            await self._copy_up(container, fresh)
            self._store.add(dataclasses.replace(container, mounts=points))
        except BaseException:
            await self._snapshots.remove_rootfs(container.id)
            shutil.rmtree(directory, ignore_errors=True)
            for volume in created:
                await self._volumes.remove(volume, force=True)
            raise

    def _reserve_name(self, wanted: str) -> str:
        if wanted:
            name = names.check(wanted)
            self._store.check_name_free(name)
            if name in self._reserved:
                raise InvalidParameter(f'the container name "/{name}" is being used by a request in progress')
        else:
            name = names.generate(lambda each: self._store.name_taken(each) or each in self._reserved)
        self._reserved.add(name)
        return name

    def _image(self, request: CreateRequest) -> Image:
        if not request.config.image:
            raise InvalidParameter("no image was given: Image is empty")
        image = self._images.get(request.config.image)
        actual = f"{image.config.get('os', 'linux')}/{image.config.get('architecture', '')}"
        if request.platform and not (request.platform + "/").startswith(actual + "/"):
            raise NotFound(
                f"image with reference {request.config.image} was found but does not match the "
                f"specified platform: wanted {request.platform}, actual: {actual}"
            )
        return image

    def _settle(
        self, request: CreateRequest, image: Image, container_id: str
    ) -> tuple[ContainerConfig, HostConfig, list[str]]:
        """Image presets, daemon defaults and validation; what is left is what inspect will show."""
        config = merge.merge(request.config, image.config)
        host_config = self._defaults(request.host_config)
        warnings = list(validate.validate(config, host_config, self._host))
        config, host_config = merge.with_defaults(
            config, host_config, container_id=container_id, host=self._host
        )
        kind, _, other = host_config.network_mode.partition(":")
        if kind == "container":  # its name may change, its id does not
            found = self._store.get(other)
            host_config = dataclasses.replace(host_config, network_mode=f"container:{found.id}")
        for extra in host_config.extra_hosts or ():
            etcfiles.parse_extra_host(extra)
        options = security.parse(host_config)
        if options.seccomp not in ("", "unconfined"):
            merge.seccomp_profile(options.seccomp)
        return config, spec.with_protected_paths(host_config), warnings

    def _volumes_from(self, host_config: HostConfig) -> list[tuple[Sequence[MountPoint], str]]:
        result: list[tuple[Sequence[MountPoint], str]] = []
        for text in host_config.volumes_from or ():
            ref, mode = mounts.parse_volumes_from(text)
            result.append((self._store.get(ref).mounts, mode))
        return result

    async def _provide(
        self, planned: Sequence[PlannedMount], created: list[str]
    ) -> tuple[tuple[MountPoint, ...], list[tuple[str, str]]]:
        """Make sources exist. The mount points, and (destination, directory) of volumes to be filled from
        the image.
        """
        points, fresh = [], []
        for mount in planned:
            point = mount.point
            if point.type == "bind" and mount.origin != "volumes-from":
                await asyncio.to_thread(_ensure_source, point.source, create=mount.create_source)
            elif point.type == "volume" and not point.source:
                known = point.name and self._volumes.find(point.name) is not None
                volume = self._volumes.create(
                    point.name, driver=point.driver, labels=mount.labels, options=mount.driver_options
                )
                if not known:
                    created.append(volume.name)
                if mount.copy_up and volume.driver == "local":
                    fresh.append((point.destination, volume.mountpoint))
                source = (
                    os.path.join(volume.mountpoint, mount.subpath) if mount.subpath else volume.mountpoint
                )
                point = dataclasses.replace(point, name=volume.name, source=source)
            points.append(point)
        return tuple(points), fresh

    async def _copy_up(self, container: Container, fresh: Sequence[tuple[str, str]]) -> None:
        """Fill empty new volumes with what the image has at their destinations."""
        if not fresh:
            return
        rootfs = dataclasses.asdict(self._snapshots.rootfs(container.id, container.diff_ids))
        for destination, directory in fresh:
            if not any(Path(directory).iterdir()):
                await self._jobs.call(
                    "minid.volumes.copyup:copy_up_job",
                    {"rootfs": rootfs, "path": destination, "volume": directory},
                )

    def _log_path(self, container_id: str, host_config: HostConfig) -> str:
        if host_config.log_config.type == "none":
            return ""
        return str(self._layout.container(container_id) / f"{container_id}-json.log")


def _ensure_source(path: str, *, create: bool) -> None:
    if not os.path.lexists(path):
        if not create:
            raise mounts.missing_source(path)
        os.makedirs(path, 0o755, exist_ok=True)


def _new_id() -> str:
    """64 hex digits; never only digits in the first twelve, so that a short id is never mistaken for a
    number.
    """
    while True:
        container_id = secrets.token_hex(32)
        if not container_id[:12].isdigit():
            return container_id
