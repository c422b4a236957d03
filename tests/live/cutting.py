"""A wire to a server that breaks at a COMMIT: before it is passed on, or after."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from gateway.demo.ports import find_port
from gateway.demo.server import Server

PATIENCE = 10.0


class Cut(Enum):
    """Where the wire breaks."""

    NOWHERE = "nowhere"
    BEFORE = "the COMMIT is swallowed"
    AFTER = "the COMMIT is passed on, its answer is swallowed"
    DEAF = "the same, and nobody is told that the wire is broken"


class Wire:
    """Forwards connections to a server, and cuts those that send a COMMIT, as often as it is told to."""

    def __init__(self, server: Server) -> None:
        self.port = find_port()
        self._server = server
        self._cut = Cut.NOWHERE
        self._times = 0
        self._stopped = False
        self._meanwhile: Callable[[], object] = lambda: None
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def dsn(self, dbname: str, user: str = "postgres") -> str:
        """How to connect through it."""
        return self._server.dsn(dbname, user).replace(f"port={self._server.port}", f"port={self.port}")

    def cut(self, where: Cut, *, times: int = 1, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Cut the next so many; ``meanwhile`` happens after the COMMIT was passed on or swallowed, before the cut."""
        self._cut, self._times, self._meanwhile = where, times, meanwhile

    def stop(self) -> None:
        """Cut every connection, and take no other."""
        self._stopped = True
        self._end_all()

    def go_on(self) -> None:
        """Take connections again."""
        self._stopped = False

    def close(self) -> None:
        """Close everything."""
        self._stopped = True
        self._listener.close()
        self._end_all()

    def _end_all(self) -> None:
        _end(*self._open)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._stopped:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._server.port))
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            broken, answered = threading.Event(), threading.Event()
            threading.Thread(target=self._forth, args=(near, far, broken, answered), daemon=True).start()
            threading.Thread(target=self._back, args=(far, near, broken, answered), daemon=True).start()

    def _forth(
        self, near: socket.socket, far: socket.socket, broken: threading.Event, answered: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                if b"COMMIT\0" in data and self._times > 0:
                    self._times -= 1
                    broken.set()
                    if self._cut is not Cut.BEFORE:
                        far.sendall(data)
                        answered.wait(PATIENCE)
                    self._meanwhile()
                    while self._cut is Cut.DEAF and near.recv(65536):
                        pass
                    break
                far.sendall(data)
        _end(near, far)

    def _back(
        self, far: socket.socket, near: socket.socket, broken: threading.Event, answered: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                if broken.is_set():
                    break
                near.sendall(data)
        answered.set()
        if not broken.is_set():
            _end(near, far)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def wire_to(server: Server) -> Iterator[Wire]:
    """A wire to this server."""
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.close()
