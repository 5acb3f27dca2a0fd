"""Just enough D-Bus to ask systemd for something over its own socket, without libdbus and without a bus.

Messages are those of the "D-Bus Specification" (freedesktop.org), sections Type System and Message Protocol:
little endian, no file descriptors. Python values stand for D-Bus ones: ``str`` for s, o and g, ``int`` for y, u
and t, ``bool`` for b, a list for an array, a tuple for a struct, ``(signature, value)`` for a variant.
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

_NUMBERS = {"y": (1, "<B"), "b": (4, "<I"), "u": (4, "<I"), "t": (8, "<Q")}
_ALIGNMENTS = {"s": 4, "o": 4, "g": 1, "a": 4, "v": 1, "(": 8}
_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8


class DBusError(OSError):
    """The other side answered with an error; ``name`` is the D-Bus error's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(errno.EREMOTEIO, f"{text or 'refused'} ({name})")
        self.name = name


@dataclass(frozen=True, slots=True)
class Message:
    """``fields``: header fields by their code."""

    kind: int
    serial: int
    fields: dict[int, Any]
    raw: bytes

    @property
    def body(self) -> tuple[Any, ...]:
        """A value for each type of the signature. Decoded only now: most signals are of no interest, and some
        have types that are not known here.
        """
        return decode(str(self.fields.get(_SIGNATURE, "")), self.raw)

    @property
    def member(self) -> str:
        return str(self.fields.get(_MEMBER, ""))


def split(signature: str) -> list[str]:
    """The complete types of a signature: ``sa(sv)`` has ``s`` and ``a(sv)``."""
    types = []
    start = depth = 0
    for index, letter in enumerate(signature):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter != "a":
            types.append(signature[start : index + 1])
            start = index + 1
    return types


def encode(signature: str, values: tuple[Any, ...]) -> bytes:
    """The values one after another, as a message's body has them."""
    out = bytearray()
    for kind, value in zip(split(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _put(out: bytearray, kind: str, value: Any) -> None:
    letter = kind[0]
    if letter in _NUMBERS:
        size, form = _NUMBERS[letter]
        _pad(out, size)
        out += struct.pack(form, value)
    elif letter in "so":
        raw = value.encode()
        _pad(out, 4)
        out += struct.pack("<I", len(raw)) + raw + b"\0"
    elif letter == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif letter == "v":
        _put(out, "g", value[0])
        _put(out, value[0], value[1])
    elif letter == "(":
        _pad(out, 8)
        for each, part in zip(split(kind[1:-1]), value, strict=True):
            _put(out, each, part)
    elif letter == "a":
        _pad(out, 4)
        at = len(out)
        out += b"\0\0\0\0"
        _pad(out, _alignment(kind[1]))
        start = len(out)
        for each in value:
            _put(out, kind[1:], each)
        struct.pack_into("<I", out, at, len(out) - start)
    else:
        raise ValueError(f"D-Bus type {kind!r} is not known here")


def _alignment(letter: str) -> int:
    return _NUMBERS[letter][0] if letter in _NUMBERS else _ALIGNMENTS[letter]


def _pad(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)


def decode(signature: str, raw: bytes) -> tuple[Any, ...]:
    """The values of a body; ValueError or struct.error if it is not of that signature."""
    values = []
    at = 0
    for kind in split(signature):
        value, at = _take(raw, at, kind)
        values.append(value)
    return tuple(values)


def _take(raw: bytes, at: int, kind: str) -> tuple[Any, int]:
    letter = kind[0]
    at += -at % _alignment(letter) if letter in _NUMBERS or letter in _ALIGNMENTS else 0
    if letter in _NUMBERS:
        size, form = _NUMBERS[letter]
        number = struct.unpack_from(form, raw, at)[0]
        return bool(number) if letter == "b" else number, at + size
    if letter in "sog":
        form, size = ("<B", 1) if letter == "g" else ("<I", 4)
        end = at + size + struct.unpack_from(form, raw, at)[0]
        return raw[at + size : end].decode(), end + 1
    if letter == "v":
        inner, at = _take(raw, at, "g")
        value, at = _take(raw, at, inner)
        return (inner, value), at
    if letter == "(":
        parts = []
        for each in split(kind[1:-1]):
            part, at = _take(raw, at, each)
            parts.append(part)
        return tuple(parts), at
    if letter == "a":
        length = struct.unpack_from("<I", raw, at)[0]
        at += 4
        at += -at % _alignment(kind[1])
        end = at + length
        items = []
        while at < end:
            item, at = _take(raw, at, kind[1:])
            items.append(item)
        return items, at
    raise ValueError(f"D-Bus type {kind!r} is not known here")


class Peer:
    """A connection straight to a service's own socket, no bus between; a context manager.

    Every step waits ``timeout_s`` at most (TimeoutError).
    """

    def __init__(self, path: str, timeout_s: float = 10.0) -> None:
        self._serial = 0
        self._unread = b""
        self.signals: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(path)
            self._authenticate()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _authenticate(self) -> None:
        identity = str(os.geteuid()).encode().hex()
        self._socket.sendall(f"\0AUTH EXTERNAL {identity}\r\n".encode())
        while not self._unread.endswith(b"\r\n"):
            self._receive()
        if not self._unread.startswith(b"OK "):
            raise PermissionError(errno.EACCES, f"D-Bus authentication was refused: {self._unread!r}")
        self._unread = b""
        self._socket.sendall(b"BEGIN\r\n")

    def call(
        self, path: str, interface: str, member: str, signature: str, *values: Any, destination: str
    ) -> tuple[Any, ...]:
        """Call a method; the body of its answer. Signals that come in between are kept in ``signals``."""
        self._serial += 1
        body = encode(signature, values)
        fields = [
            (_PATH, ("o", path)),
            (_INTERFACE, ("s", interface)),
            (_MEMBER, ("s", member)),
            (_DESTINATION, ("s", destination)),
            (_SIGNATURE, ("g", signature)),
        ]
        head = bytearray(b"l" + bytes([_CALL, 0, 1]) + struct.pack("<II", len(body), self._serial))
        _put(head, "a(yv)", fields)
        _pad(head, 8)
        self._socket.sendall(bytes(head) + body)
        while True:
            message = self._next()
            if message.kind == _SIGNAL:
                self.signals.append(message)
            elif message.fields.get(_REPLY_SERIAL) == self._serial:
                break
        if message.kind == _ERROR:
            text = str(message.body[0]) if message.body else ""
            raise DBusError(str(message.fields.get(_ERROR_NAME)), text)
        return message.body

    def next_signal(self) -> Message:
        """The next signal, those kept first."""
        while not self.signals:
            message = self._next()
            if message.kind == _SIGNAL:
                self.signals.append(message)
        return self.signals.pop(0)

    def _next(self) -> Message:
        while len(self._unread) < 16:
            self._receive()
        if self._unread[:1] != b"l":
            raise OSError(errno.EPROTO, "D-Bus message that is not little endian")
        body_size, serial, fields_size = struct.unpack_from("<III", self._unread, 4)
        start = 16 + fields_size + -fields_size % 8
        while len(self._unread) < start + body_size:
            self._receive()
        raw, self._unread = self._unread[: start + body_size], self._unread[start + body_size :]
        # The array's content begins at 16, a multiple of its alignment, so it can be decoded by itself.
        fields, _ = _take(raw, 12, "a(yv)")
        known = {code: value for code, (_, value) in fields}
        return Message(raw[1], serial, known, raw[start:])

    def _receive(self) -> None:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise ConnectionResetError(errno.ECONNRESET, "the D-Bus peer closed the connection")
        self._unread += chunk
