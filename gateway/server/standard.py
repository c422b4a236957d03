"""What gunicorn's own workers, gthread and sync, lack."""

import os
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.util import setup_testing_defaults

from gunicorn.workers.gthread import ThreadWorker

from gateway.events import Observer
from gateway.server.readiness import Question
from gateway.server.tally import Tally

DISCARDED = 65536
"""Bytes of an unread body that gunicorn reads away (``gunicorn.http.parser``)."""

LOOK_EVERY = 0.05
"""Seconds between two questions whether a worker is ready."""

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


class ThreadedWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """What ``worker = "gthread"`` is: told to quit, it ends at once.

    gunicorn's handler shuts the executor down from inside a signal, and waits for ever when the signal came while the
    same thread held the executor's lock.
    """

    def handle_quit(self, _sig: int, _frame: Any) -> None:
        """SIGQUIT, SIGINT: end at once."""
        os._exit(0)


def marking_operators(application: WSGI, admin: Any) -> WSGI:
    """Wrap an application: what came over the listener ``admin`` has ``gateway.admin`` in its environ."""
    name = admin.getsockname()

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["gunicorn.socket"].getsockname() == name:
            environ["gateway.admin"] = True
        return application(environ, start_response)

    return answer


def closing_after_refusals(application: WSGI) -> WSGI:
    """Wrap an application that may answer errors before it has read a long body.

    gunicorn's gthread worker reads 64 KiB of an unread body away and closes the connection if there is more, but its
    answer has announced keep-alive, and a client that believes it loses the next request.
    """

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not _is_long(environ):
            return application(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if int(status[:3]) >= HTTPStatus.BAD_REQUEST:
                start_response.__self__.force_close()  # gunicorn's response; it ignores a Connection header of ours
            return start_response(status, headers, *rest)

        return application(environ, start)

    return answer


def closing_when(is_stopping: Callable[[], bool], application: WSGI) -> WSGI:
    """Wrap an application: while the node is about to stop, every answer is the last one on its connection."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if is_stopping():
            start_response.__self__.force_close()
        return application(environ, start_response)

    return answer


def await_turn(application: WSGI, tally: Tally, worker: int, observe: Observer) -> None:
    """Wait, in a worker that a reload has started, until the application can serve and it is its turn to.

    Until then others serve, which end this process otherwise.
    """
    environ: dict[str, Any] = {"PATH_INFO": "/health/ready", "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    question = Question(application, observe)
    while not question.is_answered(environ):
        time.sleep(LOOK_EVERY)
    tally.note_ready(worker)
    while tally.is_waiting(worker):
        time.sleep(LOOK_EVERY)


def _is_long(environ: dict[str, Any]) -> bool:
    if "HTTP_TRANSFER_ENCODING" in environ:
        return True
    length = environ.get("CONTENT_LENGTH") or "0"
    return not length.isdecimal() or int(length) >= DISCARDED
