"""``/query/{name}`` and ``/transaction``: a request becomes a call, the call is run, its answer is written."""

import falcon

from gateway.execution.execution import Execution
from gateway.web import answers
from gateway.web.calls import Calls
from gateway.web.reporting import TRANSACTION, Answered


class QueryResource:
    """Runs named queries."""

    def __init__(self, *, calls: Calls, execution: Execution, answered: Answered) -> None:
        self._calls = calls
        self._execution = execution
        self._answered = answered

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a query with the arguments in the body, or once for each object of the list in it."""
        call = self._calls.of_body(request, name)
        answer = self._execution.run(call)
        answers.write(response, call, answer)
        self._answered(name, request, call, answer)

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a read with the arguments in the query string."""
        response.set_header("Cache-Control", "no-store")
        call = self._calls.of_query_string(request, name)
        answer = self._execution.run(call)
        answers.write(response, call, answer)
        self._answered(name, request, call, answer)

    on_head = on_get


class TransactionResource:
    """Runs several queries in one transaction."""

    def __init__(self, *, calls: Calls, execution: Execution, answered: Answered) -> None:
        self._calls = calls
        self._execution = execution
        self._answered = answered

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Run the steps in the body."""
        call = self._calls.of_transaction(request)
        answer = self._execution.run(call)
        answers.write(response, call, answer)
        self._answered(TRANSACTION, request, call, answer)
