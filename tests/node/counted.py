"""A server whose sessions may outlive their connections, and a driver that connects to it."""

from collections.abc import Callable, Iterable

from gateway.errors import ConnectionLost
from gateway.postgres.backends import Backend
from tests.node.clock import Clock
from tests.pool.fake import FakeConnection, FakeServer


class Server(FakeServer):
    """Has sessions, which may outlive their connections."""

    def __init__(self, name: str = "primary") -> None:
        super().__init__(name)
        self.sessions: set[Backend] = set()
        self.is_answering = True
        self._started = 0

    def begin(self) -> Backend:
        self._started += 1
        session = Backend(100 + self._started % 4, self._started)
        self.sessions.add(session)
        return session


class Connection(FakeConnection):
    """Tells when it is closed. ``keeps`` has its session go on after that."""

    on_close: Callable[[bool], None] | None = None
    in_good_order = True
    keeps = False

    def __init__(self, server: Server, clock: Clock, *, prepares: bool = True) -> None:
        super().__init__(server, clock)
        self.prepares = prepares
        self.home = server
        self.session = server.begin()

    def close(self) -> None:
        super().close()
        on_close, self.on_close = self.on_close, None
        if not self.keeps:
            self.home.sessions.discard(self.session)
        if on_close is not None:
            on_close(self.in_good_order)

    def get_backend_pid(self) -> int:
        return self.session.pid

    def ask(self, sql: str, _deadline: float) -> list[tuple[str | None, ...]]:
        if not self.home.is_answering:
            self.close()
            raise ConnectionLost("no answer")
        sessions: Iterable[Backend] = self.home.sessions if "ANY" in sql else [self.session]
        return [(str(pid), f"{started / 1e6:.6f}") for pid, started in sessions]


class FakeDriver:
    """Connects, or raises what it is told."""

    def __init__(self, clock: Clock, server: Server | None = None) -> None:
        self._clock = clock
        self.server = server or Server()
        self.error: Exception | None = None
        self.began: list[float] = []
        self.prepares = True

    def connect(self, endpoint: str, deadline: float) -> Connection:  # noqa: ARG002 -- there is one server
        assert self._clock() < deadline
        self.began.append(self._clock())
        if self.error is not None:
            raise self.error
        return Connection(self.server, self._clock, prepares=self.prepares)
