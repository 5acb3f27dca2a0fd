"""A container's log in Docker's json-file format, written by the chunk and rotated by size.

One JSON object a line: ``{"log":"text\\n","stream":"stdout","time":"2024-01-02T03:04:05.000000006Z"}``. A
line longer than 16 KiB is cut into several objects, of which only the last one's text ends with a
newline; the end of the output may be such an unfinished piece too. ``<path>`` is written, ``<path>.1`` is
the one before it, and so on.

Source: Engine API § logs, Docker's json-file driver.
"""

import codecs
import os
import time
from collections.abc import Mapping
from json.encoder import encode_basestring as _quote
from typing import Any, NamedTuple

PARTIAL_BYTES = 16 << 10
MAX_SIZE_BYTES = 10_000_000
MAX_FILES = 3
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
# Printable ASCII that stands for itself in a JSON string, and the newline, which becomes a line's end.
_PLAIN = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\') + b"\n"
# Stands for a newline while the text around it is escaped: no decoded text holds a lone surrogate.
_NEWLINE = "\ud800"


def _replace_byte(error: UnicodeError) -> tuple[str, int]:
    """One U+FFFD for every wrong byte, as Go's decoder does."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error("minid.replace_byte", _replace_byte)


class Options(NamedTuple):
    """``max_size_bytes`` -1: never rotated."""

    max_size_bytes: int = MAX_SIZE_BYTES
    max_files: int = MAX_FILES
    compress: bool = False


def parse_options(config: Mapping[str, str]) -> Options:
    """``--log-opt`` of the json-file driver: max-size, max-file, compress (labels, env, tag are for
    ``attrs``).

    Raises ValueError with Docker's texts.
    """
    known = (
        "max-size",
        "max-file",
        "compress",
        "labels",
        "labels-regex",
        "env",
        "env-regex",
        "tag",
        "mode",
        "max-buffer-size",
    )
    for name in config:
        if name not in known:
            raise ValueError(f"unknown log opt '{name}' for json-file log driver")
    size, files, compress = MAX_SIZE_BYTES, MAX_FILES, False
    if "max-size" in config:
        size = _parse_size(config["max-size"])
    if "max-file" in config:
        text = config["max-file"]
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"invalid value for max-file: {text}")
        files = int(text)
        if files < 1:
            raise ValueError("max-file cannot be less than 1")
    if "compress" in config:
        if config["compress"] not in (
            "true",
            "false",
            "1",
            "0",
            "t",
            "f",
            "T",
            "F",
            "True",
            "False",
            "TRUE",
            "FALSE",
        ):
            raise ValueError(f"invalid value for compress: {config['compress']}")
        compress = config["compress"][:1] in "tT1"
        if compress and (files < 2 or size == -1):
            raise ValueError("compress cannot be true when max-file is less than 2 or max-size is not set")
    return Options(size, files, compress)


def _parse_size(text: str) -> int:
    """``10m`` → 10,000,000 (Docker's log sizes are decimal); ``-1`` unlimited."""
    if text == "-1":
        return -1
    lowered = text.strip().lower()
    number = lowered.rstrip("bkmgtp i")
    unit = lowered[len(number) :].strip().removesuffix("b").removesuffix("i")
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ValueError(f"invalid size: '{text}'") from None
    if size <= 0:
        raise ValueError(f"max-size must be a positive number, not {text}")
    return size


def rfc3339(time_ns: int) -> str:
    """Nanoseconds since the epoch as Go's RFC3339Nano writes them: UTC, no zeros at the end of the
    fraction.
    """
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


class LogFile:
    """Appends to ``path``, which is created (0640) with its first byte still to come. Not for several
    threads.

    A write that fails (a full disk) is dropped whole, counted in ``dropped_bytes`` and kept in ``error``:
    the container never waits for its log. ``notes``: go on where another one stopped (``LogFile.notes``).
    """

    def __init__(
        self,
        path: str,
        options: Options | None = None,
        attributes: Mapping[str, str] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.options = options or Options()
        self.dropped_bytes = 0
        self.error: OSError | None = None
        self._attributes = b""
        if attributes:
            pairs = ",".join(f"{_quote(key)}:{_quote(value)}" for key, value in sorted(attributes.items()))
            self._attributes = b'"attrs":{' + pairs.encode("utf-8", "replace") + b"},"
        self._pending = {"stdout": b"", "stderr": b""}
        # The time of an unfinished line is the time of its first piece.
        self._pending_time_ns = {"stdout": 0, "stderr": 0}
        if notes is None:
            self._open()
        else:
            self._fd, self._size_bytes = notes["fd"], notes["size_bytes"]
            self._pending = {stream: text.encode("latin-1") for stream, text in notes["pending"].items()}
            self._pending_time_ns = dict(notes["pending_time_ns"])

    def notes(self) -> dict[str, Any]:
        """What another one needs to go on in our place (JSON), with our descriptor."""
        return {
            "fd": self._fd,
            "size_bytes": self._size_bytes,
            "pending": {stream: data.decode("latin-1") for stream, data in self._pending.items()},
            "pending_time_ns": self._pending_time_ns,
        }

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size_bytes = os.fstat(self._fd).st_size
        if self._size_bytes and os.pread(self._fd, 1, self._size_bytes - 1) != b"\n":
            # The writer before us died in the middle of a line; what it left must not swallow ours.
            self._size_bytes += os.write(self._fd, b"\n")

    def write(self, stream: str, data: bytes, time_ns: int | None = None) -> None:
        """Log ``data`` from ``stream`` ("stdout" or "stderr"). What follows its last newline waits for the
        next one.
        """
        now_ns = time.time_ns() if time_ns is None else time_ns
        end = data.rfind(b"\n") + 1
        pending = self._pending[stream]
        if end:
            whole = pending + data[:end] if pending else data[:end]
            first_ns = self._pending_time_ns[stream] if pending else 0
            self._pending_time_ns[stream] = 0
            pending = data[end:]
            self._append(self._frame(stream, whole, first_ns or now_ns), len(whole))
        elif data:
            pending += data
        if pending and not self._pending_time_ns[stream]:
            self._pending_time_ns[stream] = now_ns
        while len(pending) >= PARTIAL_BYTES:
            cut = _character_boundary(pending)
            stamp = rfc3339(self._pending_time_ns[stream])
            self._append(self._record(stream, pending[:cut], stamp), cut)
            pending = pending[cut:]
        self._pending[stream] = pending

    def finish(self, stream: str) -> None:
        """Log what waits for a newline that won't come: the stream has ended."""
        pending, self._pending[stream] = self._pending[stream], b""
        if pending:
            stamp = rfc3339(self._pending_time_ns[stream] or time.time_ns())
            self._pending_time_ns[stream] = 0
            self._append(self._record(stream, pending, stamp), len(pending))

    def close(self) -> None:
        """Finish both streams and close the file. Idempotent."""
        if self._fd >= 0:
            self.finish("stdout")
            self.finish("stderr")
            os.close(self._fd)
            self._fd = -1

    def _frame(self, stream: str, whole: bytes, time_ns: int) -> bytes:
        """Records for ``whole``, complete lines all."""
        stamp = rfc3339(time_ns)
        position = 0
        while len(whole) - position > PARTIAL_BYTES:
            newline = whole.rfind(b"\n", position, position + PARTIAL_BYTES + 1)
            if newline < 0:
                return self._frame_long(stream, whole, stamp)
            position = newline + 1
        return self._lines(stream, whole, stamp)

    def _lines(self, stream: str, whole: bytes, stamp: str) -> bytes:
        """One record for each of the complete lines; this is where the bytes go through."""
        tail = b'","stream":"%b",%b"time":"%b"}\n' % (stream.encode(), self._attributes, stamp.encode())
        separator = b"\\n" + tail + b'{"log":"'
        if not whole.translate(None, _PLAIN):
            return b'{"log":"' + whole[:-1].replace(b"\n", separator) + b"\\n" + tail
        text = whole[:-1].decode("utf-8", "minid.replace_byte").replace("\n", _NEWLINE)
        escaped = _quote(text)[1:-1].replace(_NEWLINE, separator.decode())
        return b'{"log":"' + escaped.encode() + b"\\n" + tail

    def _frame_long(self, stream: str, whole: bytes, stamp: str) -> bytes:
        records = []
        for line in _split(whole):
            while len(line) > PARTIAL_BYTES + 1:
                cut = _character_boundary(line)
                records.append(self._record(stream, line[:cut], stamp))
                line = line[cut:]
            records.append(self._lines(stream, line, stamp))
        return b"".join(records)

    def _record(self, stream: str, piece: bytes, stamp: str) -> bytes:
        """One record for a piece of a line, without newline."""
        text = _quote(piece.decode("utf-8", "minid.replace_byte"))
        return b'{"log":%b,"stream":"%b",%b"time":"%b"}\n' % (
            text.encode(),
            stream.encode(),
            self._attributes,
            stamp.encode(),
        )

    def _append(self, records: bytes, source_bytes: int) -> None:
        try:
            limit = self.options.max_size_bytes
            while limit >= 0 and self._size_bytes + len(records) > limit:
                room = records.rfind(b"\n", 0, max(limit - self._size_bytes, 0)) + 1
                if not room and not self._size_bytes:
                    # A single record larger than a whole file.
                    room = records.index(b"\n") + 1
                if room:
                    self._write(records[:room])
                    records = records[room:]
                    if not records:
                        return
                self._rotate()
            self._write(records)
        except OSError as error:
            self.error = error
            self.dropped_bytes += source_bytes

    def _write(self, records: bytes) -> None:
        view = memoryview(records)
        written = 0
        try:
            while written < len(view):
                written += os.write(self._fd, view[written:])
        except OSError:
            if written:
                os.ftruncate(self._fd, self._size_bytes)
            raise
        self._size_bytes += written

    def _rotate(self) -> None:
        if self.options.max_files == 1:
            os.ftruncate(self._fd, 0)
            self._size_bytes = 0
            return
        suffix = ".gz" if self.options.compress else ""
        for number in range(self.options.max_files - 1, 1, -1):
            _rename(f"{self.path}.{number - 1}{suffix}", f"{self.path}.{number}{suffix}")
        if self.options.compress:
            _compress(self.path, f"{self.path}.1.gz")
            os.unlink(self.path)
        else:
            os.rename(self.path, f"{self.path}.1")
        os.close(self._fd)
        self._open()


def _split(whole: bytes) -> list[bytes]:
    """Lines that end with a newline; ``bytes.splitlines`` would end them at a carriage return too."""
    return [line + b"\n" for line in whole[:-1].split(b"\n")]


def _character_boundary(line: bytes) -> int:
    """Where to cut a piece of at most ``PARTIAL_BYTES`` so that no UTF-8 character is torn apart."""
    for cut in range(PARTIAL_BYTES, PARTIAL_BYTES - 4, -1):
        if cut >= len(line) or line[cut] & 0xC0 != 0x80:
            return cut
    return PARTIAL_BYTES


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        pass


def _compress(source: str, target: str) -> None:
    """``source`` as the gzip file ``target``, which appears whole."""
    import zlib  # few logs are compressed: every other shim goes without it

    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    with open(source, "rb") as plain, open(target + ".tmp", "wb") as packed:
        while chunk := plain.read(1 << 20):
            packed.write(compressor.compress(chunk))
        packed.write(compressor.flush())
    os.rename(target + ".tmp", target)
