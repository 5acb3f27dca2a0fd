"""Pulls do not wait for the disk: what they publish reaches it soon after, and a power cut before that is noticed.

fsync of all that a large image consists of takes longer than the rest of a pull, and nobody needs it in that moment:
losing power right after a pull may cost the image, but must never leave a damaged one. So

1. before anything is published, the marker ``<blobs>/unsynced`` with the kernel's boot id is written, and fsynced;
2. blobs and layers are renamed into place without fsync, and their rows say ``synced = 0``;
3. in the background syncfs(2), then ``synced = 1``, then the marker is removed.

A daemon that finds the marker of *another* boot at its start knows that the machine went down in between, and removes
what was not synced. The marker of this boot (the daemon was killed) only means that step 3 is still to be done.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.images.catalog import Catalog
from minid.kernel.files import fsync_dir, syncfs

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


class Durability:
    """One a daemon. ``directories`` are where blobs and layers are (on one file system or on several)."""

    def __init__(self, marker: Path, directories: Sequence[Path], catalog: Catalog) -> None:
        self._marker = marker
        self._directories = tuple(directories)
        self._catalog = catalog
        self._boot_id = BOOT_ID.read_text().strip()
        self._marked = asyncio.Lock()
        self._is_marked = False
        self._open = 0
        self._wanted = False
        self._syncing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Before something is published or removed; ``end`` afterwards, in any case."""
        self._open += 1
        async with self._marked:
            if not self._is_marked:
                await asyncio.to_thread(self._write_marker)
                self._is_marked = True

    def end(self) -> None:
        self._open -= 1
        self.request()

    def request(self) -> None:
        """Bring what has been written so far to the disk, in the background."""
        self._wanted = True
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().create_task(self._sync())

    def was_interrupted(self) -> bool:
        """At start: whether the machine went down with things unsynced."""
        try:
            return self._marker.read_text().strip() != self._boot_id
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True

    def is_marked(self) -> bool:
        return self._marker.exists()

    async def settle(self) -> None:
        """Wait until what has been requested is on the disk."""
        while self._syncing is not None:
            await asyncio.wait([self._syncing])

    def close(self) -> None:
        """Give up waiting: the marker stays, the next daemon goes on."""
        if self._syncing is not None:
            self._syncing.cancel()

    async def _sync(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                images, layers = self._catalog.unsynced()
                await _in_daemon_thread(self._sync_directories)
                self._catalog.mark_synced(images, layers)
            if not self._open:
                self._marker.unlink(missing_ok=True)
                self._is_marked = False
        except OSError as error:
            log.error("cannot bring images to the disk: %s", error)
        finally:
            self._syncing = None

    def _sync_directories(self) -> None:
        for directory in self._directories:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)

    def _write_marker(self) -> None:
        fd = os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, self._boot_id.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        fsync_dir(str(self._marker.parent))


async def _in_daemon_thread(function: Callable[[], None]) -> None:
    """Run ``function`` in a thread that the daemon's end does not wait for: a slow disk takes its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: OSError | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def run() -> None:
        failure: OSError | None = None
        try:
            function()
        except OSError as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, failure)
        except RuntimeError:
            pass  # the loop has been closed

    threading.Thread(target=run, name="minid-syncfs", daemon=True).start()
    await done
