"""What is under way on a session: until when, for whom, and how far it has come."""

from collections.abc import Callable, Mapping
from math import inf
from time import monotonic

from gateway.catalogue.arguments import literal
from gateway.postgres.failures import Stage
from gateway.waiting import Client

SILENT = 0.3
"""Seconds without an answer to a read, after which somebody should see what is the matter with the server."""


class Run:
    """The state of one use of a session; written by the session's owner, read by whoever waits on its behalf.

    PERF: a session has one for its whole life, whose fields are set anew for each use: nothing is allocated.
    """

    __slots__ = (
        "asker",
        "client",
        "deadline",
        "ended",
        "is_abandoned",
        "leaves_state",
        "limit",
        "on_silent",
        "reads",
        "settings",
        "silent_at",
        "stage",
        "wrote",
    )

    client: Client | None
    """Whose hanging up ends what runs, if it is a read."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """A point of ``time.monotonic``; past it the connection is closed."""
        self.client = None
        self.asker: Client | None = None
        """Whose answer is waited for, of reads and writes alike; None between two uses."""
        self.ended: Client | None = None
        """Whose request has been ended by an operator. It is compared with ``asker``, as a use may end just then."""
        self.stage = Stage.PREPARING
        self.reads = False
        """Whether what runs, or ran last, is a read, which may be given up at any moment."""
        self.settings: Mapping[str, str] = {}
        """Settings that hold for this use's statements: they go in front of them, in their transaction."""
        self.limit = 0
        """What ``Leftovers.write_limit`` is once the message under way has succeeded; 0: as it is."""
        self.wrote = False
        """Whether anything of this use may have written."""
        self.leaves_state = False
        """Whether anything of this use may have left session state."""
        self.silent_at: float | None = None
        """When a read that is not answered counts as silent; infinity once that was reported."""
        self.on_silent: Callable[[], None] | None = None
        self.is_abandoned = False
        """Its endpoint was withdrawn: a read is given up, a write goes on."""

    @property
    def is_recalled(self) -> bool:
        """Whether whoever waits for the server here is to stop."""
        return self.is_abandoned and self.reads

    @property
    def is_wanted(self) -> bool:
        """Whether the next message of a write is to be sent.

        It is not where an operator has ended the write, or where its client left before anything of it was sent. A
        client that leaves later ends nothing.
        """
        asker = self.asker
        if asker is None:
            return True
        if self.stage is Stage.PREPARING and asker.gone_at is not None and asker.gone_at <= monotonic():
            return False
        return self.ended is not asker

    def as_caller(self) -> list[str]:
        """Return the statement that sets what holds for this use, until the end of its transaction.

        Behind what is the gateway's own: ``role`` may be among them, with which that might not be allowed.
        """
        if not self.settings:
            return []
        # PERF: one statement for all, each further one costs the server 10 µs.
        calls = [
            f"pg_catalog.set_config({literal(name)}, {literal(value)}, true)" for name, value in self.settings.items()
        ]
        return [f"SELECT {', '.join(calls)}"]

    def as_ourselves(self) -> list[str]:
        """Return what has the gateway do something for itself, which the role of the caller's may not be allowed to."""
        return ["SET LOCAL ROLE NONE"] if "role" in self.settings else []

    def gives_up(self, now: float, call: Callable[[Callable[[], None]], object]) -> bool:
        """Return whether whoever waits for the server here is to stop; reports a silence, once, through ``call``."""
        if not self.reads:
            return False
        if self.silent_at is None:
            self.silent_at = now + SILENT
        elif now >= self.silent_at:
            self.silent_at = inf
            if self.on_silent is not None:
                call(self.on_silent)
        return self.is_abandoned
