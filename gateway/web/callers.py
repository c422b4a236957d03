"""Who waits for the answer to a request, and until when."""

import falcon

from gateway.waiting import Client, ClientSocket
from gateway.web.preferences import Preferences


def client_of(request: falcon.Request) -> Client | None:
    """Whoever waits for the answer, where the server we run under lets us see."""
    client: Client | None = request.env.get("gateway.client")
    if client is None:
        sock = request.env.get("gunicorn.socket")
        client = None if sock is None else ClientSocket(sock)
    return client


def deadline_of(request: falcon.Request, seconds: float, wishes: Preferences) -> float:
    """The point of ``time.monotonic`` by which a request is answered: ``seconds`` after it came, or as it wishes.

    The environ's ``gateway.deadline`` tells the server we run under, which has the answer to send.
    """
    deadline: float = request.context.arrived + (seconds if wishes.wait is None else min(seconds, wishes.wait))
    request.env["gateway.deadline"] = deadline
    return deadline
