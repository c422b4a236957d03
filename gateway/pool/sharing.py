"""Whose turn it is among the endpoints that serve, and where connections are too few for an even share.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group that owns it.
"""

from collections.abc import Sequence
from math import inf
from typing import Generic, Literal

from gateway.pool.shelf import Shelf
from gateway.pool.slot import C, Slot

Balance = Literal["round_robin", "least_busy"]

SHIFT_EVERY = 5.0
"""Seconds between two shifts of the odd connection out, where the slots do not divide evenly by the endpoints."""

Turns = Sequence[Sequence[Shelf[C]]]
"""The shelves to choose from, once for each to begin with."""


class Sharing(Generic[C]):
    """Gives work to endpoints in turn or where least is under way, and connections to all alike."""

    def __init__(self, *, balance: Balance, turn: int = 0) -> None:
        """``turn`` says with which endpoint to begin."""
        self.serving: Sequence[Shelf[C]] = ()
        self.turns: Turns[C] = ()
        self.sole: Shelf[C] | None = None
        """The one that serves, if no other does."""
        self.pick = self._pick_least_busy if balance == "least_busy" else self._pick_in_turn
        """Of some turns the shelf to take from, None if nothing is idle; and where another connection is wanted."""
        self.richest: Shelf[C] | None = None
        """Where most connections are, if all slots are taken and somewhere there are fewer."""
        self._poorest: Shelf[C] | None = None
        self._turn = turn
        self._changes = 0
        self._shift_at = 0.0

    @property
    def order(self) -> Sequence[Shelf[C]]:
        """All that serve, beginning with whose turn it was last."""
        return self.turns[self._turn % len(self.turns)] if self.turns else ()

    def arrange(self, serving: Sequence[Shelf[C]]) -> None:
        """Take over who serves."""
        self.serving = serving
        self.sole = serving[0] if len(serving) == 1 else None
        self.turns = [[*serving[turn:], *serving[:turn]] for turn in range(len(serving))]

    def _pick_least_busy(self, turns: Turns[C]) -> tuple[Shelf[C] | None, Shelf[C] | None]:
        self._turn = turn = (self._turn + 1) % len(turns)
        best = due = None
        fewest = least = inf
        for shelf in turns[turn]:
            leased = shelf.leased
            if leased < least:
                due, least = shelf, leased
            if leased < fewest and shelf.idle:
                best, fewest = shelf, leased
        if best is None or due is None:
            return None, None
        if best is due:
            return best, None
        due.missed = True
        return best, due if due.total < best.total else None

    def _pick_in_turn(self, turns: Turns[C]) -> tuple[Shelf[C] | None, Shelf[C] | None]:
        self._turn = turn = (self._turn + 1) % len(turns)
        for shelf in turns[turn]:
            if shelf.idle:
                due = turns[turn][0]
                if shelf is due:
                    return shelf, None
                due.missed = True
                return shelf, due if due.total < shelf.total else None
        return None, None

    def changed(self, shelf: Shelf[C]) -> None:
        """Note that a shelf has one connection more or less."""
        self._changes += 1
        shelf.changed = self._changes

    def weigh(self, *, is_full: bool) -> None:
        """See where most connections are and where fewest; of several, where it has been so for longest."""
        self.richest = self._poorest = None
        if is_full and len(self.serving) > 1:
            richest = max(self.serving, key=lambda shelf: (shelf.total, -shelf.changed))
            poorest = min(self.serving, key=lambda shelf: (shelf.total, shelf.changed))
            if poorest.total < richest.total:
                self.richest, self._poorest = richest, poorest

    def to_shift(self, slot: Slot[C], now: float, *, busy: bool) -> Shelf[C] | None:
        """Where a connection had better be opened instead of the one that comes home to this slot, if anywhere.

        Only with all slots taken, from where most connections are to where fewest, if these are too few: requests
        wait (``busy``), or its turn was missed. A difference of one is shifted on again and again, slowly: else a
        group of eight slots would give three endpoints 3, 3 and 2 parts of its work.

        Not to be asked while anybody waits for an endpoint of their own choice.
        """
        richest, poorest = self.richest, self._poorest
        if richest is None or poorest is None or slot.endpoint != richest.name or not (busy or poorest.missed):
            return None
        if poorest.connecting or poorest.road.failing or not poorest.may_connect(now):
            return None
        if richest.total - poorest.total == 1:
            is_due = 0.0 < self._shift_at <= now
            if is_due or self._shift_at == 0.0:
                self._shift_at = now + SHIFT_EVERY
            if not is_due:
                return None
        poorest.missed = False
        return poorest
