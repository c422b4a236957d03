"""``/query/{name}``: runs a named query."""

import falcon

from gateway.execution.execution import Execution
from gateway.web import answers
from gateway.web.calls import Calls


class QueryResource:
    """Runs named queries."""

    def __init__(self, *, calls: Calls, execution: Execution) -> None:
        self._calls = calls
        self._execution = execution

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a query with the arguments in the body, or once for each object of the list in it."""
        call = self._calls.of_body(request, name)
        answers.write(response, call, self._execution.run(call))

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a read with the arguments in the query string."""
        response.set_header("Cache-Control", "no-store")
        call = self._calls.of_query_string(request, name)
        answers.write(response, call, self._execution.run(call))

    on_head = on_get
