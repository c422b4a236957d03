"""Who makes a request, and which routes are for whom: asked once, before a request is routed."""

from typing import Any, Final

import falcon

from gateway.auth.identities import Identities
from gateway.errors import Forbidden, Unauthenticated
from gateway.execution.call import ANONYMOUS, Caller

ADMIN: Final = "admin"
MONITOR: Final = "monitor"
"""Roles of people and programs that look after the gateway, and not after its data."""
OPERATORS: Final = frozenset({ADMIN, MONITOR})

_ALIVE = "/health/live"
_OPEN = frozenset({"/health", "/health/ready", "/", "/docs"})
"""Routes that answer strangers too, with less, or with nothing that is anybody's."""
_RESTRICTED = ("/admin/", "/metrics")
_ROLES = {"/admin/": frozenset({ADMIN}), "/metrics": OPERATORS}
"""What paths begin with that are for some roles only. SECURITY: a path that is written in another way leads nowhere
(``routes``), so that this look at its beginning sees all that lead there."""


class Authentication:
    """Finds out who makes a request, where anybody is asked."""

    def __init__(self, identities: Identities, *, operator: Caller | None) -> None:
        """``operator``: who comes over the operators' listener; None: it is asked who comes, as anywhere else."""
        self._identities = identities
        self._operator = operator

    def caller_of(self, request: falcon.Request) -> Caller:
        """Return who makes the request.

        Raises Unauthenticated, and Forbidden where the route is for roles that this caller does not have.
        """
        env = request.env
        if "gateway.admin" in env and self._operator is not None:
            return self._operator
        path = env["PATH_INFO"]
        if path == _ALIVE:
            return ANONYMOUS
        try:
            caller = self._identify(env)
        except Unauthenticated:
            if path in _OPEN and "HTTP_AUTHORIZATION" not in env:
                return ANONYMOUS
            raise
        if path.startswith(_RESTRICTED):
            _require(caller, path)
        return caller

    def _identify(self, env: dict[str, Any]) -> Caller:
        authorization: str | None = env.get("HTTP_AUTHORIZATION")
        if authorization is None:
            return self._identities.of_strangers
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated
        return self._identities.of_bearer(credentials.strip(" "))


def _require(caller: Caller, path: str) -> None:
    for beginning, roles in _ROLES.items():
        if path.startswith(beginning) and not caller.has_any(roles):
            raise Forbidden(f"this is for callers with the role {' or '.join(sorted(roles))}")
