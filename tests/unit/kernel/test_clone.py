import os
import signal

from minid.kernel import clone
from tests.forked import forked


def test_a_child_and_its_pidfd() -> None:
    child = clone.fork()
    if child.pid == 0:
        signal.pause()
        os._exit(0)
    assert not os.get_inheritable(child.pidfd)
    signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGTERM
    os.close(child.pidfd)


def test_a_brother_is_the_child_of_our_parent() -> None:
    def run() -> int:
        child = clone.fork(brother=True)
        if child.pid == 0:
            os._exit(5)
        return child.pid

    pid = forked(run)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5, "it is ours to wait for"


def test_a_child_with_our_descriptors() -> None:
    def run() -> tuple[bytes, bool]:
        read, write = os.pipe()
        kept, closed = os.pipe()
        child = clone.fork_sharing_descriptors()
        if child.pid == 0:
            os.close(closed)
            made = os.memfd_create("made by the child")
            os.write(made, b"kept by its parent")
            os.write(write, b"%d" % made)
            os._exit(0)
        made = int(os.read(read, 10))
        os.waitpid(child.pid, 0)
        text = os.pread(made, 100, 0)
        return text, os.read(kept, 1) == b""

    assert forked(run) == (b"kept by its parent", True)
