"""``python -m tests.live.pipelining ADDRESS COUNT``: clients that send requests without waiting for the answers.

Says ``going`` on its standard output once all are connected, and goes on until it is ended.
"""

import selectors
import socket
import sys
from contextlib import suppress

REQUESTS = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000


def main(address: str, count: int) -> None:
    """Keep every connection full."""
    host, _, port = address.rpartition(":")
    selector = selectors.DefaultSelector()
    for _ in range(count):
        sock = socket.create_connection((host, int(port)))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, (sock, [memoryview(REQUESTS)]))
    print("going", flush=True)
    while True:
        for key, what in selector.select():
            sock, rest = key.data
            with suppress(BlockingIOError):
                if what & selectors.EVENT_READ:
                    sock.recv(1 << 18)
                if what & selectors.EVENT_WRITE:
                    rest[0] = rest[0][sock.send(rest[0]) :] or memoryview(REQUESTS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
