"""``POST /admin/explain/{name}``: the plan of a call, in a transaction that is rolled back."""

import falcon
import orjson

from gateway.errors import InvalidRequest
from gateway.pool.lease import ANY
from gateway.pool.pool import Pool
from gateway.postgres.explaining import explain
from gateway.postgres.session import Session
from gateway.web.calls import Calls
from gateway.web.health import respond


class ExplainResource:
    """Explains calls."""

    def __init__(self, *, calls: Calls, pool: Pool[Session]) -> None:
        self._calls = calls
        self._pool = pool

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Answer with the plan of a call with the arguments in the body, which is JSON or a form.

        ``?analyze=true``: run it, too, so that the plan tells rows and times.
        """
        if request.params.keys() - {"analyze"} or request.params.get("analyze", "false") not in ("true", "false"):
            raise InvalidRequest("only analyze=true or analyze=false can be said")
        call = self._calls.to_explain(request, name)
        with self._pool[call.group].lease(call.deadline, ANY, call.client) as lease:
            text = explain(
                lease.connection,
                call.plan,
                call.literals,
                deadline=call.deadline,
                analyze=request.params.get("analyze") == "true",
                settings=call.settings,
            )
            endpoint = lease.endpoint
        respond(response, {"query": call.query.name, "endpoint": endpoint, "plan": orjson.Fragment(text)})
