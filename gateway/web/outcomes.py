"""``/outcome/{mark}``: what became of a write whose answer was lost."""

import falcon
import orjson

from gateway.errors import InvalidRequest
from gateway.execution.outcomes import MOST_QUESTIONS, Outcomes
from gateway.postgres.marks import Mark, NoMark
from gateway.web import preferences
from gateway.web.asking import deadline_of


class OutcomeResource:
    """Answers what became of a write."""

    def __init__(self, *, outcomes: Outcomes, timeout: float) -> None:
        """``timeout``: seconds, where the caller does not say how long it will wait."""
        self._outcomes = outcomes
        self._timeout = timeout

    def on_get(self, request: falcon.Request, response: falcon.Response, mark: str) -> None:
        """Ask the servers."""
        try:
            known = Mark.read(mark)
        except NoMark:
            raise InvalidRequest("this is no mark of a transaction") from None
        deadline = deadline_of(request, self._timeout, preferences.parse(request.env.get("HTTP_PREFER")))
        outcome = self._outcomes.find(known, self._outcomes.groups, deadline, most=MOST_QUESTIONS)
        response.set_header("Cache-Control", "no-store")
        response.content_type = falcon.MEDIA_JSON
        response.data = orjson.dumps({"transaction": mark, "outcome": outcome})

    on_head = on_get
