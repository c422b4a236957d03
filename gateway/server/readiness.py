"""Asks an application whether it can serve, as a load balancer does."""

import time
from collections.abc import Callable
from typing import Any

import orjson

from gateway.events import NotReady, Observer
from gateway.server.response import Answer, close

TOLD_AFTER = 3.0
"""Seconds without being ready after which the reasons are reported."""


class Question:
    """One process's question, to be asked until it is answered with yes."""

    def __init__(
        self, application: Callable[..., Any], observe: Observer, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._application = application
        self._observe = observe
        self._clock = clock
        self._tell_at: float | None = clock() + TOLD_AFTER

    def is_answered(self, environ: dict[str, Any]) -> bool:
        """Ask; whether the application can serve. If that takes long, its reasons are reported once."""
        answer = Answer()
        body = self._application(dict(environ), answer.start)
        try:
            if answer.status.startswith("200"):
                return True
            if self._tell_at is not None and self._clock() >= self._tell_at:
                self._tell_at = None
                self._observe(NotReady(reasons=tuple(orjson.loads(b"".join(body)).get("reasons", ()))))
        finally:
            close(body)
        return False
