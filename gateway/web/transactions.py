"""``/transaction``: several queries of one endpoint, all or nothing."""

import falcon

from gateway.execution.execution import Execution
from gateway.web import answers
from gateway.web.calls import Calls


class TransactionResource:
    """Runs several queries in one transaction."""

    def __init__(self, *, calls: Calls, execution: Execution) -> None:
        self._calls = calls
        self._execution = execution

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Run the steps in the body."""
        call = self._calls.of_transaction(request)
        answers.write(response, call, self._execution.run(call))
