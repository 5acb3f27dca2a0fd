"""A small web server and what loads it, for one core each. Standard library only: the server runs in a container
that has nothing but the host's Python mounted into it.

    http_load.py serve PORT
    http_load.py load ADDRESS PORT SECONDS CONNECTIONS   prints the requests answered in a second
"""

import select
import socket
import sys
import time

BODY = b"hello from a container\n" * 8
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def serve(port: int) -> None:
    """Answers every request, on connections that stay."""
    listener = socket.create_server(("", port), backlog=256)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            client = clients.get(number)
            if client is None:
                client, _address = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client.fileno(), select.EPOLLIN)
                continue
            try:
                requests = client.recv(4096).count(b"\r\n\r\n")
                if requests:
                    client.send(RESPONSE * requests)
                    continue
            except OSError:
                pass
            poll.unregister(number)
            clients.pop(number).close()


def load(address: str, port: int, seconds: float, connections: int) -> float:
    """Requests answered in a second: each connection has one on its way at any time."""
    poll = select.epoll()
    clients: dict[int, socket.socket] = {}
    for _ in range(connections):
        client = socket.create_connection((address, port), timeout=5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[client.fileno()] = client
        poll.register(client.fileno(), select.EPOLLIN)
        client.send(REQUEST)
    answered = 0
    started = time.perf_counter()
    end = started + seconds
    while (now := time.perf_counter()) < end:
        for number, _ in poll.poll(1):
            client = clients[number]
            size = len(client.recv(4096))
            while size < len(RESPONSE):
                client.settimeout(5)
                piece = len(client.recv(4096))
                if not piece:
                    raise ConnectionError("the server has gone")
                size += piece
            answered += 1
            client.send(REQUEST)
    return answered / (now - started)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        print(load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
