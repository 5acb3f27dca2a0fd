"""What a storage driver is. Layers come in as unpacked directories; a container's root file system comes out.

Layers are keyed by diff ID, so the layers of an image unpack in parallel and are shared wherever they occur:

    <snapshots>/<driver>/layers/<diff-id hex>/layer.json    size and what the layer hides
    (minid.images.layers) <snapshots>/<driver>/layers/<diff-id hex>/fs/           its files
    <snapshots>/<driver>/aside/                             what is being made or deleted; emptied at
    start-up
"""

import json
import os
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from minid.images.rootfs import Rootfs


class Jobs(Protocol):
    """Runs a function in a forked process (``minid.shim.client.Jobs``)."""

    def call(
        self, target: str, request: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> Awaitable[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A layer's ``layer.json`` as far as drivers need it; ``implied`` paths are relative to the layer's
    root.
    """

    diff_id: str
    size_bytes: int
    entries: int
    root_entry: bool
    implied: frozenset[str]

    @classmethod
    def load(cls, directory: Path) -> "LayerRecord":
        """Read it; raises OSError, ValueError or KeyError where it is missing or broken."""
        data = json.loads((directory / "layer.json").read_bytes())
        implied = frozenset(os.fsdecode(bytes.fromhex(path)) for path in data["implied"])
        return cls(data["diff_id"], data["size_bytes"], data["entries"], data["root_entry"], implied)


class Driver(Protocol):
    """One storage driver. ``layers`` are layer directories, base first; ``directory`` is the container's
    own.
    """

    @property
    def name(self) -> str: ...

    @property
    def style(self) -> str:
        """How layers are unpacked: see ``minid.images.layers.unpack``."""

    def make_layer_root(self, path: Path) -> None:
        """Make the empty directory (or subvolume) that a layer is unpacked into."""

    def rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        """What ``create_rootfs`` made, as data."""

    async def create_rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        """Make a container's writable root file system in ``directory``, which exists."""

    async def remove_rootfs(self, directory: Path) -> None:
        """Take it away; idempotent."""

    async def remove_layer(self, layer: Path, aside: Path) -> None:
        """Delete what was ``layer`` and has been moved to ``aside``."""
