"""The requests that a worker has not answered yet: what they are, and how an operator ends one."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import falcon

from gateway.errors import Cancelled, ClientGone, GatewayError
from gateway.execution.joining import Everybody
from gateway.pool.pool import Pool
from gateway.postgres.session import Session
from gateway.web.reporting import Reporting, call_of, writes

Cancel = Callable[[str, Session], None]
"""Has the server at an endpoint cancel what runs in a session; raises a GatewayError."""


class InFlight:
    """Requests in flight of one worker."""

    def __init__(
        self,
        *,
        requests: Callable[[], Iterable[falcon.Request]],
        pool: Pool[Session],
        reporting: Reporting,
        worker: int,
        cancel: Cancel,
    ) -> None:
        """``requests``: those that have come and not been answered; ``worker``: the number of this one."""
        self._requests = requests
        self._pool = pool
        self._name_of = reporting.name_of
        self._worker = worker
        self._cancel = cancel

    def describe(self, _details: str = "") -> list[dict[str, Any]]:
        """Return what is known of each call."""
        running = self._running()
        now = monotonic()
        return [self._describe(request, name, running, now) for request, name in self._calls()]

    def end(self, request_id: str) -> str | None:
        """End the calls with this id; what went wrong, empty if nothing, None if there is no such call.

        A read is given up at once, and so is whatever waits. A write that runs is cancelled on its server: its answer
        says what became of it.
        """
        said: str | None = None
        running = self._running()
        for request, _ in self._calls():
            call = call_of(request)
            if request.context.request_id != request_id or call is None or call.client is None:
                continue
            said = said or ""
            request.context.is_ended = True
            call.client.end()  # as if it had hung up, which is seen wherever its call waits
            endpoint, session = running.get(id(call.client), ("", None))
            if session is not None and writes(call):
                session.run.ended = call.client  # seen before its next message, if none is under way now
                try:
                    self._cancel(endpoint, session)
                except GatewayError as error:
                    said = error.detail
        return said

    def _calls(self) -> list[tuple[falcon.Request, str]]:
        named = [(request, self._name_of(request)) for request in tuple(self._requests())]
        return [(request, name) for request, name in named if name is not None]

    def _running(self) -> dict[int, tuple[str, Session]]:
        """Return by whose answer is waited for what runs where."""
        found: dict[int, tuple[str, Session]] = {}
        for group in self._pool.groups.values():
            for endpoint, session in group.exchange.leased():
                asker = session.run.asker
                for client in asker.clients if isinstance(asker, Everybody) else (asker,):
                    if client is not None:
                        found[id(client)] = endpoint, session
        return found

    def _describe(
        self, request: falcon.Request, name: str, running: dict[int, tuple[str, Session]], now: float
    ) -> dict[str, Any]:
        call = call_of(request)
        endpoint = None
        state = "reading"
        if call is not None:
            endpoint, _ = running.get(id(call.client), (None, None))
            state = "waiting" if endpoint is None else "running"
        return {
            "id": request.context.request_id,
            "query": name,
            "caller": request.context.caller.name,
            "worker": self._worker,
            "age_ms": max(0, round((now - request.context.arrived) * 1000)),
            "state": state,
            "endpoint": endpoint,
        }


def ended(request: falcon.Request, error: GatewayError) -> GatewayError:
    """Return what a request that failed is answered, where an operator has ended it."""
    if isinstance(error, ClientGone) and getattr(request.context, "is_ended", False):
        return Cancelled("an operator ended the request", outcome=error.outcome).but(served=error.served)
    return error
