"""What is known of joining the calls of each query: whether it may be done, how, and why not.

What can be told from a query and its signature is told at once. The rest is asked of a server in the background, once
calls have come at the same time, with the arguments of such calls (``postgres.joinable``); and again now and then, and
soon where joined calls take long.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import NamedTuple

from msgspec.structs import replace

from gateway.catalogue.query import Query
from gateway.errors import GatewayError
from gateway.events import BugFound, Observer
from gateway.execution.call import SingleCall, on_primary
from gateway.execution.lanes import MOST, Lane
from gateway.execution.plans import Plans
from gateway.execution.running import Runner
from gateway.postgres import joinable
from gateway.postgres.joinable import SAMPLES, Verdict
from gateway.postgres.joined import JoinedPlan
from gateway.postgres.session import Session
from gateway.postgres.statement import Plan

MOST_BYTES = 1 << 18
"""Of the results that one statement gives, as far as can be told from results of late."""
AGAIN_AFTER = 60.0
"""Seconds after which a query is judged anew; sooner at first if its calls are not joined: what was measured may have
been a server with other work."""
SOON_AFTER = 1.0
"""Seconds after which it is where it could not be judged, or where something is odd."""
LONG = 0.025
"""Seconds that a statement may take before it is looked into."""
MOST_FAILURES = 3.0
"""Statements of the last ten or so that may fail because of their calls."""
REST = 10.0
"""Seconds for which calls run alone where more failed."""
TIMEOUT = 2.0
"""Seconds that it may take to judge a query, with the wait for a connection."""

UNDECIDED = Verdict(joins=False)


class Joined(NamedTuple):
    """Whether calls of a query are joined; None where that is not decided."""

    joins: bool | None
    why: str
    """Why not, or why it is not decided, as a sentence's end behind "as"."""


class Together:
    """What is known of the calls of one plan."""

    __slots__ = (
        "binds_callers",
        "failures",
        "joined",
        "lanes",
        "largest",
        "next_at",
        "plan",
        "present",
        "rest",
        "samples",
        "verdict",
    )

    def __init__(self, query: Query, plan: Plan, verdict: Verdict) -> None:
        self.plan = plan
        self.binds_callers = any(parameter.bound for parameter in query.parameters)
        """Whether parameters are what is known of the caller, and not what it sends."""
        self.verdict = verdict
        self.joined = JoinedPlan.of(plan) if plan.types and not verdict.why else None
        """What runs for several calls; None where they are all the same, having no arguments."""
        self.next_at = inf if verdict.why else 0.0
        """When it may be judged next, by ``time.monotonic``."""
        self.rest = SOON_AFTER
        """Seconds after which it is judged anew if its calls may not be joined."""
        self.samples: deque[Sequence[str]] = deque(maxlen=SAMPLES)
        """Arguments of the last calls."""
        self.present = 0
        """Calls that have come and have no answer, while it is not known whether they may be joined."""
        self.largest = 0.0
        """Bytes of the largest result of late."""
        self.failures = 0.0
        self.lanes: dict[object, Lane] = {}
        """By what calls must have in common, beside the query."""

    @property
    def most(self) -> int:
        """How many calls one statement may answer."""
        return MOST if self.largest * MOST <= MOST_BYTES else max(1, int(MOST_BYTES / self.largest))

    def succeeded(self, sizes: Sequence[int], took: float, now: float) -> None:
        """Take note of a statement: bytes of each call's result, seconds."""
        self.failures *= 0.9
        self.largest = max(max(sizes), self.largest * 0.99)
        if took > LONG:
            self.next_at = min(self.next_at, now + SOON_AFTER)

    def failed(self, now: float) -> None:
        """Take note of a statement that failed because of one of its calls, maybe."""
        self.failures += 1
        if self.failures > MOST_FAILURES:
            self.verdict = Verdict(joins=False, why="too many of them fail, and others with them")
            self.failures, self.next_at = 0.0, now + REST


class Judging:
    """Knows what is to be known of each query of a process."""

    def __init__(
        self, *, plans: Plans, runner: Runner, spawn: Callable[[Callable[[], None]], None], observe: Observer
    ) -> None:
        """``spawn`` runs something beside requests."""
        self._plans = plans
        self._runner = runner
        self._spawn = spawn
        self._observe = observe
        self._known: dict[tuple[str, bool], Together] = {}

    def of(self, call: SingleCall) -> Together:
        """What is known of the calls of this call's plan."""
        plan = call.plan
        together = self._known.get((plan.query, plan.big_as_text))
        if together is None or together.plan is not plan:
            together = Together(call.query, plan, Verdict(joins=False, why=self._objection(call.query)))
            if not plan.types and not together.verdict.why:
                together.verdict, together.next_at = Verdict(joins=True), inf
            self._known[plan.query, plan.big_as_text] = together
        return together

    def look(self, together: Together, call: SingleCall) -> None:
        """Have the plan judged in the background, if that is due and there are calls enough to tell by."""
        if together.joined and len(together.samples) == SAMPLES and together.next_at <= monotonic():
            together.next_at = inf
            self._spawn(lambda: self._judge(together, call))

    def describe(self, query: Query) -> Joined:
        """Whether calls of a query are joined, for whoever asks."""
        if self._plans.known(query.name).signature is None:
            return Joined(None, "the types of the query are not known")
        if why := self._objection(query):
            return Joined(False, why)
        together = self._known.get((query.name, False))
        if together is None or together.verdict is UNDECIDED:
            return Joined(None, "too few have come at the same time to tell by them")
        return Joined(*together.verdict)

    def _objection(self, query: Query) -> str:
        """Why calls of a query are not joined whatever their arguments; empty if nothing is known against it."""
        known = self._plans.known(query.name)
        return "" if known.signature is None else joinable.objection(query, known.signature)

    def _judge(self, together: Together, call: SingleCall) -> None:
        again = SOON_AFTER  # if that fails because of one of the samples, or the server
        try:
            asked = replace(call, deadline=monotonic() + TIMEOUT, client=None, freshness=None)
            self._runner.read(
                on_primary(asked) if call.plan.only_primary else asked,
                lambda asked, session, _guard: self._ask(together, asked, session),
            )
            together.rest = SOON_AFTER if together.verdict.joins else min(together.rest * 2, AGAIN_AFTER)
            again = AGAIN_AFTER if together.verdict.joins else together.rest
        except GatewayError:
            pass
        except Exception as error:  # noqa: BLE001 -- a bug of ours must not end what judges
            again = AGAIN_AFTER
            self._observe(BugFound(where=f"judging whether calls of {call.query.name} may be joined", error=error))
        finally:
            together.next_at = monotonic() + again

    def _ask(self, together: Together, call: SingleCall, session: Session) -> None:
        together.verdict = joinable.judge(
            session,
            JoinedPlan.of(together.plan),
            tuple(together.samples),
            deadline=call.deadline,
            settings=call.settings,
            compare=call.query.join is None,
        )
