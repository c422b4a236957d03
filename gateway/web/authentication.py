"""Who makes a request, and which routes are for whom: asked once, before a request is routed."""

from collections.abc import Mapping
from typing import Any, Final

import falcon

from gateway.auth.certificates import forwarded_names, names_in
from gateway.auth.identities import Identities
from gateway.auth.limits import Limits
from gateway.auth.proxies import Proxies
from gateway.errors import Forbidden, Unauthenticated
from gateway.execution.call import ANONYMOUS, Caller
from gateway.metrics import AUTHENTICATIONS, Metrics

ADMIN: Final = "admin"
MONITOR: Final = "monitor"
"""Roles of people and programs that look after the gateway, and not after its data."""
OPERATORS: Final = frozenset({ADMIN, MONITOR})

_ALIVE = "/health/live"
_OPEN = frozenset({"/health", "/health/ready", "/", "/status.json", "/docs"})
_PAGES = ("/docs/", "/status/", "/.well-known/")
"""Routes that answer strangers too, with less, or with nothing that is anybody's."""
_RESTRICTED = ("/admin/", "/metrics")
_ROLES = {"/admin/": frozenset({ADMIN}), "/metrics": OPERATORS}
"""What paths begin with that are for some roles only. SECURITY: a path that is written in another way leads nowhere
(``routes``), so that this look at its beginning sees all that lead there."""


class Authentication:
    """Finds out who makes a request, where anybody is asked."""

    def __init__(
        self,
        identities: Identities,
        *,
        operator: Caller | None,
        identity_header: str = "",
        proxies: Proxies,
        limits: Limits | None = None,
        metrics: Metrics,
    ) -> None:
        """``operator``: who comes over the operators' listener; None: it is asked who comes, as anywhere else.

        ``identity_header``: in which ``proxies`` name the certificates that they have seen; empty: there is none.
        ``limits`` count credentials that are no good.
        """
        self._identities = identities
        self._of_bearer = identities.of_bearer()
        self._limits = limits
        self._known = metrics.counter(AUTHENTICATIONS, "ok")
        self._refused = metrics.counter(AUTHENTICATIONS, "refused")
        identities.add_metrics(metrics)
        self._operator = operator
        self._identity_header = f"HTTP_{identity_header.upper().replace('-', '_')}" if identity_header else None
        self._proxies = proxies

    def caller_of(self, request: falcon.Request) -> Caller:
        """Return who makes the request.

        Raises Unauthenticated, or RateLimited where that happens too often, and Forbidden where the route is for roles
        that this caller does not have.
        """
        env = request.env
        if "gateway.admin" in env and self._operator is not None:
            return self._operator
        path = env["PATH_INFO"]
        if path == _ALIVE:
            return ANONYMOUS
        authorization = env.get("HTTP_AUTHORIZATION")
        try:
            # PERF: nearly all requests show a key or a token in this form, and nothing else.
            if authorization is not None and self._identity_header is None and authorization[:7] == "Bearer ":
                caller = self._of_bearer(authorization[7:].strip(" "))
            else:
                caller = self._identify(env)
        except Unauthenticated:
            shown = authorization is not None
            if not shown and (path in _OPEN or path.startswith(_PAGES)):
                return ANONYMOUS
            self._refused.value += 1
            if shown and self._limits is not None:
                # After the look at them: good credentials pass however many bad ones came from the same address.
                self._limits.charge_failure(env.get("REMOTE_ADDR", ""))
            raise
        self._known.value += 1
        if path.startswith(_RESTRICTED):
            _require(caller, path)
        return caller

    def _identify(self, env: dict[str, Any]) -> Caller:
        forwarded: str | None = None if self._identity_header is None else env.get(self._identity_header)
        # SECURITY: refused from anybody else, credentials or not: somebody wants to be taken for somebody.
        if forwarded is not None and not self._proxies.trusts(env.get("gateway.peer") or env.get("REMOTE_ADDR", "")):
            raise Unauthenticated
        authorization: str | None = env.get("HTTP_AUTHORIZATION")
        if authorization is None:
            if forwarded is not None:
                return self._identities.of_names(forwarded_names(forwarded))
            certificate = _certificate_of(env)
            return self._identities.of_names(names_in(certificate)) if certificate else self._identities.of_strangers
        if authorization[:7].lower() != "bearer ":
            raise Unauthenticated
        return self._of_bearer(authorization[7:].strip(" "))


def _certificate_of(env: dict[str, Any]) -> Mapping[str, Any] | None:
    """The certificate that the client's connection was made with, verified, where the server we run under has it."""
    certificate: Mapping[str, Any] | None = env.get("gateway.certificate")
    if certificate is None and (sock := env.get("gunicorn.socket")) is not None and hasattr(sock, "getpeercert"):
        certificate = sock.getpeercert()
    return certificate


def _require(caller: Caller, path: str) -> None:
    for beginning, roles in _ROLES.items():
        if path.startswith(beginning) and not caller.has_any(roles):
            raise Forbidden(f"this is for callers with the role {' or '.join(sorted(roles))}")
