"""``/query/{name}``: find, bind, check out, execute, encode."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import parse_qs

import falcon

from gateway.catalogue.arguments import Binder
from gateway.catalogue.json_text import begins_list, split_object
from gateway.catalogue.query import Access, Catalogue, Query
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    NotAcceptable,
    Outcome,
    QueryBroken,
    UnknownQuery,
)
from gateway.execution.plans import Plans
from gateway.postgres.connection import Connection, Result
from gateway.web import bodies, freshness, preferences
from gateway.web.callers import client_of, deadline_of
from gateway.web.preferences import NONE
from gateway.web.results import encode
from gateway.web.running import Runner
from gateway.web.works import Works


class Bind(Protocol):
    """Turns what a request sent into literals."""

    def __call__(self, binder: Binder) -> list[str]:
        """Literals in the order of ``$1`` …; raises InvalidArguments."""


class QueryResource:
    """Runs named queries."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        plans: Plans,
        runner: Runner,
        max_body: int,
        max_result_bytes: int,
        works: Works,
    ) -> None:
        """Sizes in bytes."""
        self._queries = catalogue.queries
        self._plans = plans
        self._runner = runner
        self._max_body = max_body
        self._max_result_bytes = max_result_bytes
        self._works = works

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a query with the arguments in the body, or once for each object of the list in it."""
        query = self._find(name)
        body = bodies.read_json(request, self._max_body)
        if begins_list(body) or self._works.wants(request, query):
            require_json(request)
            response.data = self._works.answer(request, response, query, body, client_of(request))
            response.content_type = falcon.MEDIA_JSON
        else:
            self._answer(request, response, query, lambda binder: binder.bind_json(split_object(body)))

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a read query with the arguments in the query string."""
        query = self._find(name)
        if query.access is Access.WRITE:
            raise falcon.HTTPMethodNotAllowed(["POST"], description=f"{name} writes: use POST")
        arguments = query_string(request.query_string)
        response.set_header("Cache-Control", "no-store")
        self._answer(request, response, query, lambda binder: binder.bind_text(arguments))

    on_head = on_get

    def _find(self, name: str) -> Query:
        query = self._queries.get(name)
        if query is None:
            raise UnknownQuery(f"the catalogue has no query of this name; GET /queries lists its {len(self._queries)}")
        return query

    def _answer(self, request: falcon.Request, response: falcon.Response, query: Query, bind: Bind) -> None:
        env = request.env
        require_json(request)
        wishes = preferences.parse(env.get("HTTP_PREFER"))
        token = env.get("HTTP_GATEWAY_CONSISTENCY_TOKEN")
        asked = None if token is None and wishes is NONE else freshness.asked_for(wishes, token)
        plan, binder, _ = self._plans.get(query, bigint_as_string=wishes.bigint_as_string)
        literals = bind(binder)
        deadline = deadline_of(request, query.timeout, wishes)
        client = client_of(request)

        def run(connection: Connection, guard: str = "") -> Result:
            limit = self._max_result_bytes
            return connection.run(plan, literals, deadline=deadline, client=client, max_bytes=limit, guard=guard)

        try:
            if plan.write:
                result = self._runner.write(response, query.group, run, deadline, client)
            else:
                result = self._runner.read(response, query.group, run, deadline, client, asked)
        except GatewayError as error:
            if isinstance(error, QueryBroken):
                self._plans.doubt(query)
            if plan.write and error.outcome is None:
                raise error.but(outcome=Outcome.NOT_EXECUTED) from error  # the pool's errors know nothing of writes
            raise
        response.data = encode(query, result, committed=plan.write)
        response.content_type = falcon.MEDIA_JSON
        if wishes is not NONE and wishes.applied:
            response.set_header("Preference-Applied", wishes.applied)


def query_string(text: str) -> Mapping[str, Sequence[str]]:
    """The arguments of a GET, strictly UTF-8, in their order; raises InvalidRequest.

    ``text`` is as WSGI hands it on: bytes that a client did not percent-encode are Latin-1 characters in it.
    """
    try:
        text = text.encode("latin-1").decode()
        return parse_qs(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise InvalidRequest("the query string cannot be read: name=value pairs, percent-encoded UTF-8") from error


def require_json(request: falcon.Request) -> None:
    """Raise NotAcceptable unless the caller takes ``application/json``."""
    accept = request.env.get("HTTP_ACCEPT")
    if accept and accept not in ("*/*", "application/json") and not request.client_accepts_json:
        raise NotAcceptable("this version answers application/json")
