"""What the API speaks for: the daemon hands these over, ``minid.api`` decides nothing they should decide."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from minid.build.service import Builds
from minid.config import Config
from minid.containers.model import Container
from minid.containers.networking import Networking
from minid.containers.service import Containers
from minid.doctor import Finding
from minid.events import EventBus
from minid.hostinfo import HostInfo
from minid.images.rootfs import Rootfs
from minid.images.service import Images
from minid.network.service import Networks
from minid.volumes.service import Volumes


@dataclass(frozen=True, slots=True)
class Services:
    """``info`` gathers the facts for ``/info`` and ``/version`` at each call (a millisecond of small files).

    ``rootfs``: what a container's root file system is made of, for inspect; raises ``MinidError``.
    ``doctor``: what the host offers, and what to do about what it lacks.
    ``engine_id`` is ``info().id``, kept by the server so as not to gather everything for it.
    """

    images: Images
    containers: Containers
    volumes: Volumes
    networks: Networks
    networking: Networking
    builds: Builds
    events: EventBus
    config: Config
    info: Callable[[], HostInfo]
    engine_id: str = ""
    rootfs: Callable[[Container], Rootfs] | None = None
    doctor: Callable[[], Awaitable[tuple[Finding, ...]]] | None = None
