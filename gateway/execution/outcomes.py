"""Finds out what became of a write whose answer was lost: for requests still waiting, and for whoever asks later."""

import itertools
from collections.abc import Callable, Sequence
from time import monotonic

from gateway.errors import GatewayError, NotFound, Outcome
from gateway.pool.lease import Lease
from gateway.pool.pool import Pool
from gateway.postgres.marks import Mark
from gateway.postgres.outcomes import Verdict, ask, judge
from gateway.postgres.session import Session
from gateway.waiting import Waits

PAUSE_FIRST, PAUSE_LONGEST = 0.05, 0.5
"""Seconds between two questions, longer each time: what cannot be answered yet takes a connection every time."""
MOST_QUESTIONS = 6
"""That one request for an outcome may put to each group: 1.4 seconds of pauses, before the caller may ask again."""
_TO_ANSWER = 0.02
"""Seconds before the deadline at which asking ends, so that the answer is in time."""


class Outcomes:
    """Finds out what became of writes."""

    def __init__(self, *, pool: Pool[Session], waits: Waits) -> None:
        self._pool = pool
        self._waits = waits
        self.groups = tuple(name for name, group in pool.groups.items() if group.access_write)
        """Where writes run, and where can be asked for them."""

    def find(
        self,
        mark: Mark,
        groups: Sequence[str],
        deadline: float,
        *,
        most: int | None = None,
        when_committed: Callable[[Lease[Session]], None] | None = None,
    ) -> Outcome:
        """Ask the servers of these groups until one knows, or nobody can, or the deadline is near.

        ``most``: questions to each, None: any number. ``when_committed`` is called with the server that says so.
        Raises NotFound where they are all of other clusters, and the pool's error where none could be asked.
        """
        deadline -= _TO_ANSWER
        left = list(groups)
        trouble: GatewayError | None = None
        pause = PAUSE_FIRST
        for number in itertools.count(1):
            verdicts: dict[str, Verdict] = {}
            for name in left:
                try:
                    with self._pool[name].lease(deadline) as lease:
                        verdicts[name] = judge(mark, ask(lease.connection, mark, deadline))
                        trouble = None
                        if verdicts[name] is Verdict.COMMITTED and when_committed is not None:
                            when_committed(lease)
                except GatewayError as error:
                    trouble = error
            if Verdict.COMMITTED in verdicts.values():
                return Outcome.COMMITTED
            if Verdict.ROLLED_BACK in verdicts.values():
                return Outcome.ROLLED_BACK
            if Verdict.UNKNOWN in verdicts.values():
                return Outcome.UNKNOWN
            left = [name for name in left if verdicts.get(name) is not Verdict.FOREIGN]
            if not left:
                break
            if number == most or monotonic() + pause >= deadline:
                if trouble is not None:
                    raise trouble
                return Outcome.UNKNOWN
            self._waits.pause(pause)
            pause = min(2 * pause, PAUSE_LONGEST)
        raise NotFound("no server of this gateway's write groups is of the cluster this mark is from")
