"""``/health*``: can this process answer, can it serve, and all it knows of its servers. From memory, always."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import falcon
import orjson

from gateway import __version__
from gateway.catalogue.query import Catalogue
from gateway.errors import InvalidRequest
from gateway.node.plans import Plans
from gateway.pool.endpoint import EndpointState, EndpointView
from gateway.pool.pool import Pool
from gateway.pool.rotation import Rotation
from gateway.postgres.connection import Connection


class HealthResource:
    """Answers load balancers, orchestrators and people."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        plans: Plans,
        pool: Pool[Connection],
        rotation: Rotation,
        in_flight: Callable[[], int],
    ) -> None:
        """``in_flight``: how many requests this process works on."""
        self._catalogue = catalogue
        self._plans = plans
        self._pool = pool
        self._rotation = rotation
        self._in_flight = in_flight
        self._started = monotonic()
        self._loaded = _instant(datetime.now(UTC).timestamp())

    def on_get_live(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer while the process can."""
        _respond(response, {"status": "live"})

    on_head_live = on_get_live

    def on_get_ready(self, request: falcon.Request, response: falcon.Response) -> None:
        """Say whether every group (or the one asked for) has an endpoint, and the queries' types are known."""
        reasons = [] if self._plans.complete else ["the types of the queries are not known yet"]
        if request.env.get("gateway.draining"):
            reasons.append("this worker is shutting down")
        reasons += [
            f"group {name}: no endpoint may answer"
            for name in self._groups_asked_for(request)
            if not self._pool[name].serving
        ]
        _respond(response, {"status": "not_ready" if reasons else "ready", "reasons": reasons})
        if reasons:
            response.status = falcon.HTTP_503

    on_head_ready = on_get_ready

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Tell everything known of endpoints, groups and this worker."""
        now = monotonic()
        views = self._rotation.views()
        groups = {name: self._describe_group(name) for name in self._pool.groups}
        down = any(group["status"] != "ready" for group in groups.values())
        degraded = any(view.state is not EndpointState.IN for view in views)
        probed = [view.ping_at for view in views if view.ping_at is not None]
        fault = f"{len(self._plans.faults)} queries cannot be served" if self._plans.faults else None
        _respond(
            response,
            {
                "status": "down" if down else "degraded" if degraded else "ok",
                "version": __version__,
                "checked_ms_ago": round((now - min(probed)) * 1000) if probed else None,
                "endpoints": {view.name: _describe_endpoint(view, now) for view in views},
                "groups": groups,
                "workers": [
                    {"pid": os.getpid(), "age_s": round(now - self._started, 1), "in_flight": self._in_flight()}
                ],
                "catalogue": {
                    "queries": len(self._catalogue.queries),
                    "hash": self._catalogue.hash,
                    "loaded": self._loaded,
                    "fault": fault,
                },
            },
        )

    on_head = on_get

    def _groups_asked_for(self, request: falcon.Request) -> list[str]:
        known = {"group", "query"}
        unknown = sorted(request.params.keys() - known)
        if unknown:
            raise InvalidRequest(f"{', '.join(unknown)} cannot narrow the question; {' and '.join(sorted(known))} can")
        group = request.get_param("group")
        query = request.get_param("query")
        if query is not None:
            if query not in self._catalogue.queries:
                raise InvalidRequest(f"there is no query {query}")
            group = self._catalogue.queries[query].group
        if group is None:
            return list(self._pool.groups)
        if group not in self._pool.groups:
            raise InvalidRequest(f"there is no group {group}")
        return [group]

    def _describe_group(self, name: str) -> dict[str, Any]:
        group = self._pool[name]
        stats = group.stats()
        return {
            "access": "write" if group.access_write else "read",
            "status": "ready" if group.serving else "down",
            "rotation": group.serving,
            "size": stats.size,
            "leased": stats.leased,
            "idle": stats.idle,
            "empty": stats.empty,
            "waiting": stats.waiting,
            "max_wait_ms": round(stats.max_wait * 1000),
        }


def _describe_endpoint(view: EndpointView, now: float) -> dict[str, Any]:
    ping = None
    if view.ping_at is not None:
        ping = {"ok": view.ping_ok, "ms": view.ping_ms, "ago_ms": round((now - view.ping_at) * 1000)}
    return {
        "role": view.role,
        "in_rotation": view.state is EndpointState.IN,
        "reason": view.reason,
        "message": view.message or None,
        "ping": ping,
        "lag_ms": view.lag_ms,
        "lag_bytes": view.lag_bytes,
        "timeline": view.timeline,
        "server_version": view.server_version,
        "since": _instant(view.since_wall),
    }


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _respond(response: falcon.Response, body: dict[str, Any]) -> None:
    response.data = orjson.dumps(body)
    response.content_type = falcon.MEDIA_JSON
    response.set_header("Cache-Control", "no-store")
