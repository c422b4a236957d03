"""``/openapi.json``: the typed description of the queries that a caller may run."""

import hashlib
from collections.abc import Callable

import falcon

from gateway.catalogue.query import Catalogue, Query
from gateway.execution.plans import Plans
from gateway.schemas.document import document
from gateway.web.accepting import has_already

KEPT = 8
"""Documents kept, one for each set of queries that callers may run."""


class DocumentResource:
    """Writes the OpenAPI document of the catalogue, anew whenever something else has been learnt of a query."""

    def __init__(
        self, *, catalogue: Catalogue, plans: Plans, big_as_text: bool, knows_callers: bool, turns: Callable[[], None]
    ) -> None:
        """``turns`` is called between parts of long work; see ``schemas.document`` for the others."""
        self._catalogue = catalogue
        self._plans = plans
        self._big_as_text = big_as_text
        self._knows_callers = knows_callers
        self._turns = turns
        self._ordered = [query for _, query in sorted(catalogue.queries.items())]
        self._written: dict[tuple[str, ...], tuple[int, bytes, str]] = {}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Describe the queries that the caller may run, and whose types are known."""
        may_run = request.context.caller.has_any
        body, tag = self._document([query for query in self._ordered if may_run(query.roles)])
        response.set_header("Cache-Control", "private, no-cache")
        response.set_header("Vary", "Authorization")
        if not has_already(request, response, tag):
            response.content_type = falcon.MEDIA_JSON
            response.data = body

    on_head = on_get

    def _document(self, queries: list[Query]) -> tuple[bytes, str]:
        names, revision = tuple(query.name for query in queries), self._plans.revision
        found = self._written.get(names)
        if found is not None and found[0] == revision:
            return found[1:]
        known = [(query, self._plans.known(query.name).signature) for query in queries]
        body = document(
            [(query, signature) for query, signature in known if signature is not None],
            version=self._catalogue.hash[:12],
            big_as_text=self._big_as_text,
            knows_callers=self._knows_callers,
            turns=self._turns,
        )
        tag = falcon.ETag(hashlib.sha256(body).hexdigest()[:32])
        if len(self._written) >= KEPT:
            self._written.clear()
        self._written[names] = (revision, body, tag)
        return body, tag
