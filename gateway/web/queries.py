"""``/query/{name}`` and ``/transaction``: a request becomes a call, the call is run, its answer is written."""

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


class TransactionResource:
    """Runs several queries in one transaction."""

    def __init__(self, *, calls: Calls, execution: Execution) -> None:
        self._calls = calls
        self._execution = execution

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Run the steps in the body."""
        call = self._calls.of_transaction(request)
        answers.write(response, call, self._execution.run(call))
