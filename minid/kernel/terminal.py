"""Pseudo-terminals of a container's own devpts instance (``pts(4)``, ``ioctl_tty(2)``)."""

import errno
import fcntl
import os
import stat
import struct
import termios

TIOCSPTLCK = 0x40045431
TIOCGPTN = 0x80045430
TIOCGPTPEER = 0x5441
PTMX = os.makedev(5, 2)


def open_pair() -> tuple[int, int, str]:
    """A new terminal of the devpts at /dev/pts: master, slave (both close-on-exec) and the slave's path.

    What lies at /dev/ptmx may be a running container's doing, so it is checked to be that device, and the
    slave is had
    from the master (TIOCGPTPEER, Linux 4.13), not by its path.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("/dev/pts/ptmx", flags | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(master)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != PTMX:
            raise OSError(errno.ENOTTY, "not a terminal multiplexer", "/dev/pts/ptmx")
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, struct.pack("i", 0)))
        return master, fcntl.ioctl(master, TIOCGPTPEER, flags), f"/dev/pts/{number}"
    except BaseException:
        os.close(master)
        raise


def set_size(fd: int, height: int, width: int) -> None:
    """TIOCSWINSZ, in characters."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def make_controlling(slave: int) -> None:
    """Make ``slave`` the controlling terminal of this session leader."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
