"""What every request gets: a time of arrival, a name, and the check for web pages; the answer carries the name."""

import itertools
import os
import re
from functools import partial
from time import monotonic
from typing import Any

import falcon

from gateway.execution.call import ANONYMOUS, Caller
from gateway.web.authentication import Authentication
from gateway.web.browsers import Browsers
from gateway.web.messages import Response
from gateway.web.streams import Followed

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIdentity:
    """Fixes when a request arrived (its deadline counts from here) and what it is called; counts those in flight."""

    def __init__(
        self, browsers: Browsers, *, everybody: Caller = ANONYMOUS, authentication: Authentication | None = None
    ) -> None:
        """``browsers`` refuses requests before they reach a route, and so does ``authentication``.

        Requests of nobody whom that one knows are ``everybody``'s.
        """
        self._everybody = everybody
        self._authentication = authentication
        self._browsers = browsers
        self._admitted_hosts = browsers.admitted
        self._in_flight: set[falcon.Request] = set()
        # PERF: a random name for the process and a count cost a tenth of a random name for each request.
        self._name = os.urandom(8).hex()
        self._count = itertools.count(1)

    def in_flight(self) -> int:
        """How many requests have come and not been answered."""
        return len(self._in_flight)

    def requests(self) -> tuple[falcon.Request, ...]:
        """Return those that have come and not been answered."""
        return tuple(self._in_flight)

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Set ``context.arrived`` (``time.monotonic``), ``request_id`` (the caller's, if sane) and ``caller``.

        Raises Forbidden and Unauthenticated.
        """
        context, env = request.context, request.env
        self._in_flight.add(request)
        context.arrived = monotonic()
        context.caller = self._everybody
        given = env.get("HTTP_X_REQUEST_ID")
        if given is not None and _SANE_ID.fullmatch(given):
            context.request_id = given
        else:
            context.request_id = f"{self._name}-{next(self._count):x}"
        if "HTTP_ORIGIN" in env or "HTTP_SEC_FETCH_SITE" in env or env.get("HTTP_HOST") not in self._admitted_hosts:
            self._browsers.judge(request, response)
        if self._authentication is not None and not response.complete:
            context.caller = self._authentication.caller_of(request)

    def process_response(self, request: falcon.Request, response: Response, _resource: Any, _succeeded: bool) -> None:
        """Name the answer. What is streamed is in flight until it has been sent."""
        if response.stream is None:
            self._in_flight.discard(request)
        else:
            response.stream = Followed(response.stream, partial(self._in_flight.discard, request))
        response.lines += f"X-Request-Id: {request.context.request_id}\r\n"
        response.hand_over_lines(request.env)
