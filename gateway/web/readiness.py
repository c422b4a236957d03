"""``/health/ready``: whether this node can serve what is asked about."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import falcon

from gateway.catalogue.query import Catalogue
from gateway.errors import InvalidRequest
from gateway.execution.call import Caller
from gateway.execution.plans import Plans
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.rotation.endpoint import EndpointView, Role
from gateway.settings.units import seconds
from gateway.web.catalogue import shown_fault

_KNOWN = ("group", "query", "all", "max_lag", "min")
_MOST = 1000


class Question(NamedTuple):
    """What is asked."""

    groups: tuple[str, ...]
    """Each of these must be able to serve."""
    queries: tuple[str, ...] | None
    """Each of these must be servable; None: every one must have been asked about, though some may have faults."""
    max_lag: float | None
    """Seconds an endpoint may be behind to count; None: whatever its group allows."""
    least: int
    """Endpoints needed."""


class Readiness:
    """Answers a load balancer's question with what speaks against sending requests here."""

    def __init__(self, *, catalogue: Catalogue, plans: Plans, pool: Pool[Any], is_draining: Callable[[], bool]) -> None:
        self._catalogue = catalogue
        self._plans = plans
        self._pool = pool
        self._is_draining = is_draining

    def objections(self, request: falcon.Request) -> list[str]:
        """Every reason why not, one sentence each; raises InvalidRequest for a question nobody can answer."""
        caller: Caller = request.context.caller
        question = self._question(request, caller)
        reasons = list(self._unserved(question.queries, caller))
        if self._is_draining():
            reasons.append("this worker is shutting down")
        lacking = (self._lacking(self._pool[name], question) for name in question.groups)
        return reasons + [reason for reason in lacking if reason]

    def _unserved(self, queries: tuple[str, ...] | None, caller: Caller) -> Iterator[str]:
        if queries is None:
            if not self._plans.complete:
                yield "the types of the queries are not known yet"
            return
        if not self._plans.confirmed:
            yield "no server has answered yet, so the types of the queries are not known"
            return
        for name in queries:
            known = self._plans.known(name)
            of = f"query {name}" if caller.has_any(known.query.roles) else "a query"
            if known.fault is not None:
                yield f"{of}: {shown_fault(known)}"
            elif known.signature is None:
                yield f"{of}: its types are not known yet"
            elif known.stale_at is not None:
                yield f"{of}: the database has changed, and it is being learnt anew"

    def _question(self, request: falcon.Request, caller: Caller) -> Question:
        unknown = sorted(request.params.keys() - set(_KNOWN))
        if unknown:
            raise InvalidRequest(f"{', '.join(unknown)} cannot narrow the question; {', '.join(_KNOWN)} can")
        given = {name: _single(request, name) for name in _KNOWN if name in request.params}
        groups = []
        queries: tuple[str, ...] | None = None
        if given.get("all", "true") not in ("", "true"):
            raise InvalidRequest("all has no value but true")
        if "all" in given:
            queries = tuple(self._catalogue.queries)
        if "query" in given:
            query = self._catalogue.queries.get(given["query"])
            if query is None or not caller.has_any(query.roles):
                raise InvalidRequest(f"there is no query {given['query']}")
            queries = queries or (given["query"],)
            groups.append(query.group)
        if "group" in given:
            if given["group"] not in self._pool.groups:
                raise InvalidRequest(f"there is no group {given['group']}")
            groups.append(given["group"])
        max_lag = None
        if "max_lag" in given:
            try:
                max_lag = seconds(given["max_lag"])
            except ValueError as error:
                raise InvalidRequest(f"max_lag {error}") from None
        least = given.get("min", "1")
        if not (least.isascii() and least.isdigit() and len(least) <= 4 and 1 <= int(least) <= _MOST):
            raise InvalidRequest(f"min must be a whole number from 1 to {_MOST}")
        return Question(tuple(dict.fromkeys(groups)) or tuple(self._pool.groups), queries, max_lag, int(least))

    def _lacking(self, group: Group[Any], question: Question) -> str | None:
        serving = [self._pool.rotation.view(name) for name in group.serving]
        if not serving:
            return f"group {group.name}: no endpoint may answer"
        counted, limit = serving, ""
        if question.max_lag is not None:
            counted = [view for view in serving if _lag(view) <= question.max_lag]
            limit = f" with a lag of at most {question.max_lag:g} s"
        if len(counted) >= question.least:
            return None
        behind = ", ".join(_lag_text(view) for view in serving if view not in counted)
        return (
            f"group {group.name}: {len(counted)} of at least {question.least} endpoints may answer{limit}"
            f"{f' ({behind})' if behind else ''}"
        )


def _single(request: falcon.Request, name: str) -> str:
    values = request.get_param_as_list(name)
    if not values or len(values) != 1:
        raise InvalidRequest(f"{name} may be given once")
    return str(values[0])


def _lag(view: EndpointView) -> float:
    """Seconds behind; a primary is behind nobody, and what is not known is too much."""
    if view.role is Role.PRIMARY:
        return 0.0
    return float("inf") if view.lag_ms is None else view.lag_ms / 1000


def _lag_text(view: EndpointView) -> str:
    lag = _lag(view)
    return f"lag of {view.name} not known" if lag == float("inf") else f"{view.name} is {lag:.3g} s behind"
