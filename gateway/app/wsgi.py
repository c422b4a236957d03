"""The WSGI application of one worker."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import falcon

from gateway.events import Observer
from gateway.execution.call import JSON
from gateway.web.failures import Failures
from gateway.web.messages import Request, Response
from gateway.web.middleware import RequestIdentity
from gateway.web.routes import Routes

_JSON_LINE = f"Content-Type: {JSON}\r\n"


class GatewayApp(falcon.App[Any, Any]):
    """A Falcon app, with all that it runs beside requests."""

    def __init__(
        self,
        *,
        routes: Routes,
        identity: RequestIdentity,
        failures: Failures,
        others: Sequence[Any] = (),
        close: Callable[[], None],
        observe: Observer,
    ) -> None:
        """``others`` are further middleware: with any, each request goes Falcon's own way."""
        super().__init__(middleware=[identity, *others], router=routes, request_type=Request, response_type=Response)
        self.req_options.strip_url_path_trailing_slash = False
        failures.register(self)
        self._routes = routes
        self._is_alone = not others
        self._identity = identity
        self._failures = failures
        self._close = close
        self.observe = observe
        """Takes the events of the server that it runs under."""

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request (PEP 3333).

        PERF: POST to a query that was called before takes the same steps as every request (identity, responder,
        failures), without what Falcon looks for between them: other middleware, bodies of other kinds, bodiless
        answers. That is 6 % of the instructions that the interpreter runs for a read.
        """
        route = self._routes.known_query(env) if self._is_alone and env["REQUEST_METHOD"] == "POST" else None
        if route is None:
            return super().__call__(env, start_response)
        request, response = Request(env, self.req_options), Response(self.resp_options)
        _, responders, parts, request.uri_template = route
        try:
            self._identity.process_request(request, response)
            responders["POST"](request, response, **parts)
        except Exception as error:  # noqa: BLE001 - whatever it is becomes a problem
            self._failures.answer(request, response, error)
        self._identity.process_response(request, response, None, True)
        data = response.alone
        if data is not None and "gateway.head" in env:
            env["gateway.head"] += _JSON_LINE
            start_response(response.status, [])
            return [data]
        headers, data = response.headers, response.data
        if "content-type" not in headers:
            headers["content-type"] = JSON
        if data is None:
            start_response(response.status, [*headers.items()])
            return cast("Iterable[bytes]", response.stream)
        headers["content-length"] = str(len(data))
        start_response(response.status, [*headers.items()])
        return [data]

    def close(self) -> None:
        """End what runs beside requests, and refuse what still waits for a connection (``draining``).

        Idle connections are closed; one that a request has is closed when the request returns it.
        """
        self._close()
