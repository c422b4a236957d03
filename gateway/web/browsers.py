"""Which requests that a web page may have caused are served: the check in front of every route.

A page of any site can make a browser send requests to a gateway on its machine: ``fetch`` with a body without a type,
``sendBeacon``, forms, images. The browser names the page in ``Origin`` or ``Sec-Fetch-Site``, which no script can set
or leave out, so a request that names another site is refused before anything runs. By DNS rebinding a page makes the
gateway's address its own host; its requests then carry that host's name in ``Host``.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import falcon

from gateway.errors import Forbidden

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:@/,\[\]]+))(?::[0-9]*)?")
_KEPT = 256
"""Host headers that are remembered as admitted; more are possible only with many ports."""

_METHODS = "GET, HEAD, POST, DELETE, QUERY"
_REQUEST_HEADERS = (
    "Authorization, Content-Type, Gateway-Consistency-Token, Idempotency-Key, MCP-Protocol-Version, Mcp-Method, "
    "Mcp-Name, Prefer, traceparent, X-Request-Id"
)
_RESPONSE_HEADERS = (
    "Gateway-Attempts, Gateway-Consistency-Token, Gateway-Endpoint, Gateway-Lag-Ms, Idempotency-Replayed, "
    "Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, WWW-Authenticate, X-Request-Id"
)
_MAX_AGE = "600"
"""Seconds for which a browser may remember the answer to a preflight request."""


class Browsers:
    """Refuses requests caused by pages of foreign origins, and requests for another host's name."""

    def __init__(
        self,
        *,
        cors_origins: Iterable[str] = (),
        allowed_hosts: Iterable[str] = (),
        bind: Iterable[str] = (),
        any_host: bool = False,
    ) -> None:
        """All as in ``[server]``: exact origins, names of hosts, and addresses, whose host names are allowed too.

        ``any_host``: the name of the host is not looked at, as a page that comes by a name of its own has no
        credentials for it.
        """
        self._any_host = any_host
        self._origins = frozenset(cors_origins)
        names = [*allowed_hosts, *(address.rpartition(":")[0] for address in bind if not address.startswith("unix:"))]
        self._names = {"localhost", *(name.lower() for name in names)}
        self.admitted: set[str | None] = {None}
        """Host headers that were found good over TCP; None is a request without one.

        PERF: a request whose Host is in here and that carries neither Origin nor Sec-Fetch-Site needs no ``judge``.
        """

    def judge(self, request: falcon.Request, response: falcon.Response) -> None:
        """Raise Forbidden for what is refused; answer a preflight request (``response.complete``) of a listed origin.

        A page of a listed origin gets the CORS headers with every answer, but never from the operators' listener.
        """
        env = request.env
        # SECURITY: DNS does not lead to a unix socket, whose peer has no address.
        if env.get("REMOTE_ADDR"):
            self._judge_host(env.get("HTTP_HOST"))
        origin = env.get("HTTP_ORIGIN")
        if origin in self._origins and "gateway.admin" not in env:
            _permit(request, response, origin)
        elif not (_is_own(origin, env) and env.get("HTTP_SEC_FETCH_SITE", "none") in ("same-origin", "none")):
            raise Forbidden("not from a page of another origin; see [server] cors_origins")

    def _judge_host(self, host: str | None) -> None:
        if host in self.admitted or host is None:
            return
        if self._any_host:
            self._admit(host)
            return
        found = _HOST.fullmatch(host.lower())
        if found is None or not (found[2] in self._names or _is_address(found[1] or found[2])):
            raise Forbidden("the Host header names a host that is not served; see [server] allowed_hosts")
        self._admit(host)

    def _admit(self, host: str) -> None:
        if len(self.admitted) >= _KEPT:
            self.admitted.intersection_update({None})
        self.admitted.add(host)


def _is_own(origin: str | None, env: dict[str, Any]) -> bool:
    """Whether the origin is the gateway's own, or there is none.

    A request that came in the clear may have come through TLS to a proxy; one that came through TLS did not come from
    a page in the clear.
    """
    host = env.get("HTTP_HOST", "").lower()
    return origin in (None, f"https://{host}") or (origin == f"http://{host}" and env["wsgi.url_scheme"] == "http")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _permit(request: falcon.Request, response: falcon.Response, origin: str) -> None:
    """Let a page of this origin read the answer, and answer its preflight request (Fetch standard, CORS protocol)."""
    response.set_header("Access-Control-Allow-Origin", origin)
    response.append_header("Vary", "Origin")
    if request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.env:
        response.set_header("Access-Control-Allow-Methods", _METHODS)
        response.set_header("Access-Control-Allow-Headers", _REQUEST_HEADERS)
        response.set_header("Access-Control-Max-Age", _MAX_AGE)
        response.status = falcon.HTTP_204
        response.complete = True
    else:
        response.set_header("Access-Control-Expose-Headers", _RESPONSE_HEADERS)
