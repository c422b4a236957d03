"""Takes clients' connections from a worker's listeners: several a turn, and a fair share of the node's."""

import _socket
import errno
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from gateway.events import CannotAccept, Observer
from gateway.server.tally import Tally

AT_ONCE = 64
"""Connections accepted in one turn of the loop: about a millisecond's work."""
PAUSE = 0.1
"""Seconds without accepting when the system has no descriptor left."""
GIVE_WAY = 0.001
"""Seconds without accepting when another worker has fewer clients."""
SEND_BUFFER = 256 * 1024
"""Bytes the kernel may hold of an answer (it takes twice as many). Left to itself it takes megabytes, and says that a
slow reader has taken some of them only when a third is free: seconds in which a reader looks like a stopped one."""
READ = 1

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

Take = Callable[[Any, _socket.socket, Any], None]
"""Given the listener, the connection and the peer's address."""


class Acceptor:
    """Accepts for one worker until told to stop; what is accepted is given to ``take``.

    Over the listener ``admin`` operators come, who never have to wait for an emptier worker.
    """

    def __init__(
        self,
        *,
        listeners: Sequence[Any],
        admin: Any,
        take: Take,
        clients: Callable[[], int],
        tally: Tally,
        worker: int,
        observe: Observer,
    ) -> None:
        """``clients``: how many there are; ``worker``: the number by which ``tally`` knows it."""
        self._loop = gevent.get_hub().loop
        self._take = take
        self._clients = clients
        self._tally = tally
        self._worker = worker
        self._observe = observe
        self._admin = admin
        self._listeners = [*listeners, admin]
        self._watchers: list[Any] = []
        self._gave_way = False
        self._is_draining = False

    def start(self) -> None:
        """Begin to accept."""
        self._tally.note_clients(self._worker, 0)
        for listener in self._listeners:
            listener.setblocking(False)
            self._watchers.append(self._loop.io(listener.fileno(), READ))
        self._resume()

    def drain(self) -> None:
        """Accept what is in the backlogs, close the listeners, and accept no more."""
        self._is_draining = True
        for watcher in self._watchers:
            watcher.stop()
        for listener in self._listeners:
            while self._accept(listener):
                pass
            listener.close()
        self._tally.leave(self._worker)

    def note(self) -> None:
        """Tell the other workers that the number of clients has changed."""
        if not self._is_draining:
            self._tally.note_clients(self._worker, self._clients())

    def _on_readable(self, listener: Any) -> None:
        for _ in range(AT_ONCE):
            if listener is not self._admin and self._gives_way():
                self._pause(GIVE_WAY, self._watchers[:-1])
                return
            if not self._accept(listener):
                return

    def _accept(self, listener: Any) -> bool:
        """Take one connection. False if there is none to be had."""
        try:
            fd, address = listener.sock._accept()  # noqa: SLF001 - as socket.accept does, without its slow class
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                return True  # the client has left already: the next one
            self._observe(CannotAccept(detail=error.strerror or ""))
            self._pause(PAUSE, self._watchers)
            return False
        sock = _socket.socket(listener.sock.family, listener.sock.type, listener.sock.proto, fileno=fd)
        sock.setblocking(False)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BUFFER)
        if listener.sock.family != _socket.AF_UNIX:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._take(listener, sock, address)
        self.note()
        return True

    def _gives_way(self) -> bool:
        """Whether an emptier worker shall have the connection; not twice in a row, for that one may be stuck.

        PERF: with many clients an eighth more is even enough. A pause at nearly every one of 600 that came at once
        kept others waiting for 400 ms.
        """
        least = self._tally.fewest_clients()
        self._gave_way = not self._gave_way and self._clients() > least + least // 8
        return self._gave_way

    def _pause(self, seconds: float, watchers: Sequence[Any]) -> None:
        """Leave these backlogs alone for a moment."""
        for watcher in watchers:
            watcher.stop()
        gevent.spawn_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._is_draining:
            return
        for watcher, listener in zip(self._watchers, self._listeners, strict=True):
            watcher.start(self._on_readable, listener)
