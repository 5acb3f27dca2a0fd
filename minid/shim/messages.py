"""The wire between daemon, forkserver and shims: one JSON object a packet, descriptors beside it.

The sockets are ``AF_UNIX``/``SOCK_SEQPACKET`` (``unix(7)``): the kernel keeps the boundaries and delivers a
packet
with its descriptors or not at all, so there is no framing to get wrong. Every message carries ``"v":
VERSION``, because a
shim outlives the daemon that started it and will be spoken to by a newer one. Packets are small
(``LIMIT_BYTES``);
what may be large travels as a descriptor of a memfd or a file.
"""

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = 1
LIMIT_BYTES = 128 * 1024
MAX_FDS = 16

Message = dict[str, Any]


class MessageError(ValueError):
    """A packet that is no message of a version we speak."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Raises MessageError when the message does not fit into one packet."""
    data = json.dumps({"v": VERSION, **message}, separators=(",", ":")).encode()
    if len(data) > LIMIT_BYTES:
        raise MessageError(f"message of {len(data)} bytes exceeds {LIMIT_BYTES}")
    return data


def send(sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message; descriptors are duplicated by the kernel, the sender keeps its own."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([encode(message)], ancillary)


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors (close-on-exec), ``(None, [])`` at the end of the stream."""
    fds: array.array[int] = array.array("i")
    data, ancillary, flags, _ = sock.recvmsg(
        LIMIT_BYTES, socket.CMSG_SPACE(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        return None, []
    try:
        message = json.loads(data)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or message["v"] != VERSION:
            raise MessageError(f"message truncated or not of version {VERSION}")
    except (ValueError, KeyError, TypeError) as error:
        for fd in fds:
            os.close(fd)
        raise error if isinstance(error, MessageError) else MessageError(f"not a message: {error}") from error
    return message, list(fds)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
