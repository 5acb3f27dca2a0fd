"""What images need of the layer store: the interface that ``minid.images.snapshots.Snapshots`` fulfils."""

from collections.abc import Sequence
from typing import Protocol


class UnpackedLayer(Protocol):
    """``size_bytes`` of the regular files, and the number of ``entries``."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def entries(self) -> int: ...


class MadeLayer(Protocol):
    """A layer that was made here, with the size of its archive."""

    @property
    def diff_id(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def entries(self) -> int: ...

    @property
    def tar_bytes(self) -> int: ...


class LayerStore(Protocol):
    """Unpacked layers by diff ID."""

    def has(self, diff_id: str) -> bool:
        """Whether the layer is there, whole."""

    def all(self) -> list[str]:
        """The diff IDs of all layers that are there."""

    def get(self, diff_id: str) -> UnpackedLayer:
        """A layer that is there."""

    async def unpack(
        self, diff_id: str, media_type: str, read_fd: int, *, sync: bool = True, verified: bool = False
    ) -> UnpackedLayer:
        """Unpack the compressed layer that is read from ``read_fd``; the caller closes that afterwards.

        Without ``sync`` the caller sees to it that the layer reaches the disk. With ``verified`` the caller has made
        sure that the bytes are those of ``diff_id``, uncompressed.

        Raises a ``MinidError`` and leaves nothing when the stream is damaged or is not the layer ``diff_id``.
        """

    def is_present(self, diff_id: str) -> bool:
        """As ``has``, but the disk is looked at."""

    async def differences(self, diff_id: str, media_type: str, read_fd: int) -> list[str]:
        """See ``Snapshots.differences``."""

    async def remove(self, diff_id: str) -> None:
        """Idempotent."""

    async def adopt(
        self,
        container_id: str,
        diff_ids: Sequence[str],
        *,
        latest_s: int | None = None,
        mountpoints: Sequence[str] | None = None,
    ) -> MadeLayer | None:
        """See ``Snapshots.adopt``."""

    async def rewrite(self, diff_id: str, out: int) -> int:
        """See ``Snapshots.rewrite``."""
