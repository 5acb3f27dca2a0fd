"""Being told when anybody commits a change to the firewall's rules (``NFNLGRP_NFTABLES``)."""

import socket

from minid.kernel.nftables.transaction import NETLINK_NETFILTER

_NFNLGRP_NFTABLES = 7
_RECEIVE_BYTES = 1 << 16


class Watch:
    """A socket for an event loop, in the network namespace of the thread that makes it.

    It says that something changed, by us too, not what: a loss of messages loses nothing.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        self._socket.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Take in all that has come; the next one makes the socket readable again."""
        while True:
            try:
                self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: there were more than it holds
                continue

    def close(self) -> None:
        self._socket.close()
