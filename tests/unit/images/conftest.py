"""An image service over a real database and blob store, and a registry in the same process."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minid.config.registries import RegistryRule
from minid.events import EventBus
from minid.images.model import Progress
from minid.images.platform import Platform
from minid.images.registries import Registries
from minid.images.service import Images
from minid.layout import Layout
from minid.state import Database
from tests.unit.images.in_process_registry import InProcessRegistry
from tests.unit.images.plain_layers import PlainLayers


@dataclass
class Place:
    """A data root and what serves it. ``restart`` gives another service on the same data."""

    root: Path
    images: Images = field(init=False)
    rules: dict[str, RegistryRule] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.layers = PlainLayers(self.root / "snapshots")
        self.events = EventBus()
        self.lines: list[Progress] = []
        self._open()

    def _open(self) -> None:
        self.database = Database(self.root / "minid.db")
        self.images = Images(
            self.database,
            Layout(self.root, self.root / "run"),
            self.layers,
            self.events,
            registries=Registries(
                rules=self.rules, mirrors=self.mirrors, certs_directories=(), retry_delays_s=(0.01, 0.01)
            ),
            host=Platform("linux", "amd64"),
            retry_delays_s=(0.01, 0.01),
        )

    async def close(self) -> None:
        await self.images.close()
        self.database.close()

    async def restart(self) -> None:
        await self.close()
        self._open()

    @property
    def marker(self) -> Path:
        """It is there while something may not have reached the disk."""
        return self.root / "blobs/unsynced"

    async def synced(self) -> None:
        await self.images.settle()

    def tell(self, line: Progress) -> None:
        self.lines.append(line)

    def statuses(self, layer_id: str = "") -> list[str]:
        """What was told of one layer (or of the whole), repetitions left out."""
        result: list[str] = []
        for line in self.lines:
            if line.id == layer_id and result[-1:] != [line.status]:
                result.append(line.status)
        return result

    def files(self) -> list[str]:
        """All blobs, whole and partial, and unpacked layers."""
        return sorted(
            str(path.relative_to(self.root))
            for directory in ("blobs", "snapshots")
            for path in (self.root / directory).rglob("*")
            if path.is_file() and path.name != "unsynced"
        )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    await place.close()


@pytest.fixture
async def registry() -> AsyncIterator[InProcessRegistry]:
    async with InProcessRegistry() as server:
        yield server
