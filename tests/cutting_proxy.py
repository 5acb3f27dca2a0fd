"""A TCP proxy that breaks connections: after so many bytes from the client, each time it is told to."""

import contextlib
import socket
import struct
import threading


class CuttingProxy:
    """``with CuttingProxy(port)``; every number in ``cuts`` breaks one connection after that many bytes sent up."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.cuts: list[int] = []
        self.sent_bytes = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.moved = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "CuttingProxy":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def wait_for(self, sent_bytes: int, timeout_s: float = 30) -> None:
        """Until the client has sent so much."""
        with self.moved:
            assert self.moved.wait_for(lambda: self.sent_bytes >= sent_bytes, timeout_s), self.sent_bytes

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except ConnectionRefusedError:
                client.close()
                continue
            self._sockets += [client, server]
            for source, sink, is_up in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._copy, args=(source, sink, is_up))
                self._threads.append(thread)
                thread.start()

    def _copy(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if is_up and self._is_to_be_cut(passed):
                    self._reset(source, sink)
                    return
                sink.sendall(data)
                if is_up:
                    with self.moved:
                        self.sent_bytes += len(data)
                        self.moved.notify_all()
        except OSError:
            pass
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _reset(self, *sockets: socket.socket) -> None:
        """As a firewall or a crash does it: RST to both sides."""
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            sock.close()

    def _is_to_be_cut(self, passed: int) -> bool:
        with self._lock:
            if self.cuts and passed >= self.cuts[0]:
                self.cuts.pop(0)
                return True
        return False
