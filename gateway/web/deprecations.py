"""Tells callers of deprecated queries that they are, and counts who still calls them."""

from calendar import timegm
from datetime import date
from email.utils import formatdate

import falcon

from gateway.catalogue.query import Catalogue, Deprecation
from gateway.execution.call import Caller
from gateway.metrics import DEPRECATED, Metrics


class Deprecations:
    """The deprecated queries of a catalogue; falsy where there are none."""

    def __init__(self, catalogue: Catalogue, metrics: Metrics) -> None:
        self._metrics = metrics
        self._headers = {
            query.name: _headers(query.deprecated)
            for query in catalogue.queries.values()
            if query.deprecated is not None
        }

    def __bool__(self) -> bool:
        return bool(self._headers)

    def note(self, name: str, request: falcon.Request, response: falcon.Response) -> None:
        """Count a call of a query, and say so in its answer, if it is deprecated."""
        headers = self._headers.get(name)
        if headers is not None:
            response.set_headers(headers)
            self._metrics.counter(DEPRECATED, name, label_of(request.context.caller)).value += 1


def label_of(caller: Caller) -> str:
    """Return the value that stands for a caller in labels: who has a token is one of too many."""
    kind, _, name = caller.name.partition(":")
    if kind in ("key", "cert"):
        return name
    return kind or "anonymous"


def _headers(deprecation: Deprecation) -> dict[str, str]:
    """``Deprecation`` (RFC 9745) is a date, 1970 where none is known; ``Sunset`` (RFC 8594) is an HTTP date."""
    headers = {"Deprecation": f"@{_epoch(deprecation.since) if deprecation.since else 0}"}
    if deprecation.sunset:
        headers["Sunset"] = formatdate(_epoch(deprecation.sunset), usegmt=True)
    return headers


def _epoch(text: str) -> int:
    """Return when a day begins in UTC, in seconds of the Unix epoch."""
    return timegm(date.fromisoformat(text).timetuple())
