"""The layer store of one daemon: chooses the driver, publishes layers whole, forgets none and leaves none
behind.
"""

import asyncio
import builtins
import contextlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minid.errors import Failed, InvalidParameter, NotFound, Unsupported
from minid.images.rootfs import Rootfs
from minid.images.snapshots.btrfs import Btrfs
from minid.images.snapshots.driver import Driver, Jobs, LayerRecord
from minid.images.snapshots.overlay import Overlay
from minid.images.snapshots.vfs import Vfs
from minid.kernel.files import fsync_dir, spread_children
from minid.layout import Layout
from minid.shim.client import JobError

# In the order in which they are tried; Docker's names.
DRIVERS: dict[str, Callable[[Path, Jobs, Callable[[Path], LayerRecord]], Driver]] = {
    "overlay2": Overlay,
    "btrfs": Btrfs,
    "vfs": Vfs,
}


PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer that is in the store. ``size_bytes`` is the sum of its regular files."""

    diff_id: str
    size_bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """A layer that was made here; ``tar_bytes`` is the size of its archive."""

    diff_id: str
    size_bytes: int
    entries: int
    tar_bytes: int


def used_before(snapshots: Path) -> str | None:
    """The driver that has layers here already: with another one they would be invisible."""
    for name in DRIVERS:
        with contextlib.suppress(FileNotFoundError, StopIteration):
            next((snapshots / name / "layers").iterdir())
            return name
    return None


class Snapshots:
    """One per daemon. ``driver`` is the configured name, or None to take the first that works. Call
    ``start`` first.
    """

    def __init__(self, layout: Layout, driver: str | None, jobs: Jobs) -> None:
        if driver is not None and driver not in DRIVERS:
            raise InvalidParameter(f"storage driver {driver} is unknown: use one of {', '.join(DRIVERS)}")
        self._layout = layout
        self._wanted = driver
        self._jobs = jobs
        self._chosen: Driver | None = None
        self.because = ""  # "configured", "in use" (it has layers already) or "first" (that works)
        self.refused: dict[str, str] = {}  # drivers that were tried before, and why they don't work here
        self._records: dict[Path, LayerRecord] = {}
        self._cleaning: set[asyncio.Task[None]] = set()

    @property
    def driver_name(self) -> str:
        return self._driver.name

    @property
    def _driver(self) -> Driver:
        if self._chosen is None:
            raise Failed("the layer store has not been started")
        return self._chosen

    @property
    def _root(self) -> Path:
        return self._layout.snapshots / self._driver.name

    async def start(self) -> None:
        """Choose the driver and remove what an interrupted daemon left aside.

        Raises Unsupported, saying why, if the configured driver doesn't work on this machine or none does.
        """
        before = used_before(self._layout.snapshots)
        name = self._wanted or before
        self.because = "configured" if self._wanted else "in use" if before else "first"
        reasons = {}
        for candidate in [name] if name else DRIVERS:
            reasons[candidate] = await self._probe(candidate)
            if not reasons[candidate]:
                self._chosen = DRIVERS[candidate](self._layout.snapshots, self._jobs, self._record)
                self.refused = {driver: reason for driver, reason in reasons.items() if reason}
                break
        else:
            told = "; ".join(f"{driver}: {reason}" for driver, reason in reasons.items())
            raise Unsupported(
                f"no storage driver works in {self._layout.snapshots}: {told}; "
                "use another --storage-driver or --data-root"
            )
        (self._root / "layers").mkdir(mode=0o700, exist_ok=True)
        spread_children(str(self._layout.containers))  # what builds copy lies there before it is a layer

    async def _probe(self, name: str) -> str:
        """Why the driver can't be used here, or ""."""
        aside = self._layout.snapshots / name / "aside"
        aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        if left := [str(path) for path in aside.iterdir()]:
            await self._jobs.call("minid.images.layers:remove_job", {"paths": left})
        spread_children(str(aside))
        directory = aside / f"probe-{secrets.token_hex(4)}"
        directory.mkdir(mode=0o700)
        try:
            result = await self._jobs.call(
                "minid.images.layers:probe_job", {"driver": name, "directory": str(directory)}
            )
        finally:
            directory.rmdir()
        return str(result["reason"])

    # -- layers

    def has(self, diff_id: str) -> bool:
        """Whether the layer is in the store."""
        layer = self._layer(diff_id)
        return layer in self._records or (layer / "layer.json").exists()

    def get(self, diff_id: str) -> Unpacked:
        """The layer; raises NotFound."""
        record = self._record(self._layer(diff_id))
        return Unpacked(record.diff_id, record.size_bytes, record.entries)

    def all(self) -> list[str]:
        """The diff IDs of the layers in the store."""
        return sorted("sha256:" + path.name for path in (self._root / "layers").iterdir())

    async def unpack(
        self, diff_id: str, media_type: str, read_fd: int, *, sync: bool = True, verified: bool = False
    ) -> Unpacked:
        """Unpack the (compressed) layer that comes out of the pipe ``read_fd``, to its end, and publish it.

        The caller keeps ``read_fd`` and closes it, and on an error or a cancellation closes the writing end
        too. A layer that is there already is read and checked all the same. Raises Failed where the stream
        is damaged, is not what ``diff_id`` says or can't be written (disk full): nothing of it stays.
        Without ``sync`` the caller sees to it that the layer reaches the disk (syncfs). With ``verified`` the caller
        has made sure that ``read_fd`` has what ``diff_id`` says, uncompressed: it is not hashed again.
        """
        place = self._layer(diff_id)
        aside = self._root / "aside" / secrets.token_hex(8)
        ended, held = os.pipe2(os.O_CLOEXEC)
        try:
            aside.mkdir(mode=0o700)
            await asyncio.to_thread(self._driver.make_layer_root, aside / "fs")
            request = {
                "directory": str(aside),
                "media_type": media_type,
                "style": self._driver.style,
                "diff_id": diff_id,
                "sync": sync,
                "verified": verified,
            }
            result = await self._jobs.call("minid.images.layers:unpack_job", request, [read_fd, held])
            if not await asyncio.to_thread(_publish, aside, place, sync=sync):
                self._clean(aside, -1)
        except (JobError, OSError) as error:
            self._clean(aside, -1)
            raise Failed(f"layer {_short(diff_id)} can't be unpacked: {error}") from error
        except BaseException:
            # The job may go on for a while after a cancellation; it holds its end of the pipe for as long.
            os.close(held)
            held = -1
            self._clean(aside, ended)
            ended = -1
            raise
        finally:
            for fd in (held, ended):
                if fd >= 0:
                    os.close(fd)
        return Unpacked(diff_id, result["size_bytes"], result["entries"])

    def is_present(self, diff_id: str) -> bool:
        """As ``has``, but the disk is looked at."""
        layer = self._layer(diff_id)
        return (layer / "layer.json").exists() and (layer / "fs").is_dir()

    async def differences(self, diff_id: str, media_type: str, read_fd: int) -> "builtins.list[str]":
        """How the unpacked layer differs from its blob in ``read_fd``, which is unpacked again beside it for a while.

        In words, the first of them; [] if it is what it should be. Raises Failed for a blob that is not ``diff_id``'s.
        """
        aside = self._root / "aside" / secrets.token_hex(8)
        ended, held = os.pipe2(os.O_CLOEXEC)
        try:
            aside.mkdir(mode=0o700)
            await asyncio.to_thread(self._driver.make_layer_root, aside / "fs")
            request = {
                "directory": str(aside),
                "media_type": media_type,
                "style": self._driver.style,
                "diff_id": diff_id,
                "sync": False,
            }
            await self._jobs.call("minid.images.layers:unpack_job", request, [read_fd, held])
            compared = {"found": str(self._layer(diff_id) / "fs"), "expected": str(aside / "fs")}
            result = await self._jobs.call("minid.images.layers:compare_job", compared, [held])
        except (JobError, OSError) as error:
            raise Failed(f"layer {_short(diff_id)} can't be compared with its blob: {error}") from error
        finally:
            os.close(held)
            self._clean(aside, ended)  # a job that nobody waits for any more may go on for a while
        told = [str(item) for item in result["differences"]]
        more = result["count"] - len(told)
        return [*told, f"and {more} more"] if more else told

    async def remove(self, diff_id: str) -> None:
        """Remove the layer; idempotent. No container may use it any more. Raises Failed."""
        layer = self._layer(diff_id)
        self._records.pop(layer, None)
        aside = self._root / "aside" / secrets.token_hex(8)
        try:
            layer.rename(aside)
        except FileNotFoundError:
            return
        try:
            await self._driver.remove_layer(layer, aside)
        except (JobError, OSError) as error:
            raise Failed(f"layer {_short(diff_id)} can't be removed: {error}") from error

    # -- root file systems of containers

    async def create_rootfs(self, container_id: str, diff_ids: Sequence[str]) -> Rootfs:
        """Make the container's writable root file system from these layers, base first. Raises NotFound,
        Failed.
        """
        layers = self._layers(diff_ids)
        directory = self._layout.container(container_id)
        directory.mkdir(mode=0o710, exist_ok=True)
        try:
            return await self._driver.create_rootfs(directory, layers)
        except (JobError, OSError) as error:
            await self.remove_rootfs(container_id)
            raise Failed(
                f"the root file system of container {container_id[:12]} can't be made: {error}"
            ) from error

    def rootfs(self, container_id: str, diff_ids: Sequence[str]) -> Rootfs:
        """What ``create_rootfs`` has made. Raises NotFound for a missing layer."""
        return self._driver.rootfs(self._layout.container(container_id), self._layers(diff_ids))

    async def remove_rootfs(self, container_id: str) -> None:
        """Take the container's own files away; idempotent. Its directory stays."""
        try:
            await self._driver.remove_rootfs(self._layout.container(container_id))
        except (JobError, OSError) as error:
            raise Failed(f"the files of container {container_id[:12]} can't be removed: {error}") from error

    async def sizes(self, container_id: str, diff_ids: Sequence[str]) -> tuple[int, int]:
        """Bytes of the container's own files, and with those of the image."""
        result, _ = await self._compare(container_id, diff_ids, paths=False)
        image = sum(self._record(layer).size_bytes for layer in self._layers(diff_ids))
        return result["size_bytes"], result["size_bytes"] + image

    async def changes(self, container_id: str, diff_ids: Sequence[str]) -> "builtins.list[tuple[str, int]]":
        """What the container has changed: absolute paths, sorted, each 0 modified, 1 added or 2 deleted."""
        _, text = await self._compare(container_id, diff_ids, paths=True)
        return [(path, kind) for path, kind in json.loads(text)]

    async def write_changes(self, container_id: str, diff_ids: Sequence[str], out: int) -> bool:
        """Write what the container has changed to the pipe ``out`` as a layer's tar; False if there is nothing."""
        request = {
            "rootfs": asdict(self.rootfs(container_id, diff_ids)),
            "layers": [str(layer) for layer in self._layers(diff_ids)],
        }
        try:
            result = await self._jobs.call("minid.images.layers:difference_job", request, [out])
        except JobError as error:
            raise Failed(f"the files of container {container_id[:12]} can't be read: {error}") from error
        return bool(result["entries"])

    async def _compare(
        self, container_id: str, diff_ids: Sequence[str], *, paths: bool
    ) -> tuple[dict[str, Any], bytes]:
        request = {
            "rootfs": asdict(self.rootfs(container_id, diff_ids)),
            "layers": [str(layer) for layer in self._layers(diff_ids)],
            "paths": paths,
        }
        answer = os.memfd_create("changes", os.MFD_CLOEXEC)
        try:
            result = await self._jobs.call("minid.images.layers:changes_job", request, [answer])
            return result, os.pread(answer, os.fstat(answer).st_size, 0)
        except JobError as error:
            raise Failed(f"the files of container {container_id[:12]} can't be read: {error}") from error
        finally:
            os.close(answer)

    # -- layers made here

    async def adopt(
        self,
        container_id: str,
        diff_ids: Sequence[str],
        *,
        latest_s: int | None = None,
        mountpoints: Sequence[str] | None = None,
    ) -> Adopted | None:
        """Make a layer of what a root file system (``create_rootfs``) has of its own; None if that is nothing.

        Nothing may run in it any more; afterwards there is nothing left but to ``remove_rootfs``. With ``latest_s``
        no time in the layer is later; ``mountpoints`` were mounted on by what ran in it, and like the usual ones count
        only if they have content; None: nothing has run in it, so that all in it is meant.
        The caller sees to it that the layer reaches the disk. Raises Failed.
        """
        aside = self._root / "aside" / secrets.token_hex(8)
        aside.mkdir(mode=0o700)
        request = {
            "rootfs": asdict(self.rootfs(container_id, diff_ids)),
            "layers": [str(layer) for layer in self._layers(diff_ids)],
            "directory": str(aside),
            "latest_s": latest_s,
            "mountpoints": None if mountpoints is None else list(mountpoints),
        }
        try:
            if self._driver.style != "overlay":
                return await self._describe(request, aside)
            result = await self._jobs.call("minid.images.layers:adopt_job", request)
            if not result["entries"]:
                return None
            place = self._layer(result["diff_id"])
            await asyncio.to_thread(_publish, aside, place, sync=False)
            return Adopted(**result)
        except (JobError, OSError) as error:
            raise Failed(f"a layer can't be made of what was changed: {error}") from error
        finally:
            if aside.exists():
                self._clean(aside, -1)

    async def _describe(self, request: dict[str, Any], aside: Path) -> Adopted | None:
        fd = os.open(aside / "layer.tar", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            result = await self._jobs.call("minid.images.layers:describe_job", request, [fd])
            if not result["entries"]:
                return None
            os.lseek(fd, 0, os.SEEK_SET)
            unpacked = await self.unpack(result["diff_id"], PLAIN_LAYER, fd, sync=False)
            return Adopted(unpacked.diff_id, unpacked.size_bytes, unpacked.entries, result["tar_bytes"])
        finally:
            os.close(fd)

    async def rewrite(self, diff_id: str, out: int) -> int:
        """Write a layer that was made here to the pipe or file ``out`` as the tar that its diff ID is of; its bytes.

        Raises NotFound; Failed where its files are not what they were.
        """
        layer = self._layer(diff_id)
        self._record(layer)
        try:
            result = await self._jobs.call(
                "minid.images.layers:rewrite_job", {"directory": str(layer)}, [out]
            )
        except (JobError, OSError) as error:
            raise Failed(f"layer {_short(diff_id)} can't be read: {error}") from error
        if result["diff_id"] != diff_id:
            raise Failed(
                f"layer {_short(diff_id)} has been changed on disk: its files come to {result['diff_id']}; "
                "build or pull the image again"
            )
        return int(result["tar_bytes"])

    # -- inside

    def _layer(self, diff_id: str) -> Path:
        algorithm, _, encoded = diff_id.partition(":")
        if algorithm != "sha256" or len(encoded) != 64 or not set(encoded) <= set("0123456789abcdef"):
            raise InvalidParameter(f"{diff_id!r} is not a diff ID (sha256:…)")
        return self._root / "layers" / encoded

    def _layers(self, diff_ids: Sequence[str]) -> list[Path]:
        layers = [self._layer(diff_id) for diff_id in diff_ids]
        for layer in layers:
            self._record(layer)
        return layers

    def _record(self, layer: Path) -> LayerRecord:
        record = self._records.get(layer)
        if record is None:
            try:
                record = self._records[layer] = LayerRecord.load(layer)
            except FileNotFoundError:
                raise NotFound(
                    f"layer sha256:{layer.name} is not in the store: pull the image again"
                ) from None
            except (OSError, ValueError, KeyError) as error:
                raise Failed(
                    f"layer sha256:{layer.name} is damaged ({error}): remove the image, pull it again"
                ) from error
        return record

    def _clean(self, aside: Path, ended: int) -> None:
        """Remove ``aside`` in the background, once the pipe ``ended`` says that no job works in it any
        more.
        """

        async def clean() -> None:
            if ended >= 0:
                await _end_of(ended)
            if aside.exists():
                await self._driver.remove_layer(aside, aside)

        task = asyncio.get_running_loop().create_task(clean())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def close(self) -> None:
        """Wait for the removals that are under way."""
        await asyncio.gather(*self._cleaning, return_exceptions=True)


async def _end_of(fd: int) -> None:
    """Wait until a pipe has no writer any more; closes it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _publish(aside: Path, place: Path, *, sync: bool) -> bool:
    """Give a complete layer its name; false if it has one already. The job has synced its contents."""
    try:
        os.rename(aside, place)
    except OSError:
        if place.exists():
            return False
        raise
    if sync:
        fsync_dir(str(place.parent))
    return True


def _short(diff_id: str) -> str:
    return diff_id.partition(":")[2][:12]
