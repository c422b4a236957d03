"""``/health*``: can this process answer, can it serve, and all that is known of the node. From memory, always."""

from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import falcon
import orjson

from gateway import __version__
from gateway.catalogue.query import Catalogue
from gateway.node.reloads import Reloads
from gateway.node.snapshots import Snapshot, Snapshots, sum_of
from gateway.pool.pool import Pool
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason
from gateway.web.authentication import OPERATORS
from gateway.web.catalogue import instant
from gateway.web.readiness import Readiness

_UNPREPARED = "a pooler in between loses prepared statements: queries run without them; see prepare = false"


class Membership(NamedTuple):
    """What is shown of one endpoint, over all groups that name it."""

    in_rotation: bool
    reason: Reason | None
    """Why not."""


def membership(view: EndpointView, pool: Pool[Any]) -> Membership:
    """Return whether an endpoint is in the rotation, which it is if any group may give it work.

    If none may, the reason is the one that is not the role's: a replica is always the wrong one for writes. A
    drained or held endpoint is out, though a held one is used where nobody else may answer.
    """
    objections = [group.objection(view.name) for group in pool.groups.values() if view.name in group.endpoints]
    if view.held:
        return Membership(False, view.reason or Reason.UNKNOWN)
    if not objections:  # no group names it: it is only looked at
        return Membership(
            view.state is EndpointState.IN and not view.drained, Reason.DRAINED if view.drained else view.reason
        )
    if None in objections:
        return Membership(True, None)
    others = [reason for reason in objections if reason is not Reason.WRONG_ROLE]
    return Membership(False, others[0] if others else Reason.WRONG_ROLE)


class HealthResource:
    """Answers load balancers, orchestrators and people; whichever worker is asked answers for the node."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        pool: Pool[Any],
        sizes: dict[str, int],
        snapshots: Snapshots,
        closing: Callable[[str], int],
        readiness: Readiness,
        reloads: Reloads,
        authentication: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """``closing``: how many sessions on an endpoint the node has given up and the server has not ended.

        ``sizes``: the most connections of each group on this node. ``authentication``: what is known of keys.
        """
        self._authentication = authentication
        self._catalogue = catalogue
        self._pool = pool
        self._sizes = sizes
        self._snapshots = snapshots
        self._closing = closing
        self._readiness = readiness
        self._reloads = reloads

    def on_get_live(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer while the process can."""
        respond(response, {"status": "live"})

    on_head_live = on_get_live

    def on_get_ready(self, request: falcon.Request, response: falcon.Response) -> None:
        """Say whether every group (or those asked for) can serve, and the queries' types are known."""
        reasons = self._readiness.objections(request)
        respond(response, {"status": "not_ready" if reasons else "ready", "reasons": reasons})
        if reasons:
            response.status = falcon.HTTP_503

    on_head_ready = on_get_ready

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Tell everything known of endpoints, groups and workers, and those who may not know that the status alone."""
        told = self.describe()
        respond(response, told if request.context.caller.has_any(OPERATORS) else {"status": told["status"]})

    on_head = on_get

    def describe(self) -> dict[str, Any]:
        """Return everything known of endpoints, groups and workers."""
        now = monotonic()
        snapshots = self._snapshots.all()
        views = {view.name: (view, membership(view, self._pool)) for view in self._pool.rotation.views()}
        groups = {name: self._describe_group(name, snapshots) for name in self._pool.groups}
        down = any(group["status"] != "ready" for group in groups.values())
        degraded = not all(seen.in_rotation for _, seen in views.values())
        probed = [view.ping_at for view, _ in views.values() if view.ping_at is not None]
        return {
            "status": "down" if down else "degraded" if degraded else "ok",
            "version": __version__,
            "checked_ms_ago": _age_ms(min(probed), now) if probed else None,
            "endpoints": {
                name: _describe_endpoint(view, seen, now) | {"closing": self._closing(name)}
                for name, (view, seen) in views.items()
            },
            "groups": groups,
            "workers": [_describe_worker(snapshot, now) for snapshot in snapshots],
            "catalogue": self._describe_catalogue(snapshots, now),
            "authentication": self._authentication(),
        }

    def _describe_group(self, name: str, snapshots: tuple[Snapshot, ...]) -> dict[str, Any]:
        group = self._pool[name]
        stats = sum_of(snapshots, name)
        # The workers' slots together may be more than the node's places: shares are rounded up, and two generations
        # of workers stand side by side during a reload.
        # A slot that waits for a place to connect is leased, too.
        size = min(stats.size, self._sizes[name])
        idle = min(stats.idle, size)
        leased = min(stats.leased, size - idle)
        return {
            "access": "write" if group.access_write else "read",
            "status": "ready" if group.serving else "down",
            "rotation": group.serving,
            "size": size,
            "leased": leased,
            "idle": idle,
            "empty": size - leased - idle,
            "waiting": stats.waiting,
            "max_wait_ms": round(stats.max_wait * 1000),
        }

    def _describe_catalogue(self, snapshots: tuple[Snapshot, ...], now: float) -> dict[str, Any]:
        same = [snapshot for snapshot in snapshots if snapshot.catalogue == self._catalogue.hash]
        faults = max(snapshot.faults for snapshot in same)
        looked_at = max(snapshot.learning.looked_at for snapshot in same)
        return {
            "queries": len(self._catalogue.queries),
            "hash": self._catalogue.hash,
            "loaded": instant(min(snapshot.loaded for snapshot in same)),
            "looked_ms_ago": _age_ms(looked_at, now) if looked_at else None,
            "fault": self._reloads.fault() or (f"{faults} queries cannot be served" if faults else None),
        }


def _describe_worker(snapshot: Snapshot, now: float) -> dict[str, Any]:
    return {
        "pid": snapshot.pid,
        "age_s": round(now - snapshot.since, 1),
        "in_flight": snapshot.in_flight,
        "draining": snapshot.draining,
        "checked_ms_ago": _age_ms(snapshot.at, now),
    }


def _describe_endpoint(view: EndpointView, seen: Membership, now: float) -> dict[str, Any]:
    ping = None
    if view.ping_at is not None:
        ping = {"ok": view.ping_ok, "ms": view.ping_ms, "ago_ms": _age_ms(view.ping_at, now)}
    return {
        "role": view.role,
        "in_rotation": seen.in_rotation,
        "reason": seen.reason,
        "message": view.message or None,
        "ping": ping,
        "lag_ms": view.lag_ms,
        "lag_bytes": view.lag_bytes,
        "timeline": view.timeline,
        "wal": _wal(view),
        "note": _UNPREPARED if view.unprepared else None,
        "server_version": view.server_version,
        "since": instant(view.since_wall),
    }


def _wal(view: EndpointView) -> str | None:
    """Return whether the server tells its position in the write-ahead log, which freshness is compared by."""
    if not view.ping_ok:
        return None
    return "unavailable" if view.hides_wal else "ok"


def _age_ms(moment: float, now: float) -> int:
    return max(0, round((now - moment) * 1000))


def respond(response: falcon.Response, body: dict[str, Any]) -> None:
    """Answer JSON that nobody may keep."""
    response.data = orjson.dumps(body)
    response.content_type = falcon.MEDIA_JSON
    response.set_header("Cache-Control", "no-store")
