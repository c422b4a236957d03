"""``/admin/endpoints/{name}``: take a server out of the rotation and put it back, by hand.

SECURITY: there is no authentication yet, so only this machine may ask: over a loopback address or a unix socket, not
through a proxy, and not from a web page (which could make a browser on this machine ask for it).
"""

import logging
import time
from collections.abc import Callable
from ipaddress import ip_address
from time import monotonic

import falcon

from gateway.errors import DeadlineExceeded, Forbidden, InvalidRequest, NotFound
from gateway.node.snapshots import Snapshots, leases_on, unaware
from gateway.rotation.endpoint import EndpointView
from gateway.rotation.moves import Drain, Resume
from gateway.rotation.rotation import Rotation
from gateway.settings.units import seconds
from gateway.web.health import Membership, respond

log = logging.getLogger("gateway.web")

LOOK_EVERY = 0.02
"""Seconds between two looks at what the workers say while one waits."""
WAIT = 30.0
"""Seconds, if ``wait`` is not given."""

_OF_PROXIES = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA", "gateway.forwarded"})
_OF_BROWSERS = frozenset({"HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE"})


def refuse_strangers(request: falcon.Request) -> None:
    """Raise Forbidden unless the request comes straight from a program on this machine."""
    if not _OF_PROXIES.isdisjoint(request.env):
        raise Forbidden("not through a proxy: ask on the machine itself")
    if not _OF_BROWSERS.isdisjoint(request.env):
        raise Forbidden("not from a web page")
    if not _is_here(request.env.get("REMOTE_ADDR", "")):
        raise Forbidden("from this machine only: over a loopback address or a unix socket")


def _is_here(address: str) -> bool:
    if not address:
        return True  # a unix socket has none
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


class EndpointAdminResource:
    """Drains and resumes endpoints, for the whole node."""

    def __init__(
        self,
        *,
        rotation: Rotation,
        snapshots: Snapshots,
        membership: Callable[[EndpointView], Membership],
        longest_wait: float,
    ) -> None:
        """``longest_wait`` in seconds."""
        self._rotation = rotation
        self._snapshots = snapshots
        self._membership = membership
        self._longest_wait = longest_wait

    def on_post_drain(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Give the endpoint no new work, and answer when no worker has any on it."""
        refuse_strangers(request)
        wait = self._wait(request, default=min(WAIT, self._longest_wait))
        self._know(name)
        self._rotation.apply(name, Drain())
        version = self._rotation.version
        log.info("endpoint %s: drained by request %s", name, request.context.request_id)
        ends = request.context.arrived + wait
        while told := self._tell_busy(name, version):
            if monotonic() >= ends:
                raise DeadlineExceeded(f"{name} gets no new work, but after {wait:g} s {told}")
            time.sleep(LOOK_EVERY)
        respond(response, {"endpoint": name, "state": "drained", "leased": 0})

    def on_post_resume(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Let the endpoint have work again; with ``wait`` answer when it is in the rotation."""
        refuse_strangers(request)
        wait = self._wait(request, default=0.0)
        self._know(name)
        self._rotation.apply(name, Resume())
        log.info("endpoint %s: resumed by request %s", name, request.context.request_id)
        ends = request.context.arrived + wait
        while not (seen := self._membership(self._rotation.view(name))).in_rotation and monotonic() < ends:
            time.sleep(LOOK_EVERY)
        if wait and not seen.in_rotation:
            raise DeadlineExceeded(
                f"{name} may have work, but after {wait:g} s it is out of the rotation: {seen.reason}"
            )
        leased = leases_on(name, self._snapshots.all(newest=True))
        respond(response, {"endpoint": name, "state": "in_rotation" if seen.in_rotation else "out", "leased": leased})

    def _tell_busy(self, name: str, version: int) -> str:
        """Who may have work on the endpoint yet; empty if nobody can."""
        snapshots = self._snapshots.all(newest=True)
        told = [f"worker {pid} has not been heard of since" for pid in unaware(version, snapshots)]
        if leased := leases_on(name, snapshots):
            told.insert(0, f"{leased} request{'s are' if leased > 1 else ' is'} at work on it")
        return " and ".join(told)

    def _know(self, name: str) -> None:
        if name not in self._rotation.names:
            raise NotFound(f"there is no endpoint {name}")

    def _wait(self, request: falcon.Request, *, default: float) -> float:
        """Seconds of ``?wait=30s``."""
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
        if wait > self._longest_wait:
            raise InvalidRequest(f"wait must be at most {self._longest_wait:g}s; ask again to wait longer")
        return wait
