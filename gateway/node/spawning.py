"""How ``node`` runs things beside requests: in daemon threads, which are green where a loop made them so."""

import threading
from collections.abc import Callable

Spawn = Callable[[Callable[[], None]], object]
"""Runs a function beside the caller."""


def spawn_thread(run: Callable[[], None]) -> None:
    """Run it in a daemon thread."""
    threading.Thread(target=run, daemon=True, name="gateway-node").start()
