"""``/status.json``: what the page ``/`` shows, in one answer for the whole node, from memory."""

import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import falcon

from gateway.errors import InvalidRequest
from gateway.metrics import (
    BATCH_SIZE,
    CACHE,
    ERRORS,
    KEY_EXPIRES,
    KEY_USED,
    LOOP_LAG,
    MEMORY,
    REQUEST_SECONDS,
    REQUESTS,
    SECONDS,
    Merged,
)
from gateway.node.recent import RecentEvents
from gateway.node.samples import Samples
from gateway.pool.pool import Pool
from gateway.web.authentication import OPERATORS
from gateway.web.compression import LONG, Compression
from gateway.web.health import HealthResource, respond
from gateway.web.problem import STATUS

_FAILURES = {kind.code for kind, status in STATUS.items() if status >= HTTPStatus.INTERNAL_SERVER_ERROR}
"""Codes of problems that whoever calls did not cause."""


class StatusResource:
    """Tells whoever looks after the node what it does, and strangers how it is."""

    def __init__(
        self,
        *,
        health: HealthResource,
        pool: Pool[Any],
        merged: Callable[[], Merged],
        samples: Samples,
        recent: RecentEvents,
        compression: Compression,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``merged``: what all workers have counted."""
        self._health = health
        self._pool = pool
        self._merged = merged
        self._samples = samples
        self._recent = recent
        self._compression = compression
        self._wall = wall
        self._seen: dict[str, tuple[dict[str, Any], float]] = {}
        """What was counted of each query when this worker was asked last, and since when that has been so."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Tell everything, of samples, events and queries what is new after ``since``: ``at`` of an earlier answer.

        Counts are those since the node began: rates are made of two answers.
        """
        since = _since(request)
        health = self._health.describe()
        if not request.context.caller.has_any(OPERATORS):
            respond(response, {"status": health["status"]})
            return
        counted, now = self._merged(), round(self._wall(), 3)
        told = {
            "status": health["status"],
            "at": now,
            "health": health,
            "objections": {
                name: {endpoint: group.objection(endpoint) for endpoint in group.endpoints}
                for name, group in self._pool.groups.items()
            },
            "bounds": SECONDS,
            "calls": self._changed(_calls(counted), now, since),
            "problems": {code: int(value) for (code,), (value,) in counted[ERRORS].items() if code in _FAILURES},
            "keys": _keys(counted),
            "processes": {
                slot: {"memory": int(value), "loop_lag_ms": round(counted[LOOP_LAG].get((slot,), [0.0])[0] * 1000, 1)}
                for (slot,), (value,) in sorted(counted[MEMORY].items())
            },
            "samples": {name: [[*each] for each in taken] for name, taken in self._samples.since(since).items()},
            "events": [
                {"at": round(each.at, 3), "level": each.level, "event": each.event, "text": each.text}
                for each in self._recent.since(since)
            ],
        }
        respond(response, told)
        if len(response.data or b"") >= LONG:
            self._compression.apply(request, response)

    on_head = on_get

    def _changed(self, calls: dict[str, dict[str, Any]], now: float, since: float) -> dict[str, dict[str, Any]]:
        """Return of the counts of all queries those that are not what they were: of thousands, few are called."""
        for name, counts in calls.items():
            if name not in self._seen or self._seen[name][0] != counts:
                self._seen[name] = counts, now
        return {name: counts for name, counts in calls.items() if self._seen[name][1] > since}


def _since(request: falcon.Request) -> float:
    given = request.params.get("since", "0")
    try:
        since = float(given) if isinstance(given, str) else math.nan
    except ValueError:
        since = math.nan
    if not math.isfinite(since):
        raise InvalidRequest("since is a point in time, in seconds of the Unix epoch")
    return since


def _calls(counted: Merged) -> dict[str, dict[str, Any]]:
    """Return what was counted of each query that was called, of ``transaction`` and of ``unknown``."""
    found: dict[str, dict[str, Any]] = {}
    for (name, status), (value,) in counted[REQUESTS].items():
        found.setdefault(name, {"statuses": {}})["statuses"][status] = int(value)
    for (name,), (*counts, total) in counted[REQUEST_SECONDS].items():
        found.setdefault(name, {"statuses": {}}).update(buckets=counts, seconds=total)
    for (name,), (*sizes, calls) in counted[BATCH_SIZE].items():
        found.setdefault(name, {"statuses": {}}).update(statements=sum(sizes), joined=calls)
    for (name, result), (value,) in counted[CACHE].items():
        if value:
            found.setdefault(name, {"statuses": {}}).setdefault("cache", {})[result] = int(value)
    return found


def _keys(counted: Merged) -> list[dict[str, Any]]:
    used = counted[KEY_USED]
    return [
        {"key": key, "expires": at, "used": used.get((key,), [None])[0]}
        for (key,), (at,) in sorted(counted[KEY_EXPIRES].items(), key=lambda item: item[1])
    ]
