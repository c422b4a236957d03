"""Where calls of one query wait for each other.

With few callers every call goes at once, on a connection of its own. As they pile up, only so many statements are in
flight (``pace`` finds out how many are best), and whoever comes meanwhile waits: for a statement to end, and no longer
than one takes usually, a millisecond at most. Then the first of them is let through and takes along the others.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.execution.call import Answer, SingleCall
from gateway.execution.pace import ANY, MANY, Pace
from gateway.waiting import Gate, Loop

DECAY = 0.05
"""Of averages: the share of the newest value."""
PATIENCE = 0.001
"""Seconds that a call waits for a statement in flight at most: a server process that stands still holds up nobody."""
LEAST_PATIENCE = 0.0002
MOST = 64
"""Calls of one statement."""
MOST_BYTES = 65536
"""Bytes of their arguments."""


class Member:
    """A call that waits in a lane: to lead, or for what a leader brings."""

    __slots__ = ("answer", "arrived", "call", "error", "gate", "is_taken", "leads", "size")

    def __init__(self, call: SingleCall, gate: Gate, arrived: float, size: int) -> None:
        self.call: Final = call
        self.gate: Final = gate
        self.arrived: Final = arrived
        self.size: Final = size
        """Bytes of its arguments."""
        self.leads = False
        """It was let through to run a statement."""
        self.is_taken = False
        """It is part of a statement."""
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        """What became of the statement, where that is no answer."""


class Lane:
    """The calls that may be answered together, and the statements in flight for them."""

    def __init__(
        self,
        waits: Loop,
        clock: Callable[[], float] = monotonic,
        *,
        pace: Pace | None = None,
        is_by_token: bool = False,
    ) -> None:
        """``is_by_token``: all calls have consistency tokens of one timeline, and the newest one leads."""
        self._waits = waits
        self._clock = clock
        self._is_by_token = is_by_token
        self._waiting = deque[Member]()
        """In the order in which they came."""
        self._running = 0
        """Statements in flight, and leaders that are about to send one."""
        self.present = 0
        """Calls that have come and have no answer; whoever gives the answer counts it off."""
        self._crowd = 0.0
        """How many are present when one comes, on average of the last twenty or so."""
        self._starting = 0
        """Leaders that wait for a connection."""
        self._is_timed = False
        self._limit = ANY
        self._pace = pace or Pace()
        self._usual = PATIENCE
        """Seconds that a statement takes, on average of late."""

    @property
    def is_crowded(self) -> bool:
        """Whether calls wait for each other."""
        return self._limit < ANY

    def enter(self) -> bool:
        """Note that a call has come, and return whether it goes at once; ``ended`` is to be called then."""
        self.present += 1
        self._crowd += (self.present - self._crowd) * DECAY
        self._limit = self._pace.limit if self._crowd > MANY else ANY
        if self._running >= self._limit:
            return False
        self._running += 1
        return True

    def left(self, came: float) -> None:
        """Note that a call has its answer that came then, by the lane's clock."""
        self.present -= 1
        if self._crowd > MANY:
            now = self._clock()
            self._pace.note(now - came, now, self._crowd)

    def wait(self, call: SingleCall, size: int) -> Member:
        """Have a call wait that does not go at once: its gate opens when it is to lead, or when it has an answer.

        ``size``: bytes of its arguments. ``ended`` or ``leave`` is to be called.
        """
        member = Member(call, self._waits.gate(), self._clock(), size)
        self._waiting.append(member)
        if self._running < self._limit:
            self._pass_on()
        elif not self._is_timed:
            self._is_timed = True
            self._waits.after(self._patience, self._due)
        return member

    def starts(self) -> None:
        """Note that somebody leads who has no connection; ``take`` or ``gives_up`` is to be called."""
        self._starting += 1

    def gives_up(self) -> None:
        """Note that somebody leads no more who got no connection."""
        self._starting -= 1

    def take(self, most: int, leader: SingleCall) -> list[Member]:
        """Have up to so many of those that wait join the statement that is sent now."""
        self._starting -= 1
        taken: list[Member] = []
        waiting = self._waiting
        room = MOST_BYTES
        while waiting and len(taken) < most:
            room -= waiting[0].size
            if room < 0 or (self._is_by_token and _position(waiting[0].call) > _position(leader)):
                break
            member = waiting.popleft()
            member.is_taken = True
            taken.append(member)
        return taken

    def leave(self, member: Member) -> None:
        """Note that a call waits no more that was not let through."""
        if not member.is_taken:
            self._waiting.remove(member)

    def succeeded(self, took: float) -> None:
        """Take note of how many seconds a statement took."""
        self._usual += (took - self._usual) * DECAY

    def ended(self) -> None:
        """Note that a statement has come to its end."""
        self._running -= 1
        if self._waiting and self._running < self._limit:
            self._pass_on()

    def _pass_on(self) -> None:
        """Let one that waits lead: the first."""
        waiting = self._waiting
        if self._is_by_token:
            member = max(waiting, key=lambda member: _position(member.call))
            waiting.remove(member)
        else:
            member = waiting.popleft()
        member.leads = True
        self._running += 1
        member.gate.open()

    @property
    def _patience(self) -> float:
        return max(LEAST_PATIENCE, min(PATIENCE, self._usual))

    def _due(self) -> None:
        """Send another statement if somebody has waited too long, and look again later if somebody still waits."""
        self._is_timed = False
        left = 0.0
        while self._waiting and left <= 0:
            if self._starting:  # whoever leads next would wait for a connection too, by itself
                left = self._patience
                break
            left = self._waiting[0].arrived + self._patience - self._clock()
            if left <= 0:
                self._pass_on()
                left = self._patience
        if self._waiting:
            self._is_timed = True
            self._waits.after(max(left, LEAST_PATIENCE), self._due)


def _position(call: SingleCall) -> int:
    """How far a server must have come for this call, which has a token."""
    freshness = call.freshness
    return 0 if freshness is None or freshness.token is None else freshness.token.position
