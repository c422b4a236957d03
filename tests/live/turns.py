"""``python -m tests.live.turns SETTINGS``: the gateway, with a worker that tells how long its loop's turns were.

``GET /longest-turn`` answers the most processor time, in seconds, that the loop has used between two looks at its
sockets since that was asked last. In so much time nobody else was served.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import thread_time
from typing import Any

import gevent

from gateway.catalogue.query import Catalogue
from gateway.events import Observer
from gateway.server.application import serve
from gateway.server.runtime import Runtime
from gateway.settings import Settings
from gateway.waiting import Waits
from tests.bench.bare import become_server

FIRST, LAST = 2, -2
"""Priorities of the loop's watchers: before all others of its phase, and after them."""


class Turns:
    """The application, and in front of it a watch over the loop."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.observe = application.observe
        self._began = thread_time()
        self._longest = 0.0
        loop = gevent.get_hub().loop
        self._watchers = (loop.check(priority=FIRST), loop.prepare(priority=LAST))
        self._watchers[0].start(self._begin)
        self._watchers[1].start(self._end)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer the one question, and pass on all others."""
        if environ["PATH_INFO"] != "/longest-turn":
            answer: Iterable[bytes] = self._application(environ, start_response)
            return answer
        longest, self._longest = self._longest, 0.0
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(longest).encode()]

    def close(self) -> None:
        """Close the application."""
        self._application.close()

    def _begin(self) -> None:
        self._began = thread_time()

    def _end(self) -> None:
        self._longest = max(self._longest, thread_time() - self._began)


def create_app(
    settings: Settings,
    catalogue: Catalogue,
    directory: Path,
    is_draining: Callable[[], bool],
    waits: Waits,
    observe: Observer,
) -> Any:
    """Make the app of one worker."""
    from gateway import app

    return Turns(app.create_app(settings, catalogue, directory, is_draining, waits, observe))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        become_server(Path(sys.argv[1]), "tests.live.turns")
    serve(Runtime(Path(sys.argv[1]), int(sys.argv[2]), is_private=False), create_app)
