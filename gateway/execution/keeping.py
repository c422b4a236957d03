"""Keeps answers for a while (``@cache``), and runs once what many ask for at the same time (``@coalesce``).

What calls must have in common to be given the same answer is ``_key``. Whoever finds no answer that is good enough runs
the call, and who comes meanwhile waits for what it comes to. Each caller stays its own: its deadline and its hanging up
end its own wait. Where the one that runs the call gives up by itself, the one that has waited longest runs it instead.

An answer is given only to a caller whose demands it is known to meet: it has seen a write if the read that it comes
from was asked to see that write or a later one; and its data is as old as it was when it was read, and the time since.
Nothing else looks at what is written: an answer is given for its time, whatever is written meanwhile.

All this is per process. What a process keeps goes with it, so a reload begins with nothing kept.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from msgspec.structs import replace

from gateway.catalogue.query import Catalogue, Query
from gateway.errors import ClientGone, DeadlineExceeded, GatewayError, PoolTimeout
from gateway.execution.call import Answer, AnyCall, Kept, PageCall, RawCall, SingleCall
from gateway.execution.concurrency import Run
from gateway.execution.freshness import Freshness
from gateway.execution.plans import Plans
from gateway.metrics import CACHE, Metrics
from gateway.postgres.tokens import Token
from gateway.rotation.endpoint import EndpointView, Role
from gateway.waiting import Gate, Waits

Lone = SingleCall | RawCall | PageCall
"""Calls of one query for one answer."""

_OVERHEAD = 1024
"""Bytes, about, that an answer takes beside its body and its arguments."""
_ITS_OWN = (ClientGone, DeadlineExceeded, PoolTimeout)
"""What a call fails with that says nothing of others: its caller has left, or its time is over."""
_RESULTS = ("hit", "stale", "miss", "shared")


class Keeping:
    """Stands in front of whatever runs calls."""

    def __init__(
        self,
        run: Run,
        *,
        catalogue: Catalogue,
        plans: Plans,
        view: Callable[[str], EndpointView],
        waits: Waits,
        most_bytes: int,
        metrics: Metrics,
    ) -> None:
        """``view``: what is known of an endpoint; ``most_bytes``: of all answers kept, the ones used last."""
        self._run = run
        self._plans = plans
        self._view = view
        self._waits = waits
        self._lock = waits.lock()
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[object, _Entry] = OrderedDict()
        self._flights: dict[object, _Flight] = {}
        queries = [query for query in catalogue.queries.values() if may_be_kept(query)]
        self._by_caller = frozenset(query.name for query in queries if _knows_callers(query))
        self._counters = {
            query.name: {result: metrics.counter(CACHE, query.name, result) for result in _RESULTS} for query in queries
        }

    def run(self, call: AnyCall) -> Answer:
        """Answer a call, from memory or as whatever runs it does; raises a GatewayError."""
        if isinstance(call, Lone):
            if call.query.cache is not None:
                return self._kept(call)
            if call.query.coalesce:
                return self._together(self._key(call), call)
        return self._run(call)

    def _key(self, call: Lone) -> object:
        name, plan = call.query.name, call.plan
        caller = (call.caller.name, *call.settings.items()) if call.settings or name in self._by_caller else None
        return name, plan.name, plan.big_as_text, type(call), tuple(call.literals), caller

    def _kept(self, call: Lone) -> Answer:
        """Answer a call of a query whose answers are kept."""
        cache, known = call.query.cache, self._plans.known(call.query.name)
        if cache is None or known.stale_at is not None:
            return self._run(call)  # the database has changed, and what is kept may be of another query
        key, now = self._key(call), monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            is_fetched = (key, call.freshness) in self._flights
        if entry is not None and entry.learnt_at == known.learnt_at and entry.meets(call.freshness, now):
            age = now - entry.born
            if age < cache.seconds:
                return self._given(call, entry, age, "hit")
            if is_fetched and age < cache.seconds + cache.stale:
                return self._given(call, entry, age, "stale")
        return self._together(key, call, lambda answer: self._keep(key, call, answer, now, known.learnt_at))

    def _given(self, call: Lone, entry: "_Entry", age: float, result: str) -> Answer:
        self._counters[call.query.name][result].value += 1
        return Answer(body=entry.body, media=entry.media, next=entry.next, kept=_standing(call.query, entry.tag, age))

    def _keep(self, key: object, call: Lone, answer: Answer, born: float, learnt_at: float | None) -> Answer:
        """Keep an answer to a call that was begun at ``born``, and return it."""
        tag = hashlib.sha256(answer.body).hexdigest()[:32]
        entry = _Entry(answer, tag, born, learnt_at)
        entry.token = None if call.freshness is None else call.freshness.token
        entry.lag_ms = self._lag(answer)
        entry.size = _OVERHEAD + len(answer.body) + sum(map(len, call.literals))
        with self._lock:
            if (former := self._entries.pop(key, None)) is not None:
                self._bytes -= former.size
            if entry.size <= self._most_bytes:
                self._entries[key] = entry
                self._bytes += entry.size
            while self._bytes > self._most_bytes:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= oldest.size
        answer.kept = _standing(call.query, tag, monotonic() - born)
        return answer

    def _lag(self, answer: Answer) -> float | None:
        """By how many milliseconds the data was behind when it was read; None: not known."""
        served = answer.served
        if served is None or served.lag_ms is not None:
            return None if served is None else served.lag_ms
        return 0.0 if self._view(served.endpoint).role is Role.PRIMARY else None

    def _together(self, key: object, call: Lone, keep: Callable[[Answer], Answer] | None = None) -> Answer:
        """Run a call, or wait for another one of the same key and freshness; ``keep`` keeps what it comes to."""
        counters = self._counters[call.query.name]
        key = key, call.freshness
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = _Flight()
                    gate = None
                else:
                    gate = self._waits.gate()
                    flight.gates.append(gate)
            if gate is None:
                counters["miss"].value += 1
                return self._lead(key, flight, call, keep)
            gate.wait(call.deadline - monotonic(), call.client)
            if flight.answer is not None:
                counters["shared"].value += 1
                answer = flight.answer
                return replace(answer)
            if flight.error is not None:
                raise flight.error.but() from flight.error
            if monotonic() >= call.deadline:
                raise DeadlineExceeded("the deadline passed while the query ran, for several callers at once")

    def _lead(self, key: object, flight: "_Flight", call: Lone, keep: Callable[[Answer], Answer] | None) -> Answer:
        """Run a call for all that wait for the same."""
        try:
            answer = self._run(call)
            if keep is not None:
                answer = keep(answer)
            flight.answer = answer
        except _ITS_OWN:
            raise
        except GatewayError as error:
            flight.error = error
            raise
        finally:
            # Whoever comes from here on finds what is kept, or runs the call anew; nobody is added to the gates.
            with self._lock:
                del self._flights[key]
            for gate in flight.gates:
                gate.open()
        return answer


class _Entry:
    """An answer that is kept."""

    __slots__ = ("body", "born", "lag_ms", "learnt_at", "media", "next", "size", "tag", "token")

    def __init__(self, answer: Answer, tag: str, born: float, learnt_at: float | None) -> None:
        self.body = answer.body
        self.media = answer.media
        self.next = answer.next
        self.tag = tag
        self.born = born
        """When the call began whose answer it is, by ``time.monotonic``: what was read is no older."""
        self.learnt_at = learnt_at
        """When that was learnt of the query by which it was run."""
        self.token: Token | None = None
        """A write that it has seen for sure."""
        self.lag_ms: float | None = None
        """By how much the data was behind when it was read; None: not known."""
        self.size = 0

    def meets(self, asked: Freshness | None, now: float) -> bool:
        """Whether it is known to be as fresh as is asked for."""
        if asked is None:
            return True
        if asked.token is not None and not _has_seen(self.token, asked.token):
            return False
        if asked.max_lag is None:
            return True
        return self.lag_ms is not None and self.lag_ms + (now - self.born) * 1000 <= asked.max_lag


class _Flight:
    """One execution, and who waits for what it comes to."""

    __slots__ = ("answer", "error", "gates")

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self.answer: Answer | None = None
        self.error: GatewayError | None = None
        """What all fail with; where there is neither, whoever ran it gave up by itself."""


def may_be_kept(query: Query) -> bool:
    """Whether calls of a query may be answered with another call's answer, for its author says so."""
    return query.cache is not None or query.coalesce


def _knows_callers(query: Query) -> bool:
    """Whether a query is for some callers only, or some of its arguments are what is known of its caller."""
    return bool(query.roles) or any(parameter.bound is not None for parameter in query.parameters)


def _has_seen(seen: Token | None, asked: Token) -> bool:
    if seen is None or (seen.system, seen.timeline) != (asked.system, asked.timeline):
        return False
    return seen.position >= asked.position


def _standing(query: Query, tag: str, age: float) -> Kept:
    rest = 0.0 if query.cache is None else max(0.0, query.cache.seconds - age)
    return Kept(tag=tag, age=age, rest=rest)
