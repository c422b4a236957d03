"""Falcon's router with a memory, and with the rules for which paths lead anywhere."""

import re
from typing import Any

import falcon
from falcon.routing import CompiledRouter

KEPT = 1024
LONGEST = 128
"""Paths, and characters of one: a client that makes up names of queries cannot fill more."""

QUERY = "/query/{name}"
"""The template of nearly all requests' route."""
ADMIN = "/admin/"
"""What routes begin with that exist on the operators' listener, and elsewhere only where callers are known."""
_OPERATORS = ("/health", "/metrics", "/status", ADMIN)
"""What routes begin with that exist there at all, beside ``/``."""

_DISGUISED = re.compile(r"%(?:2[D-Fd-f]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
"""An encoded slash, or an encoded character that never has to be (RFC 3986 section 2.3, "unreserved")."""


class Routes(CompiledRouter):
    """Remembers which paths lead to which route. All routes are added before the first request.

    SECURITY: a proxy in front that refuses some paths must not be evaded by another way to write them, so a path with
    an empty segment, or with an encoded slash, letter, digit or one of ``-._~``, leads nowhere. ``/admin`` exists
    where the server says that the request came over the operators' listener, and no queries do there; elsewhere it
    exists only with ``knows_callers``, since whoever comes is then asked for the role.

    PERF: a look into a dict costs a fifth of Falcon's own search, which is 2 % of a read.
    """

    def __init__(self, *, knows_callers: bool = False) -> None:
        super().__init__()
        self._knows_callers = knows_callers
        self._found: dict[str, Any] = {}

    def find(self, uri: str, req: falcon.Request | None = None) -> Any:
        """Where a path leads, in Falcon's words; None: nowhere. The same answer is given to many: not to be changed."""
        env: dict[str, Any] = {} if req is None else req.env
        # The path as it was sent; WSGI itself hands on the decoded one.
        sent = env.get("RAW_URI", "")
        if sent == uri and uri in self._found and "gateway.admin" not in env:
            return self._found[uri]
        if "%" in sent and _DISGUISED.search(sent.partition("?")[0]):
            return None
        if "gateway.admin" in env:
            return self._look_up(uri, operators=True)
        route = self._found.get(uri)
        if route is None:
            route = self._look_up(uri, operators=False)
            if route is not None and len(uri) <= LONGEST:
                if len(self._found) >= KEPT:
                    self._found.clear()
                self._found[uri] = route
        return route

    def known_query(self, env: dict[str, Any]) -> Any:
        """Where a path leads that is a query's, is remembered, and was sent as it is remembered; None otherwise."""
        route = self._found.get(env.get("RAW_URI", ""))
        if route is None or route[3] != QUERY or "gateway.admin" in env or env["RAW_URI"] != env["PATH_INFO"]:
            return None
        return route

    def _look_up(self, uri: str, *, operators: bool) -> Any:
        route = None if "//" in uri else super().find(uri)
        if route is None:
            return None
        template = str(route[3])
        if operators:
            return route if template == "/" or template.startswith(_OPERATORS) else None
        return route if self._knows_callers or not template.startswith(ADMIN) else None
