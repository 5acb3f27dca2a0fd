"""What a client asks of a build: one immutable record, the same whichever protocol it came by."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from minid.build.context import Context
from minid.containers.model import HostConfig
from minid.images.platform import Platform
from minid.images.registry.authorizer import Auth


@dataclass(frozen=True, slots=True)
class Session:
    """What the client keeps ready for steps of this build, in memory only: secrets by id, agents by name."""

    secrets: Mapping[str, bytes] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)  # name → path of a socket on this host
    contexts: Mapping[str, Context | str] = field(
        default_factory=dict
    )  # further contexts by name, in lower case


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """``host_config`` has the limits, network mode, hosts and shared memory of RUN's containers."""

    dockerfile: str = "Dockerfile"  # its path in the context
    text: bytes | None = None  # the Dockerfile itself, if it is not in the context
    names: tuple[str, ...] = ()  # what the image will be called
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)  # --build-arg
    labels: Mapping[str, str] = field(default_factory=dict)
    use_cache: bool = True
    no_cache_stages: frozenset[str] = frozenset()  # --no-cache-filter
    cache_from: tuple[str, ...] = ()
    inline_cache: bool = False  # the image tells the keys of its steps, for --cache-from elsewhere
    pull: bool = False  # ask the registry for base images, though they are here
    platform: Platform | None = None
    host_config: HostConfig = field(default_factory=HostConfig)
    squash: bool = False
    privileged: bool = False  # RUN --security=insecure is allowed
    host_network: bool = False  # so is RUN --network=host
    check_only: bool = False
    auth: Mapping[str, Auth] = field(default_factory=dict)  # by registry host
    session: Session = field(default_factory=Session)

    @property
    def epoch_s(self) -> int | None:
        """SOURCE_DATE_EPOCH, if it was given: no time in the image is later."""
        text = self.arguments.get("SOURCE_DATE_EPOCH") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None
