"""``/admin``: what operators do to a running node. Its routes exist on the operators' listener only."""

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal

import falcon
import msgspec

from gateway.errors import (
    ArgumentFault,
    BackendUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    ReloadRefused,
)
from gateway.events import EndpointDrained, Level, Observer, RequestEnded
from gateway.execution.plans import Plans
from gateway.node.reloads import Reloads
from gateway.node.snapshots import Snapshot, Snapshots, leases_on, unaware
from gateway.rotation.endpoint import EndpointView
from gateway.rotation.moves import Drain, Resume
from gateway.rotation.rotation import Rotation
from gateway.settings.units import seconds
from gateway.waiting import Waits
from gateway.web import bodies
from gateway.web.health import Membership, respond

REQUESTS, END, LOG = "requests", "end", "log"
"""What all workers are asked for: to tell their requests in flight, to end one, to change what they log."""

Ask = Callable[[str, str], list[Any]]
"""Asks every worker of the node; see ``node.asking``."""

LOOK_EVERY = 0.02
"""Seconds between two looks at the workers' snapshots, while a request waits for them."""
WAIT = 30.0
"""Seconds, if ``wait`` is not given."""


class EndpointAdminResource:
    """Drains and resumes endpoints, for the whole node."""

    def __init__(
        self,
        *,
        rotation: Rotation,
        snapshots: Snapshots,
        membership: Callable[[EndpointView], Membership],
        waits: Waits,
        longest_wait: float,
        observe: Observer,
    ) -> None:
        """``longest_wait`` in seconds."""
        self._rotation = rotation
        self._snapshots = snapshots
        self._membership = membership
        self._waits = waits
        self._longest_wait = longest_wait
        self._observe = observe

    def on_post_drain(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Give the endpoint no new work, and answer when no worker has any on it."""
        wait = wait_of(request, default=min(WAIT, self._longest_wait), longest=self._longest_wait)
        self._require(name)
        self._rotation.apply(name, Drain())
        version = self._rotation.version
        self._observe(EndpointDrained(endpoint=name, drained=True, request_id=request.context.request_id))
        ends = request.context.arrived + wait
        while busy := self._busy(name, version):
            if monotonic() >= ends:
                raise DeadlineExceeded(f"{name} gets no new work, but after {wait:g} s {busy}")
            self._waits.pause(LOOK_EVERY)
        respond(response, {"endpoint": name, "state": "drained", "leased": 0})

    def on_post_resume(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Let the endpoint have work again; with ``wait`` answer when it is in the rotation of every worker."""
        wait = wait_of(request, default=0.0, longest=self._longest_wait)
        self._require(name)
        self._rotation.apply(name, Resume())
        self._observe(EndpointDrained(endpoint=name, drained=False, request_id=request.context.request_id))
        ends = request.context.arrived + wait
        while not (seen := self._membership(self._rotation.view(name))).in_rotation and monotonic() < ends:
            self._waits.pause(LOOK_EVERY)
        missing = "" if seen.in_rotation else f"it is out of the rotation: {seen.reason}"
        if not missing:
            version = self._rotation.version
            while (missing := _unheard(version, self._snapshots.all(newest=True))) and monotonic() < ends:
                self._waits.pause(LOOK_EVERY)
        if wait and missing:
            raise DeadlineExceeded(f"{name} may have work, but after {wait:g} s {missing}")
        leased = leases_on(name, self._snapshots.all(newest=True))
        respond(response, {"endpoint": name, "state": "in_rotation" if seen.in_rotation else "out", "leased": leased})

    def _busy(self, name: str, version: int) -> str:
        """Return who may still have work on the endpoint; empty if nobody can."""
        snapshots = self._snapshots.all(newest=True)
        unheard = _unheard(version, snapshots)
        if leased := leases_on(name, snapshots):
            at_work = f"{leased} request{'s are' if leased > 1 else ' is'} at work on it"
            return f"{at_work} and {unheard}" if unheard else at_work
        return unheard

    def _require(self, name: str) -> None:
        if name not in self._rotation.names:
            raise NotFound(f"there is no endpoint {name}")


class LearningAdminResource:
    """Has the queries' types learnt again: for a deployment that has just changed the database."""

    def __init__(self, *, learn_now: Callable[[float], list[int]], plans: Plans, longest_wait: float) -> None:
        """``learn_now``: see ``Learner.learn_now``; ``longest_wait`` in seconds."""
        self._learn_now = learn_now
        self._plans = plans
        self._longest_wait = longest_wait

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Learn every query again, and answer when all workers of the node act on what was learnt."""
        wait = wait_of(request, default=min(WAIT, self._longest_wait), longest=self._longest_wait)
        if late := self._learn_now(request.context.arrived + wait):
            workers = f"worker{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
            raise DeadlineExceeded(f"after {wait:g} s {workers} may still act on what was learnt before")
        queries = list(self._plans.all())
        faulty = sorted(known.query.name for known in queries if known.fault is not None)
        respond(response, {"queries": len(queries), "faulty": faulty})


class ReloadAdminResource:
    """Has the node compile its settings and queries anew, and serve them."""

    def __init__(self, *, reloads: Reloads, waits: Waits, longest_wait: float) -> None:
        """``longest_wait`` in seconds."""
        self._reloads = reloads
        self._waits = waits
        self._longest_wait = longest_wait

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Ask the master, and answer when the new workers serve, or nothing was changed.

        The worker that answers is one of those that end then; this request is among the last that it serves.
        """
        wait = wait_of(request, default=min(WAIT, self._longest_wait), longest=self._longest_wait)
        asked = monotonic()
        if not self._reloads.ask():
            raise ReloadRefused("this process has no master that could start others")
        ends = request.context.arrived + wait
        while (last := self._reloads.last()) is None or last.began < asked or last.ended is None:
            if monotonic() >= ends:
                raise DeadlineExceeded(f"after {wait:g} s the reload has not ended; it goes on")
            self._waits.pause(LOOK_EVERY)
        if last.faults:
            faults = [ArgumentFault(None, str(fault)) for fault in last.faults]
            raise ReloadRefused(
                f"{len(faults)} fault{'s' if len(faults) > 1 else ''}: nothing was changed", faults=faults
            )
        respond(response, {"queries": last.queries, "hash": last.hash})


class RequestsAdminResource:
    """Lists and ends the requests in flight of all workers."""

    def __init__(self, *, ask: Ask, observe: Observer) -> None:
        self._ask = ask
        self._observe = observe

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Tell every call that has not been answered, the oldest first."""
        found = [call for answer in self._ask(REQUESTS, "") for call in answer]
        respond(response, {"requests": sorted(found, key=lambda call: -call["age_ms"])})

    def on_delete_one(self, request: falcon.Request, response: falcon.Response, request_id: str) -> None:
        """End a call: a read at once, a write by cancelling it on its server; its answer says what became of it."""
        said = [answer for answer in self._ask(END, request_id) if answer is not None]
        if not said:
            raise NotFound("no request with this id is in flight")
        if failed := [each for each in said if each]:
            raise BackendUnavailable(failed[0])
        context = request.context
        self._observe(RequestEnded(ended=request_id, request_id=context.request_id, caller=context.caller.name))
        response.status = falcon.HTTP_204


class LogAdminResource:
    """Changes what is logged."""

    def __init__(self, *, ask: Ask, max_body: int) -> None:
        self._ask = ask
        self._max_body = max_body

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Have all workers leave out what is less urgent than ``level`` from now on."""
        try:
            wanted = msgspec.json.decode(bodies.read_json(request, self._max_body), type=_Wanted)
        except msgspec.MsgspecError:
            levels = ", ".join(level.name.lower() for level in Level)
            raise InvalidRequest(f'the body is {{"level": L}}, L one of {levels}') from None
        self._ask(LOG, wanted.level)
        respond(response, {"level": wanted.level})


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"]


def wait_of(request: falcon.Request, *, default: float, longest: float) -> float:
    """Return the seconds of ``?wait=30s``; raises InvalidRequest."""
    unknown = sorted(request.params.keys() - {"wait"})
    if unknown:
        raise InvalidRequest(f"{', '.join(unknown)}: only wait can be said")
    values = request.get_param_as_list("wait")
    if not values:
        return default
    try:
        (text,) = values
        wait = seconds(text)
    except ValueError:
        raise InvalidRequest('wait must be a duration such as "30s", once') from None
    if wait > longest:
        raise InvalidRequest(f"wait must be at most {longest:g}s; ask again to wait longer")
    return wait


def _unheard(version: int, snapshots: tuple[Snapshot, ...]) -> str:
    """Return which workers may not act upon this version of what is known; empty if all do."""
    return " and ".join(f"worker {pid} has not been heard of since" for pid in unaware(version, snapshots))
