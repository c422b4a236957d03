"""Wakes the workers of a node when something that they share has changed: a datagram to a socket of each.

Each worker has a socket in the runtime directory. A datagram is one byte that tells what has changed; what it changed
to stands in the shared files. A datagram that is lost costs a moment, never the news: whoever waits looks by itself
twice a second.
"""

import os
import select
import socket
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.events import NodeNotShared, Observer
from gateway.node.processes import my_start
from gateway.node.tasks import Task

BOARD, LEARNT, PLACES, QUESTION, WORKERS = b"b", b"l", b"p", b"q", b"w"
"""What has changed: a view of an endpoint; what is known of queries; a worker wants a connection, or gave one up; a
question to all workers; a worker has ended, and with it what it did for the node."""

_END = b"\0"
"""What a worker tells itself to end its wait."""
_PREFIX = "news-"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_AT_ONCE = 64
"""Bytes read of what has piled up. More than that many are told of one change several times."""


class News:
    """This worker's socket, and the way to those of the others."""

    def __init__(self, directory: Path, *, observe: Observer) -> None:
        """Make the socket. Where that fails this worker is told nothing, and looks by itself."""
        self._observe = observe
        self._listeners: defaultdict[int, list[Callable[[], None]]] = defaultdict(list)
        self._name = f"{_PREFIX}{os.getpid()}-{my_start()}"
        self._directory = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._task = Task("the news of the node", self._turn, observe=observe)
        self.is_listening = False
        """Whether this worker can be told anything."""
        try:
            self._directory = os.open(directory, _DIRECTORY)
            _remove(self._directory, self._name)  # of a process of the same name, before the machine was booted
            self._socket.bind(_path(self._directory, self._name))
            self.is_listening = True
        except OSError as error:
            observe(NodeNotShared(what="this worker is not told of the others' news at once", detail=str(error)))

    def on(self, topic: bytes, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after another worker has told of this topic; it must not wait."""
        self._listeners[topic[0]].append(listener)

    def tell(self, topic: bytes) -> None:
        """Wake all others that listen to this topic. Never waits and never raises."""
        _tell(self._socket, self._directory, topic, but=self._name)

    def start(self) -> None:
        """Begin to listen."""
        if self.is_listening:
            self._task.start()

    def close(self) -> None:
        """End; nobody is told anything any more. Harmless when repeated."""
        if self.is_listening:
            _send(self._socket, self._directory, self._name, _END)
            _remove(self._directory, self._name)
            self.is_listening = False
        self._task.close()
        self._socket.close()
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def _turn(self) -> float | None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.poll()
        topics = set[int]()
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                topics.update(self._socket.recv(1))
        for topic in topics:
            for listener in self._listeners[topic]:
                listener()
        return None if _END[0] in topics else 0.0


def tell(directory: Path, topic: bytes) -> None:
    """Wake all workers that listen to this topic; for a process that is none of them."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        descriptor = os.open(directory, _DIRECTORY)
        try:
            _tell(sock, descriptor, topic)
        finally:
            os.close(descriptor)


def _tell(sock: socket.socket, directory: int, topic: bytes, *, but: str = "") -> None:
    try:
        names = os.listdir(f"/proc/self/fd/{directory}")  # noqa: PTH208 -- 3 µs, not 30
    except OSError:
        return
    for name in names:
        if name.startswith(_PREFIX) and name != but:
            _send(sock, directory, name, topic)


def _send(sock: socket.socket, directory: int, name: str, topic: bytes) -> None:
    try:
        sock.sendto(topic, _path(directory, name))
    except ConnectionRefusedError:
        _remove(directory, name)  # its process has died
    except OSError:
        return  # it has not read what it was told earlier, or has gone meanwhile


def _path(directory: int, name: str) -> str:
    """Name a socket by the directory's descriptor: the path of a Unix socket has at most 107 bytes."""
    return f"/proc/self/fd/{directory}/{name}"


def _remove(directory: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=directory)
