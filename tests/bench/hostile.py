"""Clients that mean no good, next to others that want their answers: what the others notice of them."""

import itertools
import socket
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.bench.contender import Contender
from tests.bench.failures import BenchError

DRIBBLING = 500
"""Clients that send a head a byte at a time, and come again when the connection is taken from them."""
STAYING = 100
"""Clients that ask for the connection's end with their request, and then do not close their side."""

_CONNECTIONS = 16
_REST_MS = 5
"""Between two requests of one of the others: what is timed is the gateway, not how the processors are shared."""
_BYTE_EVERY = 1.0
"""Seconds between two bytes of one that dribbles."""
_STAY = 5.0
"""Seconds until one that stays makes room for the next of its kind."""
_TURNS = 50
"""Parts of the crowd, which act one after the other: all at once would be another attack."""
_PATIENCE = 20.0
_DRIBBLED = (
    b"POST /query/product HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"
)
_LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Hostile(NamedTuple):
    """One round."""

    alone_p50_ms: float
    alone_p99_ms: float
    crowded_p50_ms: float
    crowded_p99_ms: float
    alone_processor_us: float
    """Of the contender, for each request of the others."""
    crowded_processor_us: float

    @property
    def ratio(self) -> float:
        """p99 with the crowd, as a multiple of that without."""
        return self.crowded_p99_ms / self.alone_p99_ms


class Crowd:
    """All of them, in one thread, from entering to leaving."""

    def __init__(self, port: int) -> None:
        self._clients = [*(_dribble(port) for _ in range(DRIBBLING)), *(_stay(port) for _ in range(STAYING))]
        self._is_complete = threading.Event()
        self._over = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._is_complete.wait(_PATIENCE) or self._fault:
            self._leave()
            raise BenchError(f"the crowd could not connect: {self._fault or 'too slow'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if self._fault is not None and error is None:
            raise BenchError(f"the crowd broke up: {self._fault!r}")

    def _leave(self) -> None:
        self._over.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _live(self) -> None:
        try:
            for client in self._clients:
                next(client)
            self._is_complete.set()
            for turn in itertools.cycle(range(_TURNS)):
                if self._over.wait(_BYTE_EVERY / _TURNS):
                    return
                for client in self._clients[turn::_TURNS]:
                    next(client)
        except OSError as error:
            self._fault = error
            self._is_complete.set()


def _dribble(port: int) -> Generator[None, None, None]:
    while True:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE) as connection, suppress(OSError):
            for number in range(len(_DRIBBLED)):
                connection.sendall(_DRIBBLED[number : number + 1])
                yield


def _stay(port: int) -> Generator[None, None, None]:
    while True:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE) as connection:
            connection.sendall(_LAST)
            leaves_at = time.monotonic() + _STAY
            while time.monotonic() < leaves_at:
                yield


def measure(contender: Contender, requests: Path, *, seconds: int) -> Hostile:
    """First the others alone, then with the crowd; BenchError if any of the others was not answered."""
    alone = _load(contender, requests, seconds)
    with Crowd(contender.port):
        crowded = _load(contender, requests, seconds)
    return Hostile(alone[0], alone[1], crowded[0], crowded[1], alone[2], crowded[2])


def _load(contender: Contender, requests: Path, seconds: int) -> tuple[float, float, float]:
    load, used = contender.load(requests, connections=_CONNECTIONS, seconds=seconds, rest_ms=_REST_MS)
    if load.failures or load.refused or not load.requests:
        raise BenchError(
            f"{contender.name}: {load.requests} answers, {load.refused} refusals, {load.failures} failures"
        )
    return load.p50_ms, load.p99_ms, used / load.requests * 1e6
