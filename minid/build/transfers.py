"""COPY, ADD and WORKDIR as steps: what they copy, under which key, and into which layer."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from minid.build.cache import key_of
from minid.build.context import Context
from minid.build.copying import Copier, Copy, Fetched, Source
from minid.build.dockerfile import model
from minid.build.downloads import Downloads
from minid.build.remotes import is_remote
from minid.build.request import BuildRequest
from minid.build.scratch import Scratch
from minid.build.state import StageState
from minid.images.making import Making

MakeLayer = Callable[[], Awaitable[str | None]]
Find = Callable[[str], Awaitable[Context | StageState]]  # what a ``from`` names: "" is the context


class Transfers:
    """One a daemon."""

    def __init__(self, copier: Copier, downloads: Downloads, scratch: Scratch, making: Making) -> None:
        self._copier = copier
        self._downloads = downloads
        self._scratch = scratch
        self._making = making

    def directory(self, state: StageState, epoch_s: int | None) -> tuple[str, MakeLayer]:
        """WORKDIR: the key, and how to make the layer with the directory if there is none yet."""
        path, owner = state.workdir, state.user

        async def make() -> str | None:
            async with self._scratch.rootfs(state.diff_ids) as target:
                if not await self._copier.make_directory(target.rootfs, path, owner, epoch_s):
                    return None
                return await self._making.adopt(target.id, state.diff_ids, latest_s=epoch_s)

        inputs = {"layers": state.diff_ids, "path": path, "owner": owner, "epoch": epoch_s}
        return key_of("workdir", inputs), make

    @contextlib.asynccontextmanager
    async def prepared(
        self, transfer: model.Transfer, state: StageState, find: Find, request: BuildRequest
    ) -> AsyncIterator[tuple[str, str, MakeLayer]]:
        """COPY and ADD: key, text for the history, and how to make the layer while the context lasts."""
        copy = _copy(transfer, state, request.epoch_s)
        layers = () if copy.link and not _names_owner(copy) else state.diff_ids
        async with contextlib.AsyncExitStack() as stack:
            source = await self.source(
                await find(transfer.from_ if isinstance(transfer, model.Copy) else ""), stack
            )
            if isinstance(transfer, model.Add):
                source = replace(source, fetched=await self._fetched(transfer, copy, request, stack))
            digest = await self._copier.digest(source, copy)

            async def make() -> str | None:
                async with self._scratch.rootfs(layers) as target:
                    await self._copier.copy(target.rootfs, source, copy)
                    return await self._making.adopt(target.id, layers, latest_s=request.epoch_s)

            key = key_of("copy", {"layers": layers, "content": digest, "epoch": request.epoch_s})
            yield key, transfer.original, make

    async def _fetched(
        self, add: model.Add, copy: Copy, request: BuildRequest, stack: contextlib.AsyncExitStack
    ) -> dict[str, Fetched]:
        """What the remote sources of ADD are now."""
        found = {}
        for word in copy.sources:
            if is_remote(word):
                fetched = await self._downloads.fetch(
                    word,
                    checksum=add.checksum,
                    keep_git_dir=add.keep_git_dir,
                    agent=request.session.agents.get("default", ""),
                )
                stack.callback(fetched.context.close)
                found[word] = fetched
        return found

    async def source(self, found: Context | StageState, stack: contextlib.AsyncExitStack) -> Source:
        """Where to copy from, for as long as ``stack`` is open."""
        if isinstance(found, Context):
            return Source(context=found)
        view = await stack.enter_async_context(self._scratch.rootfs(found.diff_ids))
        return Source(rootfs=view.rootfs)


def _copy(transfer: model.Transfer, state: StageState, epoch_s: int | None) -> Copy:
    is_add = isinstance(transfer, model.Add)
    return Copy(
        sources=tuple(word for word in transfer.sources if isinstance(word, str)),
        inline=tuple(
            (word.name, word.text.encode("utf-8", "surrogateescape"))
            for word in transfer.sources
            if not isinstance(word, str)
        ),
        destination=transfer.destination,
        workdir=state.workdir,
        chown=transfer.chown,
        chmod=transfer.chmod,
        parents=isinstance(transfer, model.Copy) and transfer.parents,
        link=transfer.link,
        exclude=transfer.exclude,
        unpack=isinstance(transfer, model.Add) and transfer.unpack is not False,
        unpack_fetched=isinstance(transfer, model.Add) and transfer.unpack is True,
        epoch_s=epoch_s,
        instruction="ADD" if is_add else "COPY",
    )


def _names_owner(copy: Copy) -> bool:
    """Whether the owner has to be looked up in the target: then --link cannot do without it."""
    return any(part and not part.isdigit() for part in copy.chown.split(":"))
