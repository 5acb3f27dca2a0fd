"""What is in files: copied from a place in one file to another, read as a stream, looked at (jobs only)."""

import errno
import os
import threading

from minid.build.listing import Node
from minid.build.trees import Tree
from minid.images.layers import tar
from minid.images.layers.stream import inflated
from minid.images.layers.tar import TarError
from minid.kernel.files import data_pieces

SMALL_BYTES = 128 * 1024
_PIECE_BYTES = 1 << 20
_NO_RANGE = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM)


def copy_data(source: int, offset: int, target: int, size: int) -> None:
    """``size`` bytes from ``offset`` to the beginning of the empty file ``target``; holes stay holes."""
    if size <= SMALL_BYTES:
        data = os.pread(source, size, offset)
        done = os.write(target, data)
        while done < len(data):
            done += os.write(target, data[done:])
        return
    end = offset + size
    if os.lseek(source, offset, os.SEEK_HOLE) >= end:
        _copy_range(source, offset, target, 0, size)
        return
    os.ftruncate(target, size)
    for start, stop in data_pieces(source, end):
        if stop > offset:
            start = max(start, offset)
            _copy_range(source, start, target, start - offset, stop - start)


def _copy_range(source: int, start: int, target: int, to: int, count: int) -> None:
    by_kernel = True
    while count:
        if by_kernel:
            try:
                done = os.copy_file_range(source, target, min(count, 1 << 30), start, to)
            except OSError as error:
                if error.errno not in _NO_RANGE:
                    raise
                by_kernel = False
                continue
        else:
            done = os.pwrite(target, os.pread(source, min(count, _PIECE_BYTES), start), to)
        if done == 0:
            raise OSError(errno.EIO, "the contents of a file end too early")
        start, to, count = start + done, to + done, count - done


def pipe_of(source: int, offset: int, size: int) -> int:
    """A pipe from which these bytes come; filled by a thread."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    own = os.dup(source)

    def fill() -> None:
        at, left = offset, size
        try:
            while left:
                count = os.sendfile(writing, own, at, min(left, 1 << 30))
                if not count:
                    break
                at, left = at + count, left - count
        except BrokenPipeError:
            pass
        finally:
            os.close(writing)
            os.close(own)

    threading.Thread(target=fill, name="fill", daemon=True).start()
    return reading


def is_archive(tree: Tree, node: Node) -> bool:
    """Whether the contents, inflated, begin with the header of a tar entry: that is what counts, not the name."""
    if node.size < 20:
        return False
    with tree.data(node) as (source, offset):
        reading = pipe_of(source, offset, node.size)
        try:
            start = b""
            for chunk in inflated(reading):
                start += chunk
                if len(start) >= tar.BLOCK:
                    break
            return _is_header(start[: tar.BLOCK])
        except (TarError, OSError):
            return False
        finally:
            os.close(reading)


def _is_header(block: bytes) -> bool:
    if len(block) < tar.BLOCK or not any(block):
        return False
    try:
        tar.check_sum(block)
    except TarError:
        return False
    return True
