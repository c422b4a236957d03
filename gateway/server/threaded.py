"""gunicorn's threaded worker, but for one thing: told to quit, it ends at once.

Its own handler shuts the executor down from inside a signal, and waits for ever when the signal came while the same
thread held the executor's lock.
"""

import os
from typing import Any

from gunicorn.workers.gthread import ThreadWorker


class ThreadedWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """What ``worker = "gthread"`` is."""

    def handle_quit(self, _sig: int, _frame: Any) -> None:
        """SIGQUIT, SIGINT: end at once."""
        os._exit(0)
