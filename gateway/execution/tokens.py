"""Consistency tokens of writes: one question to a server for all that have committed there before it is asked."""

from time import monotonic

from gateway.errors import GatewayError
from gateway.pool.lease import Lease
from gateway.postgres.marks import Origin
from gateway.postgres.positions import token_after_commit
from gateway.postgres.session import Session
from gateway.waiting import Waits

TIMEOUT = 0.25
"""Seconds that a committed write's answer waits for its token at most."""


class _Waiter:
    """A write that has committed while a question was under way."""

    __slots__ = ("asks_for", "gate", "is_answered", "token")

    def __init__(self, waits: Waits) -> None:
        self.gate = waits.gate()
        self.is_answered = False
        self.token: str | None = None
        self.asks_for: list[_Waiter] | None = None
        """Those for whom it is to ask, itself not included; None: it is not its turn."""


class Tokens:
    """Asks for the tokens of writes that have committed.

    While a question is under way on a server, writes that commit there wait for it to be answered, as it may have been
    sent before they committed. Then the first of them asks on its own connection, and its answer is that of all. A
    position of another server would say nothing of a write, so only writes on the same server, in the same of its
    lives, are asked for together.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._lock = waits.lock()
        self._waiting: dict[Origin, list[_Waiter]] = {}
        """Who waits, by server; a server that is not asked now is not in it."""

    def after_commit(self, lease: Lease[Session], deadline: float) -> str | None:
        """Return how far a server must have come to show what was just committed with this lease.

        Never raises: where the position is not known before ``deadline``, or ``TIMEOUT`` from now, there is none.
        """
        soon = min(deadline, monotonic() + TIMEOUT)
        origin = _origin_of(lease.connection, soon)
        if origin is None:
            return _asked(lease, lease.view.system, soon)
        with self._lock:
            others = self._waiting.get(origin)
            if others is None:
                self._waiting[origin] = []
            else:
                waiter = _Waiter(self._waits)
                others.append(waiter)
        if others is None:
            return self._ask(lease, origin, soon, [])
        return self._wait(waiter, lease, origin, soon)

    def _wait(self, waiter: _Waiter, lease: Lease[Session], origin: Origin, soon: float) -> str | None:
        waiter.gate.wait(soon - monotonic())
        with self._lock:
            if waiter in (waiting := self._waiting.get(origin, [])):
                waiting.remove(waiter)  # it is too late
                return None
            mine = waiter.asks_for
        if mine is not None:
            return self._ask(lease, origin, soon, mine)
        if waiter.is_answered:
            return waiter.token
        # Who asked for it has not been answered, which may be the fault of that one connection; or it is asking still.
        return _asked(lease, str(origin.system), soon)

    def _ask(self, lease: Lease[Session], origin: Origin, soon: float, others: list[_Waiter]) -> str | None:
        """Ask for this write and for others, and let those ask who have come meanwhile."""
        token = None
        try:
            token = _asked(lease, str(origin.system), soon)
        finally:
            with self._lock:
                came = self._waiting.pop(origin)
                if came:
                    came[0].asks_for = came[1:]
                    self._waiting[origin] = []
            for waiter in others:
                waiter.is_answered, waiter.token = token is not None, token
                waiter.gate.open()
            if came:
                came[0].gate.open()
        return token


def _origin_of(connection: Session, deadline: float) -> Origin | None:
    """Which server it is; None where that is not known, or another one each time."""
    if not connection.prepares:
        return None
    connection.run.deadline = deadline
    try:
        return connection.origin()
    except GatewayError:
        return None


def _asked(lease: Lease[Session], system: str | None, deadline: float) -> str | None:
    if monotonic() >= deadline:
        return None  # a question that is too late would cost the connection
    token = token_after_commit(lease.connection, system=system, deadline=deadline)
    return None if token is None else str(token)
