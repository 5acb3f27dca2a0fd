"""A DNS server for tests on the loopback: what the rest of the world is to a container. Made with dnslib, so
that what minid encodes and decodes by itself meets somebody else's idea of it.
"""

import socket
import struct
import threading
from collections.abc import Sequence

import dnslib

SILENT, FAILING, BIG, LYING, HANGING_UP = "silent", "failing", "big", "lying", "hanging-up"  # first labels
BIG_ADDRESSES = 600


class Upstream:
    """Answers A queries with ``address`` over UDP and TCP. ``seen`` has ``udp|tcp name`` of each query."""

    def __init__(self, ip: str = "127.0.0.1", port: int = 0, address: str = "192.0.2.1") -> None:
        self.seen: list[str] = []
        self.address = address
        self.ignoring = 0  # so many queries are not answered
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp.bind((ip, port))
        self.ip, self.port = self._udp.getsockname()
        self._tcp.bind((ip, self.port))
        self._tcp.listen()
        self._threads = [
            threading.Thread(target=one, daemon=True) for one in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # wakes the thread all the same
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._udp.close()
        self._tcp.close()

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self, packet: bytes, how: str) -> Sequence[bytes]:
        query = dnslib.DNSRecord.parse(packet)
        name = str(query.q.qname).rstrip(".")
        self.seen.append(f"{how} {name}")
        kind = name.split(".")[0]
        if kind == SILENT or self.ignoring > 0:
            self.ignoring -= 1
            return []
        reply = query.reply()
        if kind == FAILING:
            reply.header.rcode = dnslib.RCODE.SERVFAIL
        elif kind == BIG:
            for number in range(BIG_ADDRESSES):
                address = dnslib.A(f"10.1.{number // 250}.{number % 250 + 1}")
                reply.add_answer(dnslib.RR(query.q.qname, rdata=address, ttl=60))
            if how == "udp":
                reply = reply.truncate()
        elif "." not in name or name.endswith("nowhere"):
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        elif query.q.qtype == dnslib.QTYPE.A:
            reply.add_answer(dnslib.RR(query.q.qname, rdata=dnslib.A(self.address), ttl=60))
        if kind == LYING:  # answers to other questions first
            wrong_number = query.reply()
            wrong_number.header.id ^= 1
            wrong_name = dnslib.DNSRecord.question("other.example").reply()
            wrong_name.header.id = query.header.id
            return [b"", b"short", wrong_number.pack(), wrong_name.pack(), reply.pack()]
        return [reply.pack()]

    def _serve_udp(self) -> None:
        while True:
            try:
                packet, client = self._udp.recvfrom(65535)
            except OSError:
                return
            if not packet:
                return
            for answer in self._answers(packet, "udp"):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(5)
                length = stream.read(2)
                if len(length) < 2:
                    continue
                packet = stream.read(struct.unpack(">H", length)[0])
                if str(dnslib.DNSRecord.parse(packet).q.qname).startswith(HANGING_UP):
                    continue
                for answer in self._answers(packet, "tcp"):
                    connection.sendall(struct.pack(">H", len(answer)) + answer)
