"""A container's files as clients take and change them: archives, the list of changes, an image made of them.

``contents`` does the work; here are who may do it when, and what is told.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from minid.containers.contents import Contents, PathStat
from minid.containers.groups import Groups
from minid.containers.model import Container
from minid.containers.news import News
from minid.containers.store import Store


class Files:
    """One per daemon. ``get`` finds a container by what clients call it; ``locks`` are by its id."""

    def __init__(
        self,
        get: Callable[[str], Container],
        store: Store,
        contents: Contents,
        groups: Groups,
        locks: Mapping[str, asyncio.Lock],
        news: News,
    ) -> None:
        self._get = get
        self._store = store
        self._contents = contents
        self._groups = groups
        self._locks = locks
        self._news = news

    async def size(self, ref: str) -> tuple[int, int]:
        """Bytes of the writable layer, and of the whole root file system."""
        return await self._contents.size(self._get(ref))

    async def changes(self, ref: str) -> list[tuple[str, int]]:
        """Paths that differ from the image: 0 modified, 1 added, 2 deleted."""
        return await self._contents.changes(self._get(ref))

    async def commit(
        self,
        ref: str,
        make: Callable[[Container, Callable[[int, bool], Awaitable[bool]]], Awaitable[str]],
        *,
        pause: bool = True,
        message: str = "",
    ) -> str:
        """Have ``make(container, write)`` make an image of the container's changes; the image's id.

        ``write(fd, False)`` writes them as a layer's tar (False: there are none), ``write(fd, True)`` all that the
        container has. With ``pause`` a container that runs stands still meanwhile, as after ``pause``.
        """
        container = self._get(ref)

        async def write(out: int, whole: bool) -> bool:
            async with self._locks[container.id]:
                stopped = pause and self._get(container.id).state.status == "running"
                if stopped:
                    await self._groups.freeze(container.id)
                    if self._get(container.id).state.running:
                        self._store.set_state(container.id, status="paused")
                    self._news.publish(container, "pause")
                try:
                    if whole:
                        return await self._contents.write_all(self._get(container.id), out)
                    return await self._contents.write_changes(self._get(container.id), out)
                finally:
                    if stopped:
                        await self._resume(container)

        image_id = await make(container, write)
        self._news.publish(container, "commit", {"comment": message, "imageID": image_id, "imageRef": ""})
        return image_id

    async def _resume(self, container: Container) -> None:
        """Let it run on, if it has not been killed meanwhile."""
        if self._get(container.id).state.running:
            await self._groups.thaw(container.id)
            if self._get(container.id).state.status == "paused":
                self._store.set_state(container.id, status="running")
        self._news.publish(container, "unpause")

    async def stat(self, ref: str, path: str) -> PathStat:
        """What ``path`` in the container is."""
        return await self._contents.stat(self._get(ref), path)

    async def get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """``path`` as a tar stream."""
        container = self._get(ref)
        result = await self._contents.get(container, path)
        self._news.publish(container, "archive-path")
        return result

    async def put(
        self,
        ref: str,
        path: str,
        stream: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uidgid: bool = False,
    ) -> None:
        """Unpack a tar stream into the directory ``path``."""
        container = self._get(ref)
        # what is unpacked into a stopped container goes through an overlay that no start may use meanwhile
        async with self._locks[container.id]:
            await self._contents.put(
                self._get(container.id),
                path,
                stream,
                no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
                copy_uidgid=copy_uidgid,
            )
        self._news.publish(container, "extract-to-dir")

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """The whole file system as a tar stream."""
        container = self._get(ref)
        result = await self._contents.export(container)
        self._news.publish(container, "export")
        return result
