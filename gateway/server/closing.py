"""Says ``Connection: close`` where gunicorn closes the connection anyway, without a word.

Of a body that an application leaves unread, gunicorn's gthread worker reads 64 KiB away and closes if there is more;
but its answer has announced keep-alive, and a client that believes it loses the next request.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

DISCARDED = 65536
"""Bytes of an unread body that gunicorn reads away (``gunicorn.http.parser``)."""

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


def closing_after_refusals(application: WSGI) -> WSGI:
    """Wrap an application that may answer errors before it has read a long body."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not _is_long(environ):
            return application(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if int(status[:3]) >= HTTPStatus.BAD_REQUEST:
                start_response.__self__.force_close()  # gunicorn's response; it ignores a Connection header of ours
            return start_response(status, headers, *rest)

        return application(environ, start)

    return answer


def _is_long(environ: dict[str, Any]) -> bool:
    if "HTTP_TRANSFER_ENCODING" in environ:
        return True
    length = environ.get("CONTENT_LENGTH") or "0"
    return not length.isdecimal() or int(length) >= DISCARDED
